package sse_test

// A middleware that returns while the handler is still running: a timeout that somebody has
// written at home.

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// leaver is a middleware that runs the rest of the chain in a goroutine, and returns without it,
// with status 504, when leave is closed. It is for one request.
type leaver struct {
	leave    chan struct{}
	left     chan struct{} // closed when the plugin has returned
	handlers sync.WaitGroup
	body     string // the body of the 504; to write one waits for a write of the session's
	before   func() // if not nil, runs before the rest of the chain
	once     sync.Once
	large    chan struct{} // closed before the first large write
	late     chan error    // of a write after the rest of the chain
}

func newLeaver() *leaver {
	return &leaver{leave: make(chan struct{}), left: make(chan struct{}), large: make(chan struct{}), late: make(chan error, 1)}
}

func (l *leaver) inside(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" { // another request
			next.ServeHTTP(w, r)
			return
		}
		done := make(chan struct{})
		l.handlers.Go(func() { // a panic here ends the process
			defer close(done)
			if l.before != nil {
				l.before()
			}
			next.ServeHTTP(&largeWrites{w, l}, r)
			w.Header().Set("Late", "1")
			w.WriteHeader(http.StatusTeapot)
			_, err := io.WriteString(w, "late")
			_ = http.NewResponseController(w).Flush()
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now())
			l.late <- err
		})
		select {
		case <-done:
		case <-l.leave:
			w.WriteHeader(http.StatusGatewayTimeout)
			if l.body != "" {
				_, _ = io.WriteString(w, l.body)
			}
		}
	})
}

// largeWrites tells of the first large write.
type largeWrites struct {
	http.ResponseWriter
	l *leaver
}

func (w *largeWrites) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *largeWrites) Write(p []byte) (int, error) {
	if len(p) > 1000 {
		w.l.once.Do(func() { close(w.l.large) })
	}
	return w.ResponseWriter.Write(p)
}

func (l *leaver) outside(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" { // another request
			next.ServeHTTP(w, r)
			return
		}
		defer close(l.left) // the client learns of the end when net/http has the writer back
		next.ServeHTTP(w, r)
	})
}

// abandonedModes are the modes of a session that a middleware abandons.
var abandonedModes = []testkit.Protocol{testkit.HTTP1, testkit.HTTP1TLS, testkit.HTTP2, testkit.H2C}

func TestAbandonedSessionEnds(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 16<<20)
	for name, tt := range map[string]struct {
		open, blocked bool // before the middleware returns: the session is open; a send waits for the client
	}{
		"idle":                    {true, false},
		"while a write waits":     {true, true},
		"while the opening waits": {false, true},
		"before it opens":         {false, false},
	} {
		for _, proto := range abandonedModes {
			t.Run(name+" over "+proto.Name, func(t *testing.T) {
				t.Parallel()
				logs := testkit.NewLog()
				cfg := sse.Config{OpenDelay: -1, WriteTimeout: time.Hour, Logger: logs.Logger()}
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				l := newLeaver()
				if !tt.blocked {
					l.body = "timeout"
				}
				r.Use(l.inside)
				ready, blocked, sent := make(chan struct{}), make(chan error, 1), make(chan error, 10)
				r.SSE("/", func(s *sse.ServerSession) error {
					header := s.Header()
					if tt.open {
						testkit.NoError(t, s.SendData("open"))
					}
					if tt.blocked {
						go func() { blocked <- s.SendData(large) }()
						testkit.Receive(t, l.large)
						time.Sleep(50 * time.Millisecond) // so that the write waits for the client, as a rule
					}
					close(ready)
					<-s.Done()
					testkit.Receive(t, l.left)
					for _, send := range sendsOf(s) {
						sent <- send()
					}
					header.Set("Late", "1")
					s.Header().Set("Late", "1")
					return sse.Error(http.StatusTeapot, nil)
				})
				r.SSE("/next", func(s *sse.ServerSession) error { return s.SendData("next") })
				srv := serve(t, l.outside(r), proto.Setup, smallSendBuffer)
				type result struct {
					resp *http.Response
					err  error
				}
				answer := make(chan result, 1)
				req := newRequest(t, http.MethodGet, srv.URL+"/")
				go func() {
					resp, err := srv.Client().Do(req)
					answer <- result{resp, err}
				}()
				testkit.Receive(t, ready)
				close(l.leave)
				testkit.Receive(t, l.left)
				e := testkit.Receive(t, ends)
				require.Equal(t, sse.EndAbandoned, e.Reason)
				require.ErrorIs(t, e.Err, sse.ErrAbandoned)
				require.Equal(t, slog.LevelWarn, logs.Entries("session ended")[0].Level)
				if tt.blocked {
					require.Error(t, testkit.Receive(t, blocked))
				}
				for range 6 {
					err := testkit.Receive(t, sent)
					require.ErrorIs(t, err, sse.ErrClosed)
					require.ErrorIs(t, err, sse.ErrAbandoned)
				}
				l.handlers.Wait()
				require.ErrorContains(t, <-l.late, "after the end of the stream")

				if a := testkit.Receive(t, answer); a.err == nil { // the head may not have arrived
					got := readAnswer(a.resp)
					require.NotContains(t, got.Body, "late")
					require.NotContains(t, got.Header, "Late")
					if tt.open || tt.blocked {
						require.Error(t, got.Err, "the stream must look broken")
						require.NotContains(t, got.Body, "timeout")
					} else {
						require.NoError(t, got.Err)
						require.Equal(t, "timeout", got.Body)
						require.Equal(t, http.StatusGatewayTimeout, got.Status)
					}
				} else {
					require.True(t, tt.blocked, "%v", a.err)
				}
				require.Equal(t, "next", connect(t, srv, "/next").nextData())
			})
		}
	}
}

