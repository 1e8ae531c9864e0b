package sse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// brokenEnds are the ways in which an open session can fail. The client must not mistake such
// a stream for a complete one.
var brokenEnds = map[string]struct {
	end    func(s *sse.ServerSession) error
	reason sse.EndReason
}{
	"error":          {func(*sse.ServerSession) error { return errOwn }, sse.EndHandlerError},
	"late status":    {func(*sse.ServerSession) error { return sse.Error(403, errOwn) }, sse.EndHandlerError},
	"panic":          {func(*sse.ServerSession) error { panic(errOwn) }, sse.EndPanic},
	"abort":          {func(*sse.ServerSession) error { panic(http.ErrAbortHandler) }, sse.EndPanic},
	"Goexit":         {func(*sse.ServerSession) error { runtime.Goexit(); return nil }, sse.EndPanic},
	"error at Close": {func(s *sse.ServerSession) error { return errors.Join(s.Close(), errOwn) }, sse.EndHandlerError},
}

func TestSessionBrokenEndLooksBroken(t *testing.T) {
	t.Parallel()
	// recoverAll recovers from every panic and writes to the response.
	recoverAll := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if v := recover(); v != nil {
					w.WriteHeader(http.StatusInternalServerError)
					io.WriteString(w, "data: sorry\n\n")
				}
			}()
			next.ServeHTTP(w, r)
		})
	}
	for wrapped, use := range map[string]func(*sse.Router){
		"bare":                       func(*sse.Router) {},
		"behind chi's Recoverer":     func(r *sse.Router) { r.Use(middleware.Recoverer) },
		"behind one that takes all":  func(r *sse.Router) { r.Use(recoverAll) },
		"behind chi's Timeout, too":  func(r *sse.Router) { r.Use(recoverAll, middleware.Timeout(time.Nanosecond)) },
		"behind a buffer of a Write": func(r *sse.Router) { r.Use(middleware.Compress(5)) },
	} {
		for name, tt := range brokenEnds {
			for _, proto := range protocols {
				t.Run(fmt.Sprint(name, " ", wrapped, " over ", proto.Name), func(t *testing.T) {
					t.Parallel()
					var cfg sse.Config
					ends := endsOf(&cfg)
					r := newRouter(cfg)
					use(r)
					r.SSE("/", func(s *sse.ServerSession) error {
						testkit.NoError(t, s.SendData("before"))
						return tt.end(s)
					})
					a := get(t, serve(t, r, proto.Setup), "/")
					require.Equal(t, http.StatusOK, a.Status)
					require.Equal(t, "data: before\n\n", a.Body)
					require.Error(t, a.Err, "the client must see that the stream is truncated")
					if proto.Proto == "HTTP/1.1" {
						require.Equal(t, io.ErrUnexpectedEOF, a.Err)
					}
					e := testkit.Receive(t, ends)
					require.Equal(t, tt.reason, e.Reason)
					require.True(t, e.Opened)
					require.Zero(t, r.Plugin().Len())
				})
			}
		}
	}
}

func TestSessionWholeEndLooksWhole(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *sse.ServerSession) error{
		"nil":                      func(*sse.ServerSession) error { return nil },
		"Close":                    func(s *sse.ServerSession) error { return s.Close() },
		"ErrClosed after Close":    func(s *sse.ServerSession) error { s.Close(); return s.SendData("x") },
		"a wrapped one":            func(s *sse.ServerSession) error { s.Close(); return fmt.Errorf("send: %w", s.SendData("x")) },
		"nil behind late writes":   func(s *sse.ServerSession) error { return nil },
		"Close by another routine": func(s *sse.ServerSession) error { go s.Close(); <-s.Done(); return nil },
	} {
		for _, proto := range protocols {
			t.Run(name+" over "+proto.Name, func(t *testing.T) {
				t.Parallel()
				var complaints testkit.Buffer
				r := newRouter(sse.Config{})
				r.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						next.ServeHTTP(w, r)
						w.WriteHeader(http.StatusGatewayTimeout)
						io.WriteString(w, "data: of a middleware\n\n")
						_ = http.NewResponseController(w).Flush()
					})
				})
				r.SSE("/", func(s *sse.ServerSession) error {
					testkit.NoError(t, s.SendData("before"))
					return end(s)
				})
				srv := serve(t, r, proto.Setup, func(srv *httptest.Server) { srv.Config.ErrorLog = log.New(&complaints, "", 0) })
				a := get(t, srv, "/")
				require.NoError(t, a.Err)
				require.Equal(t, "data: before\n\n", a.Body)
				require.Empty(t, complaints.String(), "net/http has complained, perhaps of a second WriteHeader")
			})
		}
	}
}

