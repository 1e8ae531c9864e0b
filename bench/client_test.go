package bench

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	gosse "github.com/tmaxmax/go-sse"

	"github.com/chi-sse/sse/client"
)

// BenchmarkClient reads an endless stream over a loopback connection, from a server
// that writes as fast as it can. An operation is an event; compare within one shape
// and size. "net-http" reads the body and looks for nothing in it: no client can be
// faster.
func BenchmarkClient(b *testing.B) {
	for _, shape := range []struct {
		name string
		full bool
		size int
	}{
		{"data/60B", false, 60},
		{"data/130B", false, 130},
		{"data/1KiB", false, 1 << 10},
		{"full/60B", true, 60},
		{"full/130B", true, 130},
		{"full/1KiB", true, 1 << 10},
	} {
		text, events := stream(shape.full, shape.size)
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for {
				if _, err := io.WriteString(w, text); err != nil {
					return
				}
			}
		}))
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.Start()
		run := func(name string, read func(ctx context.Context, url string, n int)) {
			b.Run(shape.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(text) / events))
				read(b.Context(), srv.URL, b.N)
			})
		}
		run("sse", func(ctx context.Context, url string, n int) {
			c := client.Install(srv.Client(), client.Config{})
			err := c.SSE(ctx, url, func(s *client.Session) error {
				for ev, err := range s.Incoming() {
					if err != nil {
						return err
					}
					if ev.Data == "" {
						b.Fatal("an event without data")
					}
					if n--; n == 0 {
						break
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
		run("go-sse", func(ctx context.Context, url string, n int) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			if err != nil {
				b.Fatal(err)
			}
			conn := (&gosse.Client{HTTPClient: srv.Client()}).NewConnection(req)
			conn.SubscribeToAll(func(ev gosse.Event) {
				if ev.Data == "" {
					b.Fatal("an event without data")
				}
				if n--; n == 0 {
					cancel()
				}
			})
			if err := conn.Connect(); !errors.Is(err, context.Canceled) {
				b.Fatal(err)
			}
		})
		run("net-http", func(ctx context.Context, url string, n int) {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			if err != nil {
				b.Fatal(err)
			}
			resp, err := srv.Client().Do(req)
			if err != nil {
				b.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.CopyN(io.Discard, resp.Body, int64(n)*int64(len(text)/events)); err != nil {
				b.Fatal(err)
			}
		})
		srv.Close()
	}
}
