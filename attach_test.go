package sse_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

// attached is an option for serve: the plugin of r is attached, and the server has the base
// context base.
func attached(base context.Context, r *sse.Router) func(*httptest.Server) {
	return func(srv *httptest.Server) {
		srv.Config.BaseContext = func(net.Listener) context.Context { return base }
		r.Plugin().Attach(srv.Config)
	}
}

var errDeploy = errors.New("a new version is deployed")

// The end of the server's base context is a shutdown, and no client has left. That is so for a
// cancellation with a cause, and for one without, which looks just like a client that leaves.
func TestAttachBaseContextEnds(t *testing.T) {
	t.Parallel()
	ways := map[string]func() (context.Context, func()){
		"canceled": func() (context.Context, func()) { return context.WithCancel(t.Context()) },
		"canceled with a cause": func() (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(t.Context())
			return ctx, func() { cancel(errDeploy) }
		},
		"deadline": func() (context.Context, func()) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			return ctx, func() { t.Cleanup(cancel) }
		},
	}
	for name, way := range ways {
		for _, proto := range protocols {
			for _, detach := range []bool{false, true} {
				if detach && proto.Proto == "HTTP/2.0" {
					continue
				}
				t.Run(name+" over "+proto.Name+map[bool]string{true: ", detached"}[detach], func(t *testing.T) {
					t.Parallel()
					cfg := sse.Config{Retry: time.Second, ShutdownSpread: 1}
					ends := endsOf(&cfg)
					r := newRouter(cfg)
					opened := make(chan *sse.ServerSession, 1)
					r.SSE("/", func(s *sse.ServerSession) error {
						if detach {
							s.Header().Set("Connection", "close") // otherwise the connection would stay with net/http
						}
						if err := s.Open(); err != nil {
							return err
						}
						if detach {
							assert.True(t, engine.Of(s).Detach())
							opened <- s
							return nil
						}
						opened <- s
						return untilDone(s)
					})
					base, end := way()
					srv := serve(t, r, proto.Setup, attached(base, r))
					c := connect(t, srv, "/")
					require.Equal(t, time.Second, c.next().Retry)
					s := testkit.Receive(t, opened)
					end()
					e := testkit.Receive(t, ends)
					require.Equal(t, sse.EndShutdown, e.Reason)
					require.NoError(t, e.Err)
					require.Equal(t, sse.ErrShutdown, context.Cause(s.Context()))
					for {
						if ev := c.next(); ev.Retry != 0 {
							require.InDelta(t, time.Second, ev.Retry, float64(time.Millisecond), "when to come back")
							break
						}
					}
					c.end()
				})
			}
		}
	}
}

// A write that the end of the base context interrupts has not failed because the client left.
func TestAttachBaseContextEndsDuringAWrite(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{WriteTimeout: time.Hour})
	failed := make(chan error, 1)
	r.SSE("/", func(s *sse.ServerSession) error {
		err := s.SendData(strings.Repeat("x", 8<<20))
		failed <- err
		return err
	})
	base, cancel := context.WithCancel(t.Context())
	c := dial(t, serve(t, r, attached(base, r)), "/")
	require.Equal(t, http.StatusOK, c.StatusCode) // the write is under way, and the client does not read
	cancel()
	err := testkit.Receive(t, failed)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NotErrorIs(t, err, sse.ErrClientGone)
}

// After the end of its server's base context, the plugin takes no sessions.
func TestAttachBaseContextHasEnded(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.SSE("/", untilDone)
	base, cancel := context.WithCancel(t.Context())
	srv := serve(t, r, attached(base, r))
	cancel()
	testkit.Eventually(t, func() bool { return get(t, srv, "/").Status == http.StatusServiceUnavailable }, "a refusal")
}

// Somebody outside the plugin who cancels the request with a cause is no client that leaves.
func TestCanceledOutsideWithACause(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			cfg := sse.Config{}
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.SSE("/", untilDone)
			cancels := make(chan context.CancelCauseFunc, 1)
			srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				ctx, cancel := context.WithCancelCause(req.Context())
				cancels <- cancel
				r.ServeHTTP(w, req.WithContext(ctx))
			}), proto.Setup)
			c := connect(t, srv, "/")
			testkit.Receive(t, cancels)(errDeploy)
			e := testkit.Receive(t, ends)
			require.Equal(t, sse.EndCanceled, e.Reason)
			require.ErrorIs(t, e.Err, errDeploy)
			_, err := c.rest()
			require.Error(t, err, "it is a broken end")
		})
	}
}