// halfWriter fails on data with the word "torn": it closes the session, writes half of the
// data, and returns an error.
type halfWriter struct {
	http.ResponseWriter
	session *atomic.Pointer[sse.ServerSession]
}

func (w *halfWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *halfWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

func (w *halfWriter) Write(p []byte) (int, error) {
	if !strings.Contains(string(p), "torn") {
		return w.ResponseWriter.Write(p)
	}
	w.session.Load().Close()
	n, _ := w.ResponseWriter.Write(p[:len(p)/2])
	return n, errOwn
}

// A session that ends in order, but in the middle of an event, must not look complete.
func TestSessionHalfAnEventIsNoEnd(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			var session atomic.Pointer[sse.ServerSession]
			r := newRouter(sse.Config{})
			r.Use(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(&halfWriter{w, &session}, r) })
			})
			r.SSE("/", func(s *sse.ServerSession) error {
				session.Store(s)
				testkit.NoError(t, s.SendData("whole"))
				testkit.ErrorIs(t, s.SendData("torn in two"), errOwn)
				return nil
			})
			a := get(t, serve(t, r, proto.Setup), "/")
			require.Contains(t, a.Body, "data: whole\n\n")
			require.Error(t, a.Err)
		})
	}
}

// A middleware that recovers from every panic must not make a failed session look complete.
// Without a connection that could be broken off, the plugin panics outside that middleware.
func TestSessionBrokenEndIsThePanicOfTheServer(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { _ = recover() }()
			next.ServeHTTP(w, r)
		})
	})
	r.SSE("/", func(s *sse.ServerSession) error {
		testkit.NoError(t, s.SendData("x"))
		return errOwn
	})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { record(r, http.MethodGet, "/") })
}

// Middleware inside the plugin takes no broken stream for a panic of the handler: a reporter of
// crashes has nothing to report, and a gauge comes down without a defer. What they write
// afterwards does not reach the client. The server gets the panic.
func TestSessionBrokenEndIsNoPanicInsideThePlugin(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]func(s *sse.ServerSession, cancel func()) error{
		"an error": func(*sse.ServerSession, func()) error { return errOwn },
		"a panic":  func(*sse.ServerSession, func()) error { panic(errOwn) },
		"a slow client": func(s *sse.ServerSession, _ func()) error {
			return s.SendData(strings.Repeat("x", 16<<20))
		},
		"a middleware cancels": func(s *sse.ServerSession, cancel func()) error {
			cancel()
			<-s.Done()
			return s.SendData("late")
		},
	} {
		for _, by := range []string{byHandler, byHub} {
			for _, version := range []string{"HTTP/1.0", "HTTP/1.1", "h2"} {
				t.Run(fmt.Sprint(name, ", by ", by, " over ", version), func(t *testing.T) {
					t.Parallel()
					inner, outer, late := make(chan any, 1), make(chan any, 1), make(chan error, 1)
					var cfg sse.Config
					cfg.WriteTimeout = testkit.Patience
					if name == "a slow client" {
						cfg.WriteTimeout = time.Second
					}
					ends := endsOf(&cfg)
					r := newRouter(cfg)
					h, err := hub.New(hub.Config{})
					require.NoError(t, err)
					r.Use(func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							var panicked any = "a panic"
							defer func() {
								if panicked != nil {
									panicked = recover()
								}
								inner <- panicked
							}()
							ctx, cancel := context.WithCancel(r.Context())
							defer cancel()
							next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, innerCancelKey{}, cancel)))
							panicked = nil
							w.WriteHeader(http.StatusTeapot)
							_, err := io.WriteString(w, "late")
							_ = http.NewResponseController(w).Flush()
							late <- err
						})
					})
					r.SSE("/", func(s *sse.ServerSession) error {
						testkit.NoError(t, s.SendData("open"))
						cancel := s.Context().Value(innerCancelKey{}).(context.CancelFunc)
						if by == byHandler {
							return handler(s, cancel)
						}
						return h.Serve(s, hub.Subscription{Topics: []string{"a"}, Snapshot: func(s *sse.ServerSession, _ hub.Position) (hub.Position, error) {
							return hub.Position{}, handler(s, cancel)
						}})
					})
					proto := testkit.HTTP1
					if version == "h2" {
						proto = testkit.HTTP2
					}
					srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
						defer func() {
							v := recover()
							outer <- v
							if v != nil {
								panic(v)
							}
						}()
						r.ServeHTTP(w, req)
					}), proto.Setup, smallSendBuffer)
					var body io.Reader
					if version == "HTTP/1.0" {
						conn := testkit.Dial(t, srv)
						_, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
						require.NoError(t, err)
						body = conn
					} else {
						body = dial(t, srv, "/").Body
					}
					require.True(t, testkit.Receive(t, ends).Opened)
					require.Nil(t, testkit.Receive(t, inner))
					require.Error(t, testkit.Receive(t, late))
					require.Equal(t, http.ErrAbortHandler, testkit.Receive(t, outer))
					b, err := io.ReadAll(body)
					require.Error(t, err, "the stream must look broken")
					require.NotContains(t, string(b), "late")
				})
			}
		}
	}
}

