// Do: one request that yields a session or the response as it is.

package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// doResponse calls Do and asserts that it returns a response.
func doResponse(t testing.TB, c *client.Client, url string, options ...client.Option) *http.Response {
	t.Helper()
	s, resp, err := c.Do(t.Context(), url, options...)
	require.NoError(t, err)
	require.Nil(t, s)
	require.NotNil(t, resp)
	return resp
}

func TestDo(t *testing.T) {
	json := func(n int) string { return `"` + strings.Repeat("x", n-2) + `"` }
	for name, tt := range map[string]struct {
		status int
		header http.Header
		body   string
	}{
		"202 without a body": {202, nil, ""},
		"204":                {204, nil, ""},
		"404":                {404, testkit.Header("Content-Type", "text/plain"), "no such thing"},
		"200 of 100 KiB":     {200, testkit.Header("Content-Type", "application/json"), json(100 << 10)},
		"200 of 10 MB":       {200, testkit.Header("Content-Type", "application/json"), json(10_000_000)},
		"201 of a stream":    {201, testkit.Header("Content-Type", "text/event-stream"), "data: a\n\n"},
		"compressed":         {200, testkit.Header("Content-Type", "application/json", "Content-Encoding", "br"), "\x00\x01\x02"},
		"last of attempts":   {503, testkit.Header("Retry-After", "0", "X", "y"), "busy"},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.NoLeak(t)
			var l requestLog
			overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				l.add(r)
				maps.Copy(w.Header(), tt.header)
				if tt.status != 204 {
					w.Header().Set("Content-Length", strconv.Itoa(len(tt.body)))
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			}), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				before := len(l.all())
				c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 2, Resend: client.ResendUntilEvent})
				resp := doResponse(t, c, srv.URL, client.WithBody("application/json", strings.NewReader(`{"q":1}`)))
				require.Equal(t, tt.status, resp.StatusCode)
				if tt.status != 204 {
					require.EqualValues(t, len(tt.body), resp.ContentLength)
					require.Equal(t, strconv.Itoa(len(tt.body)), resp.Header.Get("Content-Length"))
				}
				for key := range tt.header {
					require.Equal(t, tt.header[key], resp.Header[key])
				}
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.True(t, bytes.Equal([]byte(tt.body), body), "got %d bytes", len(body))
				require.NoError(t, resp.Body.Close())
				require.NoError(t, resp.Body.Close())
				want := 1
				if tt.status == 503 {
					want = 3
				}
				require.Len(t, l.all()[before:], want)
				for _, r := range l.all()[before:] {
					require.Equal(t, `{"q":1}`, r.Body)
					require.Equal(t, []string{"application/json, text/event-stream"}, r.Header["Accept"])
				}
			})
		})
	}
}

func TestDoOfAStream(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Last-Event-ID") {
		case "":
			send(w, "id: 1\ndata: a\n\n")
		case "1":
			send(w, "id: 2\ndata: b\n\n")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		s, resp, err := install(srv.Client(), client.Config{MaxReconnectionAttempts: 1}).Do(t.Context(), srv.URL)
		require.NoError(t, err)
		require.Nil(t, resp)
		events, err := collect(s)
		require.NoError(t, err)
		require.Equal(t, []string{"a", "b"}, dataOf(events))
	})
}

// A response that is retried is closed, and the attempt after it may be either.
func TestDoTriesAgain(t *testing.T) {
	for name, stream := range map[string]bool{"then a stream": true, "then JSON": false} {
		t.Run(name, func(t *testing.T) {
			testkit.NoLeak(t)
			var l requestLog
			overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch n := l.add(r); {
				case n%3 != 0:
					w.WriteHeader(http.StatusServiceUnavailable)
					io.WriteString(w, "busy")
				case stream:
					send(w, "data: a\n\n")
				default:
					w.Header().Set("Content-Type", "application/json")
					io.WriteString(w, "{}")
				}
			}), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				var told []string
				c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 2, Terminal: func(client.Event) bool { return true }, OnRetry: func(f client.Failure) {
					body, err := io.ReadAll(f.Response.Body)
					require.NoError(t, err)
					told = append(told, string(body), string(f.Body))
				}})
				s, resp, err := c.Do(t.Context(), srv.URL)
				require.NoError(t, err)
				require.Equal(t, []string{"busy", "busy", "busy", "busy"}, told)
				if stream {
					require.Nil(t, resp)
					events, err := collect(s)
					require.NoError(t, err)
					require.Equal(t, []string{"a"}, dataOf(events))
					return
				}
				require.Nil(t, s)
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, "{}", string(body))
				require.NoError(t, resp.Body.Close())
			})
		})
	}
}

