// Refusals whose body does not end: the client tells them when the header is there, with
// what arrives of the body soon.

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// openRefusals lists responses that open no stream and whose body stays open.
var openRefusals = map[string]http.HandlerFunc{
	"404, silent": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "no such feed")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	},
	"404, trickling": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "no such feed")
		for r.Context().Err() == nil {
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
			io.WriteString(w, ".")
		}
	},
	"wrong type": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "no such feed")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	},
	"shorter than its length": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "no such feed")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	},
}

func TestRefusalWhoseBodyStaysOpenIsTold(t *testing.T) {
	t.Parallel()
	for name, answer := range openRefusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			overEach(t, answer, func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				for _, openTimeout := range []time.Duration{0, -1} {
					began := time.Now()
					err := refusal(t, install(srv.Client(), client.Config{OpenTimeout: openTimeout}), srv.URL)
					require.Less(t, time.Since(began), 5*time.Second)
					require.True(t, err.Partial)
					require.True(t, strings.HasPrefix(string(err.Body), "no such feed"), "%s", err.Body)
					require.Contains(t, err.Error(), "expected ")
				}
				resp, err := srv.Client().Get(srv.URL)
				require.NoError(t, err)
				_, err = collect(client.ReadResponse(t.Context(), resp))
				var e *client.Error
				require.ErrorAs(t, err, &e)
				require.True(t, e.Partial)
				require.True(t, strings.HasPrefix(string(e.Body), "no such feed"), "%s", e.Body)
			})
		})
	}
}

// The time for the body is exactly half a second, also on a reconnection.
func TestRefusalWhoseBodyStaysOpenIsToldInTime(t *testing.T) {
	for protocol, protocols := range closeProtocols() {
		for name, answer := range openRefusals {
			t.Run(protocol+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newReconnectLabOf(t, protocols, reconnectSteps{reconnectText("data: a\n\n"), answer})
					events, err := l.run(t.Context(), client.Config{MaxReconnectionAttempts: 1, OpenTimeout: -1})
					require.Equal(t, []string{"a"}, dataOf(events))
					var e *client.Error
					require.ErrorAs(t, err, &e)
					require.True(t, e.Partial)
					require.Equal(t, 3500*time.Millisecond, time.Since(l.start))
				})
			})
		}
	}
}

func TestPartialIsFalseForAWholeBody(t *testing.T) {
	for size, partial := range map[int]bool{0: false, 10: false, 64 << 10: false, 64<<10 + 1: true} {
		overEach(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusGone)
			io.WriteString(w, strings.Repeat("x", size))
		}), func(t *testing.T, srv *httptest.Server) {
			t.Helper()
			err := refusal(t, install(srv.Client(), client.Config{}), srv.URL)
			require.Len(t, err.Body, min(size, 64<<10))
			require.Equal(t, partial, err.Partial, "%d bytes", size)
		})
	}
}

// A Transport's body may not heed the context. It is closed then.
func TestRefusalWhoseBodyDoesNotHeedTheContext(t *testing.T) {
	testkit.NoLeak(t)
	r, w := io.Pipe()
	defer w.Close()
	go func() { _, _ = io.WriteString(w, "wait") }()
	hc := &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: r, Request: req}, nil
	})}
	testkit.Within(t, func() {
		err := refusal(t, install(hc, client.Config{}), "http://refusal.test/")
		require.Equal(t, "wait", string(err.Body))
		require.True(t, err.Partial)
	})
}

// net/http reads the body of a redirect before it follows it. One that stays open must not
// hold up the session.
func TestRedirectWhoseBodyStaysOpenIsFollowed(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			streamOf("data: x\n\n")(w, r)
			return
		}
		w.Header().Set("Location", "/stream")
		w.WriteHeader(http.StatusTemporaryRedirect)
		io.WriteString(w, "moved")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		began := time.Now()
		events, err := collect(session(t, install(srv.Client(), client.Config{OpenTimeout: -1}), srv.URL))
		require.NoError(t, err)
		require.Equal(t, []string{"x"}, dataOf(events))
		require.Less(t, time.Since(began), 5*time.Second)
	})
}

