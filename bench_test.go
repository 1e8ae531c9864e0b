package sse_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// BenchmarkSend sends events on one HTTP/1.1 connection whose client reads as fast as it
// can. It compares them with a net/http handler that writes the same bytes and flushes after
// each event.
func BenchmarkSend(b *testing.B) {
	for _, size := range []int{100, 1 << 10} {
		ev := sse.Event{ID: "1000", Name: "price", Data: strings.Repeat("x", size-len("event: price\ndata: \nid: 1000\n\n"))}
		frame, err := ev.MarshalText()
		require.NoError(b, err)

		b.Run(fmt.Sprintf("%dB/sse", size), func(b *testing.B) {
			r := sse.Install(chi.NewRouter(), sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error {
				return measureSends(b, len(frame), func() error { return s.Send(ev) })
			})
			drain(b, r)
		})
		b.Run(fmt.Sprintf("%dB/net-http", size), func(b *testing.B) {
			drain(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				w.WriteHeader(http.StatusOK)
				flusher := w.(http.Flusher)
				_ = measureSends(b, len(frame), func() error {
					_, err := w.Write(frame)
					flusher.Flush()
					return err
				})
			}))
		})
	}
}

// measureSends opens the stream with one call of send, and then times b.N calls of it.
func measureSends(b *testing.B, size int, send func() error) error {
	b.Helper()
	if err := send(); err != nil {
		return err
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	defer b.StopTimer()
	for range b.N {
		if err := send(); err != nil {
			b.Error(err)
			return err
		}
	}
	return nil
}

// drain serves h over a socket, sends a request, and reads the whole response.
func drain(b *testing.B, h http.Handler) {
	b.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(b, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	require.NoError(b, err)
	buf := make([]byte, 64<<10)
	for err == nil {
		_, err = conn.Read(buf)
	}
	require.Equal(b, io.EOF, err)
}

// BenchmarkOrdinaryRequest measures what the plugin adds to a request that is not for a
// stream. It compares a router with the plugin and one without.
func BenchmarkOrdinaryRequest(b *testing.B) {
	run := func(name string, r chi.Router) {
		r.Get("/users/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
		req := httptest.NewRequest(http.MethodGet, "/users/5", http.NoBody)
		req.Header.Set("Accept-Encoding", "gzip")
		w := discard{make(http.Header)}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.ServeHTTP(w, req)
			}
		})
	}
	run("chi", chi.NewRouter())
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/events", func(*sse.ServerSession) error { return nil })
	run("sse", r)
}

// discard is a ResponseWriter that drops the response.
type discard struct{ header http.Header }

func (d discard) Header() http.Header { return d.header }

func (discard) WriteHeader(int) {}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (discard) Flush() {}