// Attach keeps what the server's functions have put into the context.
func TestAttachKeepsTheServersFunctions(t *testing.T) {
	t.Parallel()
	type baseKey struct{}
	type connKey struct{}
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error {
		assert.Equal(t, "base", s.Context().Value(baseKey{}))
		assert.Equal(t, "connection", s.Context().Value(connKey{}))
		return s.SendData("x")
	})
	srv := serve(t, r, func(srv *httptest.Server) {
		srv.Config.BaseContext = func(net.Listener) context.Context { return context.WithValue(t.Context(), baseKey{}, "base") }
		srv.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, "connection")
		}
		r.Plugin().Attach(srv.Config)
	})
	connect(t, srv, "/").nextData()
}

// A middleware's read deadline does not end a stream, wherever it is set.
func TestReadDeadlineOfAMiddleware(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		for _, where := range []string{"inside", "outside"} {
			t.Run(where+" over "+proto.Name, func(t *testing.T) {
				t.Parallel()
				deadline := func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
						assert.NoError(t, http.NewResponseController(w).SetReadDeadline(time.Now().Add(100*time.Millisecond)))
						next.ServeHTTP(w, req)
					})
				}
				r := newRouter(sse.Config{})
				var h http.Handler = r
				if where == "inside" {
					r.Use(deadline)
				} else {
					h = deadline(r)
				}
				r.SSE("/", func(s *sse.ServerSession) error {
					if err := s.Open(); err != nil {
						return err
					}
					select {
					case <-s.Done():
						t.Error("the session has ended:", context.Cause(s.Context()))
						return nil
					case <-time.After(300 * time.Millisecond):
						return s.SendData("x")
					}
				})
				c := connect(t, serve(t, h, proto.Setup), "/")
				require.Equal(t, "x", c.nextData())
				c.end()
			})
		}
	}
}

// One warning, at the right time, tells that a server is not attached.
func TestNotAttachedIsLoggedOnce(t *testing.T) {
	t.Parallel()
	open := func(s *sse.ServerSession) error { return s.Open() }
	detach := func(s *sse.ServerSession) error {
		engine.Of(s).WillDetach()
		testkit.NoError(t, s.Open())
		assert.True(t, engine.Of(s).Detach())
		s.Close()
		return nil
	}
	from := func(ip string) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				addr := &net.TCPAddr{IP: net.ParseIP(ip), Port: 80}
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, addr)))
			})
		}
	}
	for name, tt := range map[string]struct {
		handler  sse.Handler
		attached bool
		local    string // the server's address, if it is not the real one
		warnings int
	}{
		"detached":                          {detach, false, "", 1},
		"detached, attached":                {detach, true, "", 0},
		"ordinary":                          {open, false, "", 0},
		"ordinary, from afar":               {open, false, "192.0.2.1", 1},
		"ordinary, from afar over IPv6":     {open, false, "2001:db8::1", 1},
		"ordinary, from this machine":       {open, false, "::1", 0},
		"ordinary, from afar, and attached": {open, true, "192.0.2.1", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logs := testkit.NewLog()
			r := newRouter(sse.Config{Logger: logs.Logger()})
			r.SSE("/", tt.handler)
			var h http.Handler = r
			if tt.local != "" {
				h = from(tt.local)(r)
			}
			srv := serve(t, h, func(srv *httptest.Server) {
				if tt.attached {
					r.Plugin().Attach(srv.Config)
				}
			})
			for range 3 {
				require.NoError(t, get(t, srv, "/").Err)
			}
			warnings := logs.Entries("Plugin.Attach")
			require.Len(t, warnings, tt.warnings)
			for _, w := range warnings {
				require.Equal(t, slog.LevelWarn, w.Level)
			}
		})
	}
	t.Run("without a server", func(t *testing.T) {
		t.Parallel()
		logs := testkit.NewLog()
		r := newRouter(sse.Config{Logger: logs.Logger()})
		r.SSE("/", open)
		record(r, http.MethodGet, "/")
		record(from("192.0.2.1")(r), http.MethodGet, "/")
		require.Empty(t, logs.Entries("Plugin.Attach"))
	})
}

// A second call for the same server has no effect.
func TestAttachTwice(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	var srv http.Server
	r.Plugin().Attach(&srv)
	r.Plugin().Attach(&srv)
	conn, _ := net.Pipe()
	require.Equal(t, 1, strings.Count(fmt.Sprint(srv.ConnContext(t.Context(), conn)), "connectionKey"))
}