// CheckResponse decides which responses open a stream, of each connection.
func TestCheckResponse(t *testing.T) {
	own := errors.New("not mine")
	anyType := func(resp *http.Response) error {
		err := client.CheckResponse(resp)
		if content, ok := errors.AsType[*client.ContentError](err); ok && content.Header == "Content-Type" {
			return nil
		}
		return err
	}
	for name, tt := range map[string]struct {
		head  string
		check func(*http.Response) error
		err   string
	}{
		"no type, by default":   {"200 OK", nil, "client: expected Content-Type text/event-stream but was missing"},
		"no type":               {"200 OK", anyType, ""},
		"another type":          {"200 OK\r\nContent-Type: application/x-ndjson", anyType, ""},
		"status 201":            {"201 Created", func(*http.Response) error { return nil }, ""},
		"status 201, refused":   {"201 Created", anyType, "client: expected status 200 but was 201"},
		"error of the caller":   {"200 OK", func(*http.Response) error { return own }, "client: not mine"},
		"io.EOF of the caller":  {"200 OK", func(*http.Response) error { return io.EOF }, "client: unexpected EOF"},
		"compression, any type": {"200 OK\r\nContent-Encoding: br", anyType, "client: expected no Content-Encoding but was br"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, again := range []bool{false, true} {
				n := 0
				url := serveRaw(t, func(conn net.Conn, r *http.Request) {
					if n++; again && n == 1 {
						io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: first\n\n")
						return
					}
					fmt.Fprintf(conn, "HTTP/1.1 %s\r\nConnection: close\r\n\r\ndata: %s\n\n", tt.head, r.Method)
				})
				check := tt.check
				if again && check != nil {
					check = func(resp *http.Response) error {
						if n == 1 {
							return nil
						}
						return tt.check(resp)
					}
				}
				c := install(noKeepAlive(t), client.Config{CheckResponse: check, MaxReconnectionAttempts: 1})
				var got []string
				err := c.SSE(t.Context(), url, func(s *client.Session) error {
					for ev, err := range s.Incoming() {
						if err != nil {
							return err
						}
						if got = append(got, ev.Data); ev.Data == "GET" {
							break
						}
					}
					return nil
				})
				if tt.err != "" {
					require.EqualError(t, err, tt.err)
					continue
				}
				require.NoError(t, err)
				require.Equal(t, "GET", got[len(got)-1])
			}
		})
	}
}

// A session of Read reports its end to OnFailure too, with what the stream has brought.
func TestReadAsksOnFailureAtItsEnd(t *testing.T) {
	own := errors.New("no stream")
	var told client.Failure
	fails := client.WithConfig(func(cfg *client.Config) {
		cfg.OnFailure = func(f client.Failure) client.Decision {
			if told = f; f.Events == 0 {
				return client.Stop(own)
			}
			return client.Retry()
		}
	})
	_, err := collect(client.Read(context.Background(), strings.NewReader(quotaError), fails))
	require.ErrorIs(t, err, own)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.JSONEq(t, quotaError, string(e.Body))
	require.Equal(t, io.EOF, told.Err)
	require.True(t, told.Final)
	require.Nil(t, told.Response)

	_, err = collect(client.Read(context.Background(), strings.NewReader("data: a\n\n"), fails))
	require.NoError(t, err)
	require.Equal(t, 1, told.Events)

	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "gone", http.StatusGone) })
	resp, err := srv.Client().Get(srv.URL)
	require.NoError(t, err)
	_, err = collect(client.ReadResponse(context.Background(), resp, fails))
	require.ErrorIs(t, err, own)
	require.Equal(t, http.StatusGone, told.Response.StatusCode)
	require.Equal(t, "gone\n", string(told.Body))
}
