package sse_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestSessionOpensByItselfAfterTheOpenDelay(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg     sse.Config
		options []sse.RouteOption
		opensAt time.Duration
	}{
		"by default":          {sse.Config{}, nil, 500 * time.Millisecond},
		"of the plugin":       {sse.Config{OpenDelay: 2 * time.Second}, nil, 2 * time.Second},
		"of the route":        {sse.Config{OpenDelay: 2 * time.Second}, []sse.RouteOption{sse.WithOpenDelay(time.Second)}, time.Second},
		"never of the plugin": {sse.Config{OpenDelay: -1}, nil, 0},
		"never of the route":  {sse.Config{}, []sse.RouteOption{sse.WithOpenDelay(-1)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var opened atomic.Int64
				tt.cfg.OnOpen = func(*sse.ServerSession) { opened.Add(1) }
				r := newRouter(tt.cfg)
				r.SSE("/", func(s *sse.ServerSession) error {
					time.Sleep(time.Minute)
					return s.SendData("late")
				}, append(tt.options, sse.WithHeartbeat(sse.Heartbeat{Period: -1}))...)
				began := time.Now()
				s := servePipe(t, r).connect("/")
				if tt.opensAt > 0 {
					require.Equal(t, tt.opensAt, time.Since(began))
					require.Equal(t, sse.Event{Comment: "open"}, s.next())
					require.Equal(t, tt.opensAt, time.Since(began))
				}
				require.Equal(t, sse.Event{Data: "late"}, s.next())
				require.Equal(t, time.Minute, time.Since(began))
				s.end()
				require.EqualValues(t, 1, opened.Load())
			})
		})
	}
}

// A POST opens by itself only if somebody has set an OpenDelay. So a handler that asks another
// service can answer with its status, however late.
func TestSessionOfAnotherMethodDoesNotOpenByItselfByDefault(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		method  string
		cfg     sse.Config
		options []sse.RouteOption
		status  int
	}{
		"GET":                         {"GET", sse.Config{}, nil, 200},
		"POST":                        {"POST", sse.Config{}, nil, 502},
		"PUT":                         {"PUT", sse.Config{}, nil, 502},
		"PATCH":                       {"PATCH", sse.Config{}, nil, 502},
		"QUERY":                       {"QUERY", sse.Config{}, nil, 502},
		"DELETE":                      {"DELETE", sse.Config{}, nil, 502},
		"POST, delay of the plugin":   {"POST", sse.Config{OpenDelay: 500 * time.Millisecond}, nil, 200},
		"POST, delay of the route":    {"POST", sse.Config{}, []sse.RouteOption{sse.WithOpenDelay(time.Millisecond)}, 200},
		"POST, none of the route":     {"POST", sse.Config{OpenDelay: time.Millisecond}, []sse.RouteOption{sse.WithOpenDelay(-1)}, 502},
		"GET, none of the plugin":     {"GET", sse.Config{OpenDelay: -1}, nil, 502},
		"POST, late delay of a route": {"POST", sse.Config{}, []sse.RouteOption{sse.WithOpenDelay(time.Second)}, 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(tt.cfg)
				h := func(*sse.ServerSession) error {
					time.Sleep(800 * time.Millisecond) // it asks another service
					return sse.Error(http.StatusBadGateway, errors.New("no answer"))
				}
				r.Method(tt.method, "/handler", r.SSEHandler(h, tt.options...))
				r.SSE("/route", h, append([]sse.RouteOption{sse.WithMethods(tt.method)}, tt.options...)...)
				sse.Handle(r, "/handle", h, append([]sse.RouteOption{sse.WithMethods(tt.method)}, tt.options...)...)
				r.Method(tt.method, "/serve", streamOf(h, tt.options...))
				for _, path := range []string{"/handler", "/route", "/handle", "/serve"} {
					rec := httptest.NewRecorder()
					func() {
						defer func() { require.Equal(t, tt.status == http.StatusOK, recover() != nil, "an open session is aborted") }()
						r.ServeHTTP(rec, newRequest(t, tt.method, path))
					}()
					require.Equal(t, tt.status, rec.Code, path)
				}
			})
		})
	}
}