// An answer that is being written when the middleware returns is cut off.
func TestAbandonedAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	for _, proto := range abandonedModes {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			writing, wrote := make(chan struct{}), make(chan error, 1)
			r := newRouter(sse.Config{WriteTimeout: time.Hour, RenderError: func(w http.ResponseWriter, _ *http.Request, _ error) {
				close(writing)
				_, err := io.WriteString(w, strings.Repeat("x", 16<<20))
				wrote <- err
			}})
			l := newLeaver()
			r.Use(l.inside)
			r.SSE("/", func(*sse.ServerSession) error { return sse.Error(http.StatusTeapot, nil) })
			srv := serve(t, l.outside(r), proto.Setup, smallSendBuffer)
			resp, err := srv.Client().Do(newRequest(t, http.MethodGet, srv.URL+"/"))
			require.NoError(t, err)
			testkit.Receive(t, writing)
			close(l.leave)
			testkit.Receive(t, l.left)
			require.Error(t, testkit.Receive(t, wrote))
			require.Error(t, readAnswer(resp).Err)
			l.handlers.Wait()
		})
	}
}

// A handler that begins only after the middleware has returned gets no session.
func TestAbandonedBeforeTheHandler(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, proto := range abandonedModes {
			t.Run(method+" over "+proto.Name, func(t *testing.T) {
				t.Parallel()
				refused := make(chan error, 1)
				r := newRouter(sse.Config{OnRefuse: func(_ *http.Request, err error) { refused <- err }})
				l := newLeaver()
				l.before = func() { testkit.Receive(t, l.left) }
				r.Use(l.inside)
				r.SSE("/", func(*sse.ServerSession) error { panic("the handler runs") })
				srv := serve(t, l.outside(r), proto.Setup)
				close(l.leave)
				require.Equal(t, http.StatusGatewayTimeout, request(t, srv, method, "/").Status)
				if method == http.MethodGet {
					require.ErrorIs(t, testkit.Receive(t, refused), sse.ErrAbandoned)
				}
				l.handlers.Wait()
				require.ErrorContains(t, <-l.late, "after the end of the stream")
			})
		}
	}
}

// A panic of a handler that nobody waits for any longer is logged, and does not end the process.
func TestAbandonedHandlerPanics(t *testing.T) {
	t.Parallel()
	var cfg sse.Config
	cfg.OpenDelay = -1
	ends := endsOf(&cfg)
	r := newRouter(cfg)
	l := newLeaver()
	r.Use(l.inside)
	r.SSE("/", func(s *sse.ServerSession) error {
		close(l.leave)
		<-s.Done()
		panic(errOwn)
	})
	require.Equal(t, http.StatusGatewayTimeout, get(t, serve(t, l.outside(r)), "/").Status)
	require.Equal(t, sse.EndPanic, testkit.Receive(t, ends).Reason)
	l.handlers.Wait()
}