// OnFailure is asked about a response that is not 2xx. Its decision may be an error, an
// end, or the response.
func TestDoAsksOnFailure(t *testing.T) {
	own := errors.New("own")
	for name, tt := range map[string]struct {
		decision client.Decision
		check    func(t *testing.T, s *client.Session, resp *http.Response, err error)
	}{
		"default": {client.Decision{}, func(t *testing.T, _ *client.Session, resp *http.Response, _ error) {
			t.Helper()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, "none\n", string(body))
		}},
		"stop": {client.Stop(nil), func(t *testing.T, _ *client.Session, resp *http.Response, _ error) {
			t.Helper()
			require.Equal(t, 404, resp.StatusCode)
		}},
		"stop with an error": {client.Stop(own), func(t *testing.T, s *client.Session, resp *http.Response, err error) {
			t.Helper()
			require.ErrorIs(t, err, own)
			require.Nil(t, resp)
			require.Nil(t, s)
			var e *client.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, "none\n", string(e.Body))
			require.Equal(t, 404, e.Response.StatusCode)
		}},
		"end": {client.End(), func(t *testing.T, s *client.Session, _ *http.Response, err error) {
			t.Helper()
			require.NoError(t, err)
			events, err := collect(s)
			require.NoError(t, err)
			require.Empty(t, events)
			require.Equal(t, client.ErrClosed, s.Reconnect())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.NoLeak(t)
			overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/ok" {
					w.WriteHeader(http.StatusAccepted)
					return
				}
				http.Error(w, "none", http.StatusNotFound)
			}), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				asked := 0
				c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 2, OnFailure: func(client.Failure) client.Decision {
					asked++
					return tt.decision
				}})
				s, resp, err := c.Do(t.Context(), srv.URL)
				require.Equal(t, 1, asked)
				tt.check(t, s, resp, err)
				if resp != nil {
					resp.Body.Close()
				}
				doResponse(t, c, srv.URL+"/ok").Body.Close()
				require.Equal(t, 1, asked, "it was asked about a 202")
			})
		})
	}
}

// The response goes on arriving after Do has returned, for as long as the caller's context
// allows, and the caller may leave it.
func TestDoOfABodyThatGoesOn(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, resp *http.Response, cancel context.CancelFunc){
		"canceled": func(t *testing.T, resp *http.Response, cancel context.CancelFunc) {
			t.Helper()
			time.AfterFunc(50*time.Millisecond, cancel)
			_, err := io.Copy(io.Discard, resp.Body)
			require.ErrorIs(t, err, context.Canceled)
			resp.Body.Close()
		},
		"closed": func(t *testing.T, resp *http.Response, _ context.CancelFunc) {
			t.Helper()
			_, err := io.ReadFull(resp.Body, make([]byte, 10))
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			_, err = resp.Body.Read(make([]byte, 1))
			require.Error(t, err)
		},
		"closed unread": func(t *testing.T, resp *http.Response, _ context.CancelFunc) {
			t.Helper()
			require.NoError(t, resp.Body.Close())
		},
		"broken off": func(_ *testing.T, _ *http.Response, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			testkit.NoLeak(t)
			overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				for r.Context().Err() == nil {
					_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<10))
					_ = http.NewResponseController(w).Flush()
					time.Sleep(time.Millisecond)
				}
			}), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				hc := srv.Client()
				hc.Timeout = 20 * time.Second
				s, resp, err := install(hc, client.Config{}).Do(ctx, srv.URL)
				require.NoError(t, err)
				require.Nil(t, s)
				leave(t, resp, cancel)
			})
		})
	}
}

// The end of the body releases the session from its context, even if the caller does not
// close the body.
func TestDoLeavesNothingOnItsContext(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") })
	c := install(srv.Client(), client.Config{})
	ctx := &watchedContext{Context: context.Background(), done: make(chan struct{})}
	for range 5 {
		_, resp, err := c.Do(ctx, srv.URL)
		require.NoError(t, err)
		_, err = io.ReadAll(resp.Body)
		require.NoError(t, err)
	}
	require.EqualValues(t, 5, ctx.everHung.Load())
	require.Zero(t, ctx.hanging.Load())
}

func TestDoOfAServerThatCannotBeReached(t *testing.T) {
	s, resp, err := install(noKeepAlive(t), client.Config{}).Do(t.Context(), "http://"+refusing(t))
	require.Nil(t, s)
	require.Nil(t, resp)
	var e *client.Error
	require.ErrorAs(t, err, &e)
	_, _, err = install(noKeepAlive(t), client.Config{}).Do(t.Context(), "ftp://x")
	var configErr *client.ConfigError
	require.ErrorAs(t, err, &configErr)
}