type innerCancelKey struct{}

func TestSessionPanicBeforeItOpensReachesARecoverer(t *testing.T) {
	t.Parallel()
	t.Run("its own", func(t *testing.T) {
		t.Parallel()
		panics := make(chan any, 1)
		var cfg sse.Config
		ends := endsOf(&cfg)
		r := newRouter(cfg)
		r.Use(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					panics <- recover()
					w.WriteHeader(http.StatusTeapot)
					io.WriteString(w, "recovered")
				}()
				next.ServeHTTP(w, r)
			})
		})
		r.SSE("/", func(*sse.ServerSession) error { panic(errOwn) })
		a := get(t, serve(t, r), "/")
		require.Equal(t, http.StatusTeapot, a.Status)
		require.Equal(t, "recovered", a.Body)
		require.Equal(t, errOwn, <-panics)
		e := testkit.Receive(t, ends)
		require.Equal(t, sse.EndPanic, e.Reason)
		require.False(t, e.Opened)
		var p *sse.PanicError
		require.ErrorAs(t, e.Err, &p)
		require.Equal(t, errOwn, p.Value)
		require.Contains(t, string(p.Stack), "TestSessionPanicBeforeItOpensReachesARecoverer")
		require.EqualError(t, p, "sse: handler panicked: an error of the handler")
	})
	t.Run("chi's", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{})
		r.Use(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				middleware.Recoverer(next).ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), middleware.LogEntryCtxKey, silentEntry{})))
			})
		})
		r.SSE("/", func(*sse.ServerSession) error { panic(errOwn) })
		require.Equal(t, http.StatusInternalServerError, get(t, serve(t, r), "/").Status)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{})
		r.SSE("/", func(*sse.ServerSession) error { panic(errOwn) })
		srv := serve(t, r)
		resp, err := srv.Client().Do(newRequest(t, "GET", srv.URL))
		if err == nil {
			resp.Body.Close()
		}
		require.Error(t, err)
		testkit.Eventually(t, func() bool { return r.Plugin().Len() == 0 }, "the end of the session")
	})
}

// silentEntry is a log entry that keeps chi's Recoverer from printing.
type silentEntry struct{}

func (silentEntry) Write(int, int, http.Header, time.Duration, any) {}

func (silentEntry) Panic(any, []byte) {}

func TestSessionGoexitBeforeItOpens(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.SSE("/", func(*sse.ServerSession) error { runtime.Goexit(); return nil })
			srv := serve(t, r, proto.Setup)
			resp, err := srv.Client().Do(newRequest(t, "GET", srv.URL))
			if err == nil {
				a := readAnswer(resp)
				require.True(t, a.Err != nil || a.Status == http.StatusInternalServerError, "%+v", a)
			}
			e := testkit.Receive(t, ends)
			require.Equal(t, sse.EndPanic, e.Reason)
			var p *sse.PanicError
			require.ErrorAs(t, e.Err, &p)
			require.Nil(t, p.Value)
			require.Zero(t, r.Plugin().Len())
		})
	}
}