// routedKey is the key of a channel that the handler closes.
type routedKey struct{}

// The middleware returns at any moment of a session's life, in every mode: nothing reaches the
// writer that net/http has taken back, and the process lives.
func TestAbandonedAtAnyMoment(t *testing.T) {
	t.Parallel()
	for _, by := range []string{byHandler, byHub, byDetachingHub} {
		for _, version := range []string{"HTTP/1.0", "HTTP/1.1", "h2"} {
			t.Run(by+" over "+version, func(t *testing.T) {
				t.Parallel()
				var ended sync.WaitGroup
				h, err := hub.New(hub.Config{Detached: by == byDetachingHub})
				require.NoError(t, err)
				for range 20 {
					_, err := h.Publish(t.Context(), "a", sse.Event{Data: strings.Repeat("x", 10_000)})
					require.NoError(t, err)
				}
				r := newRouter(sse.Config{
					OpenDelay:   100 * time.Microsecond,
					Heartbeat:   sse.Heartbeat{Period: 200 * time.Microsecond},
					RenderError: func(w http.ResponseWriter, _ *http.Request, _ error) { io.WriteString(w, "an error") },
					OnClose:     func(*sse.ServerSession, sse.End) { ended.Done() },
				})
				var handlers sync.WaitGroup
				r.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						done, routed := make(chan struct{}), make(chan struct{})
						handlers.Go(func() {
							defer close(done)
							next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), routedKey{}, routed)))
						})
						<-routed // chi uses its context for another request when the middleware has returned
						select {
						case <-done:
						case <-time.After(rand.N(1500 * time.Microsecond)):
							w.WriteHeader(http.StatusGatewayTimeout) // without a header, which the handler may be setting
							_, _ = io.WriteString(w, "timeout")
						}
					})
				})
				r.SSE("/", func(s *sse.ServerSession) error {
					ended.Add(1)
					close(s.Context().Value(routedKey{}).(chan struct{}))
					time.Sleep(rand.N(time.Millisecond))
					switch {
					case rand.N(10) == 0:
						s.Header().Set("Mine", "1")
						return sse.Error(http.StatusTeapot, nil)
					case by != byHandler:
						err := h.Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning})
						if err == nil { // it is detached
							time.AfterFunc(rand.N(time.Millisecond), func() { s.Close() })
						}
						return err
					}
					for range 100 {
						if err := s.SendData("an event"); err != nil {
							return err
						}
					}
					return nil
				})
				proto := testkit.HTTP1
				if version == "h2" {
					proto = testkit.HTTP2
				}
				srv := serve(t, r, proto.Setup, func(srv *httptest.Server) {
					if by == byHub { // the others are not attached
						r.Plugin().Attach(srv.Config)
					}
				})
				var clients sync.WaitGroup
				for range 8 {
					clients.Go(func() {
						for range 40 {
							if version == "HTTP/1.0" {
								conn := testkit.Dial(t, srv)
								_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
								_, _ = io.Copy(io.Discard, conn)
								conn.Close()
								continue
							}
							resp, err := srv.Client().Do(newRequest(t, http.MethodGet, srv.URL+"/"))
							if err == nil {
								readAnswer(resp)
							}
						}
					})
				}
				clients.Wait()
				handlers.Wait()
				ended.Wait()
				require.NoError(t, r.Plugin().Shutdown(t.Context()))
			})
		}
	}
}

// While a stream is open, only its session writes to it.
func TestOpenStreamTakesNothingFromOthers(t *testing.T) {
	t.Parallel()
	for _, proto := range abandonedModes {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(sse.Config{})
			var writer http.ResponseWriter
			r.Use(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					writer = w
					next.ServeHTTP(w, r)
				})
			})
			r.SSE("/", func(s *sse.ServerSession) error {
				testkit.NoError(t, s.SendData("one"))
				writer.WriteHeader(http.StatusTeapot)
				_, err := io.WriteString(writer, "foreign")
				_ = http.NewResponseController(writer).Flush()
				if err == nil {
					t.Error("the write has no error")
				}
				return s.SendData("two")
			})
			a := get(t, serve(t, r, proto.Setup), "/")
			require.NoError(t, a.Err)
			require.Equal(t, "data: one\n\ndata: two\n\n", a.Body)
		})
	}
}