func TestSessionTellsTheRetryTimeWhenItOpens(t *testing.T) {
	t.Parallel()
	open := func(s *sse.ServerSession) error { return s.Open() }
	send := func(s *sse.ServerSession) error { return s.Send(sse.Event{ID: "1", Data: "x"}) }
	beat := func(s *sse.ServerSession) error { return s.Heartbeat(sse.Heartbeat{}) }
	comment := func(s *sse.ServerSession) error { return s.Comment("hi") }
	for _, tt := range []struct {
		name    string
		retry   time.Duration
		handler sse.Handler
		options []sse.RouteOption
		want    string
	}{
		{"none, with Open", 0, open, nil, ": open\n\n"},
		{"none, with an event", 0, send, nil, "data: x\nid: 1\n\n"},
		{"with Open", 2 * time.Second, open, nil, "retry: 2000\n\n: open\n\n"},
		{"with an event", 2 * time.Second, send, nil, "retry: 2000\n\ndata: x\nid: 1\n\n"},
		{"with a beat", 2 * time.Second, beat, nil, "retry: 2000\n\n: heartbeat\n\n"},
		{"with a comment", 2 * time.Second, comment, nil, "retry: 2000\n\n: hi\n\n"},
		{"at once", sse.RetryImmediately, send, nil, "retry: 0\n\ndata: x\nid: 1\n\n"},
		{"of the route", 2 * time.Second, send, []sse.RouteOption{sse.WithRetry(3 * time.Second)}, "retry: 3000\n\ndata: x\nid: 1\n\n"},
		{"of the route: none", 2 * time.Second, send, []sse.RouteOption{sse.WithRetry(0)}, "data: x\nid: 1\n\n"},
		{"of the route: at once", 2 * time.Second, send, []sse.RouteOption{sse.WithRetry(sse.RetryImmediately)}, "retry: 0\n\ndata: x\nid: 1\n\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var writes []sse.Sent
			var end sse.End
			r := newRouter(sse.Config{
				Retry:   tt.retry,
				OnSend:  func(_ *sse.ServerSession, sent sse.Sent) { writes = append(writes, sent) },
				OnClose: func(_ *sse.ServerSession, e sse.End) { end = e },
			})
			r.SSE("/", func(s *sse.ServerSession) error {
				testkit.NoError(t, tt.handler(s))
				return s.Open() // sends nothing, because the session is open
			}, tt.options...)
			require.Equal(t, tt.want, record(r, "GET", "/").Body.String())
			require.Len(t, writes, 1, "the retry time and the first event go out in one write")
			require.Equal(t, len(tt.want), writes[0].Bytes)
			require.EqualValues(t, len(tt.want), end.Bytes)
		})
	}
}

func TestSessionIsNotEndedByADeadline(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(h sse.Handler, cfg sse.Config) http.Handler{
		"of a middleware": func(h sse.Handler, cfg sse.Config) http.Handler {
			r := newRouter(cfg)
			r.Use(middleware.Timeout(time.Second))
			r.SSE("/", h)
			return r
		},
		"of a middleware of the route": func(h sse.Handler, cfg sse.Config) http.Handler {
			r := newRouter(cfg)
			sse.From(r.With(middleware.Timeout(time.Second))).SSE("/", h)
			return r
		},
		"of a middleware outside": func(h sse.Handler, cfg sse.Config) http.Handler {
			sub := newRouter(cfg)
			sub.SSE("/", h)
			r := chi.NewRouter()
			r.Use(middleware.Timeout(time.Second))
			r.Mount("/", sub)
			return r
		},
		"of a middleware with a handler as a function": func(h sse.Handler, cfg sse.Config) http.Handler {
			r := newRouter(cfg)
			r.Use(middleware.Timeout(time.Second))
			r.Get("/", r.SSEHandler(h).ServeHTTP)
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var cfg sse.Config
				ends := endsOf(&cfg)
				h := build(func(s *sse.ServerSession) error {
					for i := range 3 {
						time.Sleep(10 * time.Second)
						if err := s.SendData(i); err != nil {
							return err
						}
					}
					return nil
				}, cfg)
				s := servePipe(t, h).connect("/")
				require.Equal(t, "0", s.nextData())
				require.Equal(t, "1", s.nextData())
				require.Equal(t, "2", s.nextData())
				s.end()
				require.Equal(t, sse.EndReturned, testkit.Receive(t, ends).Reason)
			})
		})
	}
}

// cancelable is a middleware that lets a handler cancel the request's context by cancelCall.
func cancelable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, cancelKey{}, cancel)))
	})
}

type cancelKey struct{}

// cancelCall cancels the context of the request of s.
func cancelCall(s *sse.ServerSession, cause error) {
	s.Context().Value(cancelKey{}).(context.CancelCauseFunc)(cause)
}

func TestSessionIsEndedByACancellation(t *testing.T) {
	t.Parallel()
	expired := errors.New("the token has expired")
	for _, proto := range protocols {
		for _, opened := range []bool{true, false} {
			t.Run(fmt.Sprint(proto.Name, " opened ", opened), func(t *testing.T) {
				t.Parallel()
				var cfg sse.Config
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				r.Use(cancelable)
				r.SSE("/", func(s *sse.ServerSession) error {
					if opened {
						testkit.NoError(t, s.SendData("x"))
					}
					cancelCall(s, expired)
					<-s.Done()
					testkit.ErrorIs(t, s.Context().Err(), context.Canceled)
					testkit.ErrorIs(t, context.Cause(s.Context()), sse.ErrCanceled)
					testkit.ErrorIs(t, context.Cause(s.Context()), expired)
					for name, send := range sendsOf(s) {
						err := send()
						testkit.ErrorIs(t, err, sse.ErrClosed, name)
						testkit.ErrorIs(t, err, sse.ErrCanceled, name)
						testkit.ErrorIs(t, err, expired, name)
					}
					return s.SendData("y")
				})
				a := get(t, serve(t, r, proto.Setup), "/")
				if opened {
					require.Equal(t, "data: x\n\n", a.Body)
					require.Error(t, a.Err, "a truncated stream must not look complete")
				} else {
					require.NoError(t, a.Err)
					require.Equal(t, http.StatusServiceUnavailable, a.Status)
				}
				e := testkit.Receive(t, ends)
				require.Equal(t, sse.EndCanceled, e.Reason)
				require.ErrorIs(t, e.Err, expired)
				require.Equal(t, opened, e.Opened)
			})
		}
	}
}
