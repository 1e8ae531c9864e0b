package sse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/render"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
)

// teapot is an error that renders itself.
type teapot struct {
	Cups int   `json:"cups"`
	fail error // of Render
}

func (e *teapot) Error() string { return "no coffee" }

func (e *teapot) Render(_ http.ResponseWriter, r *http.Request) error {
	if e.fail == nil {
		render.Status(r, http.StatusTeapot)
	}
	return e.fail
}

func TestSessionAnswersWithAStatusBeforeItOpens(t *testing.T) {
	t.Parallel()
	secret := errors.New("password of the database")
	for name, tt := range map[string]struct {
		err     error
		accept  string
		status  int
		content string
		body    string
		reason  sse.EndReason
	}{
		"JSON": {
			sse.Error(403, errors.New("members only")), "",
			403, "application/json", `{"status":403,"error":"members only"}` + "\n", sse.EndStatus,
		},
		"JSON for EventSource": {
			sse.Error(403, errors.New("members only")), "text/event-stream",
			403, "application/json", `{"status":403,"error":"members only"}` + "\n", sse.EndStatus,
		},
		"XML": {
			sse.Error(404, errors.New("no room <7>")), "application/xml",
			404, "application/xml; charset=utf-8",
			`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<response><status>404</status><error>no room &lt;7&gt;</error></response>`,
			sse.EndStatus,
		},
		"no error": {
			sse.Error(401, nil), "application/json",
			401, "application/json", `{"status":401,"error":"Unauthorized"}` + "\n", sse.EndStatus,
		},
		"wrapped": {
			fmt.Errorf("authorize: %w", sse.Error(402, errors.New("pay first"))), "",
			402, "application/json", `{"status":402,"error":"pay first"}` + "\n", sse.EndStatus,
		},
		"a server's": {
			sse.Error(503, errors.New("later")), "",
			503, "application/json", `{"status":503,"error":"later"}` + "\n", sse.EndStatus,
		},
		"renderer": {
			sse.Error(400, &teapot{Cups: 2}), "",
			418, "application/json", `{"cups":2}` + "\n", sse.EndStatus,
		},
		"renderer that fails": {
			sse.Error(400, &teapot{fail: errors.New("broken")}), "",
			400, "application/json", `{"status":400,"error":"no coffee"}` + "\n", sse.EndStatus,
		},
		"any other error": {
			secret, "",
			500, "application/json", `{"status":500,"error":"Internal Server Error"}` + "\n", sse.EndHandlerError,
		},
		"any other error that renders itself": {
			&teapot{Cups: 3}, "",
			500, "application/json", `{"status":500,"error":"Internal Server Error"}` + "\n", sse.EndHandlerError,
		},
	} {
		for _, proto := range protocols {
			t.Run(name+" over "+proto.name, func(t *testing.T) {
				t.Parallel()
				var cfg sse.Config
				ends := endsOf(&cfg)
				cfg.OnOpen = func(*sse.ServerSession) { assert.Fail(t, "opened") }
				cfg.OnSend = func(*sse.ServerSession, sse.Sent) { assert.Fail(t, "sent") }
				r := newRouter(cfg)
				r.SSE("/", func(*sse.ServerSession) error { return tt.err })
				var header []string
				if tt.accept != "" {
					header = []string{"Accept", tt.accept}
				}
				a := get(t, serve(t, r, proto.setup), "/", header...)
				require.NoError(t, a.Err)
				require.Equal(t, tt.status, a.Status)
				require.Equal(t, []string{tt.content}, a.Header["Content-Type"])
				require.Equal(t, tt.body, a.Body)
				require.NotContains(t, a.Body, "password")
				require.NotContains(t, a.Header, "X-Accel-Buffering")

				e := receive(t, ends)
				require.Equal(t, tt.reason, e.Reason)
				require.Equal(t, tt.err, e.Err)
				require.False(t, e.Opened)
				require.Zero(t, e.Events)
				require.Zero(t, e.Bytes)
			})
		}
	}
}

func TestSessionRenderErrorOfTheConfig(t *testing.T) {
	t.Parallel()
	type call struct {
		status *sse.StatusError
		err    error
	}
	calls := make(chan call, 1)
	r := newRouter(sse.Config{MaxSessions: 1, RenderError: func(w http.ResponseWriter, r *http.Request, err error) {
		var c call
		c.err = err
		errors.As(err, &c.status)
		calls <- c
		w.WriteHeader(499)
		io.WriteString(w, "mine for "+chi.URLParam(r, "id"))
	}})
	own := errors.New("own")
	r.SSE("/status/{id}", func(*sse.ServerSession) error { return sse.Error(403, own) })
	r.SSE("/error/{id}", func(*sse.ServerSession) error { return own })

	for path, status := range map[string]int{"/status/7": 403, "/error/7": 0} {
		rec := record(r, "GET", path)
		require.Equal(t, 499, rec.Code)
		require.Equal(t, "mine for 7", rec.Body.String())
		c := receive(t, calls)
		require.ErrorIs(t, c.err, own)
		if status != 0 {
			require.Equal(t, status, c.status.Status)
			require.Equal(t, own, c.status.Err)
		} else {
			require.Nil(t, c.status)
		}
	}
	// A session that is refused is answered by it too.
	srv := serve(t, r)
	r.SSE("/held", untilDone)
	require.Equal(t, "open", connect(t, srv, "/held").next().Data)
	require.Equal(t, 499, get(t, srv, "/held").Status)
	c := receive(t, calls)
	require.ErrorIs(t, c.err, sse.ErrTooManySessions)
	require.Equal(t, http.StatusServiceUnavailable, c.status.Status)
}

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

func TestSessionWhoseHeaderIsTakenWaitsForTheHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(sse.Config{})
		r.SSE("/events", func(s *sse.ServerSession) error {
			h := s.Header()
			time.Sleep(time.Minute)
			h.Set("X-Late", "yes")
			h.Set("Content-Type", "text/plain") // is set at the opening, whatever it was
			if err := s.SendData("hello"); err != nil {
				return err
			}
			later := s.Header()
			assert.Equal(t, "yes", later.Get("X-Late"))
			assert.Equal(t, "text/event-stream", later.Get("Content-Type"))
			later.Set("X-Late", "no") // a copy
			assert.Equal(t, "yes", s.Header().Get("X-Late"))
			return nil
		})
		r.SSE("/status", func(s *sse.ServerSession) error {
			s.Header().Set("Www-Authenticate", "Bearer")
			time.Sleep(time.Minute)
			return sse.Error(http.StatusUnauthorized, nil)
		})
		p := servePipe(t, r)
		began := time.Now()
		s := p.connect("/events")
		require.Equal(t, time.Minute, time.Since(began))
		require.Equal(t, "yes", s.Response.Header.Get("X-Late"))
		require.Equal(t, "hello", s.next().Data)
		s.end()

		s = p.get("/status")
		require.Equal(t, http.StatusUnauthorized, s.StatusCode)
		require.Equal(t, "Bearer", s.Response.Header.Get("Www-Authenticate"))
		s.leave()
	})
}

// The header's map must never be in the hands of the handler and of the opening
// at the same time.
func TestSessionHeaderAndOpenDelayDoNotMeet(t *testing.T) {
	r := newRouter(sse.Config{})
	const delay = 50 * time.Microsecond
	r.SSE("/", func(s *sse.ServerSession) error {
		began := time.Now()
		var stop atomic.Bool
		var others sync.WaitGroup
		for range 2 { // whoever wants the session must wait for it
			others.Go(func() {
				for !stop.Load() {
					assert.NoError(t, s.Heartbeat(sse.Heartbeat{Period: -1}))
				}
			})
		}
		for time.Since(began) < delay {
			runtime.Gosched()
		}
		h := s.Header()
		for range 500 {
			h.Set("X-Mine", "1")
		}
		stop.Store(true)
		others.Wait()
		return nil
	}, sse.WithOpenDelay(delay))
	for range 200 {
		record(r, "GET", "/")
	}
}

// Header is safe at any time; over HTTP/2 net/http's own panics by then.
func TestSessionHeaderAfterTheHandlerReturned(t *testing.T) {
	for _, proto := range protocols {
		t.Run(proto.name, func(t *testing.T) {
			sessions := make(chan *sse.ServerSession, 1)
			r := newRouter(sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error {
				sessions <- s
				return s.SendData("x")
			})
			require.Equal(t, "data: x\n\n", get(t, serve(t, r, proto.setup), "/").Body)
			s := receive(t, sessions)
			eventually(t, func() bool { return r.Plugin().Len() == 0 }, "the end")
			require.NotPanics(t, func() {
				require.Equal(t, "text/event-stream", s.Header().Get("Content-Type"))
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
				noError(t, tt.handler(s))
				return s.Open() // is open: nothing more
			}, tt.options...)
			require.Equal(t, tt.want, record(r, "GET", "/").Body.String())
			require.Len(t, writes, 1, "with the first event in one write")
			require.Equal(t, len(tt.want), writes[0].Bytes)
			require.EqualValues(t, len(tt.want), end.Bytes)
		})
	}
}

func TestSessionRefusedEventLeavesItPending(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	var refused []error
	r.SSE("/", func(s *sse.ServerSession) error {
		for _, send := range []func() error{
			func() error { return s.Send(sse.Event{ID: "a\nb"}) },
			func() error { return s.Send(sse.Event{Name: "a\rb"}) },
			func() error { return s.Send(sse.Event{Data: "\xff"}) },
			func() error { return s.Send(sse.Event{Retry: -time.Second}) },
			func() error { return s.Comment("\xff") },
			func() error { return s.SendData("\xff") },
			func() error { return s.SendData([]byte("\xff")) },
			func() error { return s.SendTyped(sse.TypedEvent{ID: "\x00", Data: 1}) },
			func() error { return s.Heartbeat(sse.Heartbeat{Event: sse.Event{Name: "\n"}}) },
		} {
			refused = append(refused, send())
		}
		return sse.Error(http.StatusBadRequest, errors.New("nothing of it"))
	})
	rec := record(r, "GET", "/")
	require.Equal(t, http.StatusBadRequest, rec.Code)
	require.Contains(t, rec.Body.String(), "nothing of it")
	for i, err := range refused {
		var field *event.FieldError
		require.ErrorAs(t, err, &field, i)
		require.True(t, strings.HasPrefix(err.Error(), "sse: "), err)
		require.NotErrorIs(t, err, sse.ErrClosed)
	}
	require.ErrorContains(t, refused[0], "ID holds a line feed at byte 1")
}

func TestSessionProducersNeverInterleave(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.name, func(t *testing.T) {
			t.Parallel()
			const producers, each = 8, 40
			r := newRouter(sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error {
				if err := s.Heartbeat(sse.Heartbeat{Period: time.Millisecond, Event: sse.Event{Name: "beat", Data: "thump"}}); err != nil {
					return err
				}
				var wg sync.WaitGroup
				for p := range producers {
					wg.Go(func() {
						letter := string(rune('a' + p))
						for i := range each {
							size := 1 + i*7
							if i%10 == 9 {
								size = 100_000 + i // beyond every buffer on the way
							}
							data := strings.Repeat(letter, size)
							id := fmt.Sprintf("%s%d", letter, i)
							var err error
							switch i % 4 {
							case 0:
								err = s.Send(sse.Event{ID: id, Name: letter, Data: data})
							case 1:
								err = s.SendTyped(sse.TypedEvent{ID: id, Name: letter, Data: data})
							case 2:
								err = s.SendTyped(sse.TypedEvent{ID: id, Name: letter, Data: []byte(data + "\n" + data)})
							case 3:
								err = errors.Join(s.Comment(data), s.Send(sse.Event{ID: id, Name: letter, Data: data}))
							}
							assert.NoError(t, err)
						}
					})
				}
				wg.Wait()
				return nil
			}, sse.WithSerializer(sse.Text))
			s := connect(t, serve(t, r, proto.setup), "/")
			next := map[string]int{}
			comments, beats := 0, 0
			for ev, err := range s.dec.All() {
				require.NoError(t, err)
				switch {
				case ev.Name == "beat":
					require.Equal(t, "thump", ev.Data)
					beats++
				case ev.Comment != "":
					require.Equal(t, strings.Repeat(ev.Comment[:1], len(ev.Comment)), ev.Comment)
					require.Empty(t, ev.Data)
					comments++
				default:
					require.Equal(t, fmt.Sprintf("%s%d", ev.Name, next[ev.Name]), ev.ID)
					text := strings.ReplaceAll(ev.Data, "\n", "")
					require.Equal(t, strings.Repeat(ev.Name, len(text)), text)
					next[ev.Name]++
				}
			}
			require.Len(t, next, producers)
			for name, n := range next {
				require.Equal(t, each, n, name)
			}
			require.Equal(t, producers*each/4, comments)
			require.NotZero(t, beats)
		})
	}
}

func TestSessionRequest(t *testing.T) {
	t.Parallel()
	type key struct{}
	r := newRouter(sse.Config{})
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := context.WithValue(r.Context(), key{}, "of an inner middleware")
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	})
	r.SSE("/rooms/{room}", func(s *sse.ServerSession) error {
		for _, ctx := range []context.Context{s.Context(), s.Call().Context()} {
			assert.Equal(t, "of an inner middleware", ctx.Value(key{}))
			_, limited := ctx.Deadline()
			assert.False(t, limited)
			noError(t, ctx.Err())
		}
		body, err := io.ReadAll(s.Call().Body)
		noError(t, err)
		return s.SendData(fmt.Sprintf("%s %s?%s %s last=%s", s.Call().Method, chi.URLParam(s.Call(), "room"),
			s.Call().URL.RawQuery, body, s.LastEventID()))
	}, sse.WithMethods("POST", "GET"), sse.WithSerializer(sse.Text))
	srv := serve(t, r)
	require.Equal(t, "data: GET 7?a=b  last=42\n\n", get(t, srv, "/rooms/7?a=b", "Last-Event-ID", "42").Body)

	resp, err := srv.Client().Post(srv.URL+"/rooms/7", "text/plain", strings.NewReader("with a body"))
	require.NoError(t, err)
	require.Equal(t, "data: POST 7? with a body last=\n\n", readAnswer(resp).Body)
}

// What a middleware adds to the request, be it a user's name or the id of a
// polyfill, is what the handler sees.
func TestSessionRequestHeaderOfAMiddleware(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("X-User", "ann")
			r.Header.Set("Last-Event-ID", "42")
			r.Header.Del("X-Forged")
			next.ServeHTTP(w, r)
		})
	})
	h := func(s *sse.ServerSession) error {
		header := s.Call().Header
		return s.SendData(fmt.Sprint(header.Get("X-User"), header.Get("X-Forged"), " ", s.LastEventID()))
	}
	r.SSE("/path", h)
	r.Get("/function", r.SSEHandler(h).ServeHTTP)
	for _, path := range []string{"/path", "/function"} {
		for _, header := range [][]string{
			{"X-Forged", "bob"},
			{"X-Forged", "bob", "Accept-Encoding", "gzip"}, // as all browsers send
		} {
			require.Equal(t, "data: ann 42\n\n", record(r, "GET", path, header...).Body.String(), "%s %v", path, header)
		}
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
				require.Equal(t, sse.EndReturned, receive(t, ends).Reason)
			})
		})
	}
}

// No deadline of one write, or of a short request, may reach into the silence
// after it.
func TestSessionSilenceLongerThanAnyTimeout(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.name, func(t *testing.T) {
			t.Parallel()
			const timeout, silence = 200 * time.Millisecond, 500 * time.Millisecond
			r := newRouter(sse.Config{WriteTimeout: timeout, OpenDelay: -1, Heartbeat: sse.Heartbeat{Period: -1}})
			r.SSE("/", func(s *sse.ServerSession) error {
				for i := range 3 {
					select {
					case <-s.Done():
						return errors.New("ended")
					case <-time.After(silence):
					}
					if err := s.SendData(i); err != nil {
						return err
					}
				}
				return nil
			})
			srv := serve(t, r, proto.setup, func(srv *httptest.Server) {
				srv.Config.ReadTimeout, srv.Config.WriteTimeout, srv.Config.IdleTimeout = timeout, timeout, timeout
			})
			a := get(t, srv, "/")
			require.NoError(t, a.Err)
			require.Equal(t, "data: 0\n\ndata: 1\n\ndata: 2\n\n", a.Body)
		})
	}
}

func TestSessionServerTimeoutsDoNotEndIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			for i := range 3 {
				time.Sleep(50 * time.Second) // no multiple of the heartbeat's
				if err := s.SendData(i); err != nil {
					return err
				}
			}
			return nil
		})
		s := servePipe(t, r, func(srv *http.Server) {
			srv.ReadTimeout, srv.WriteTimeout, srv.IdleTimeout = time.Second, time.Second, time.Second
		}).connect("/")
		require.Equal(t, "0", s.nextData())
		require.Equal(t, "1", s.nextData())
		require.Equal(t, "2", s.nextData())
		s.end()
	})
}

// cancelable gives handlers a cancel function for the request's context.
func cancelable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, cancelKey{}, cancel)))
	})
}

type cancelKey struct{}

func cancelCall(s *sse.ServerSession, cause error) {
	s.Context().Value(cancelKey{}).(context.CancelCauseFunc)(cause)
}

func TestSessionIsEndedByACancellation(t *testing.T) {
	t.Parallel()
	expired := errors.New("the token has expired")
	for _, proto := range protocols {
		for _, opened := range []bool{true, false} {
			t.Run(fmt.Sprint(proto.name, " opened ", opened), func(t *testing.T) {
				t.Parallel()
				var cfg sse.Config
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				r.Use(cancelable)
				r.SSE("/", func(s *sse.ServerSession) error {
					if opened {
						noError(t, s.SendData("x"))
					}
					cancelCall(s, expired)
					<-s.Done()
					matches(t, s.Context().Err(), context.Canceled)
					matches(t, context.Cause(s.Context()), sse.ErrCanceled)
					matches(t, context.Cause(s.Context()), expired)
					for name, send := range sendsOf(s) {
						err := send()
						matches(t, err, sse.ErrClosed, name)
						matches(t, err, sse.ErrCanceled, name)
						matches(t, err, expired, name)
					}
					return s.SendData("y")
				})
				a := get(t, serve(t, r, proto.setup), "/")
				if opened {
					require.Equal(t, "data: x\n\n", a.Body)
					require.Error(t, a.Err, "a stream that was cut must not look whole")
				} else {
					require.NoError(t, a.Err)
					require.Equal(t, http.StatusServiceUnavailable, a.Status)
				}
				e := receive(t, ends)
				require.Equal(t, sse.EndCanceled, e.Reason)
				require.ErrorIs(t, e.Err, expired)
				require.Equal(t, opened, e.Opened)
			})
		}
	}
}

func TestSessionIsEndedByTheClientsLeaving(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.name, func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			ends := endsOf(&cfg)
			causes := make(chan error, 3)
			r := newRouter(cfg)
			r.Use(middleware.Timeout(time.Hour)) // a context between
			h := func(s *sse.ServerSession) error {
				if err := s.SendData("x"); err != nil {
					return err
				}
				<-s.Done()
				causes <- context.Cause(s.Context())
				err := s.SendData("y")
				matches(t, err, sse.ErrClosed)
				assert.ErrorIs(t, err, sse.ErrClientGone)
				return err
			}
			r.SSE("/path", h)
			r.Handle("/handler", r.SSEHandler(h))
			r.Get("/function", r.SSEHandler(h).ServeHTTP)
			srv := serve(t, r, proto.setup)
			for _, path := range []string{"/path", "/handler", "/function"} {
				s := connect(t, srv, path)
				require.Equal(t, "x", s.next().Data)
				s.leave()
				require.ErrorIs(t, receive(t, causes), sse.ErrClientGone)
				e := receive(t, ends)
				require.Equal(t, sse.EndClientGone, e.Reason)
				require.NoError(t, e.Err)
				require.True(t, e.Opened)
				require.EqualValues(t, 1, e.Events)
				require.EqualValues(t, len("data: x\n\n"), e.Bytes)
			}
		})
	}
}

func TestSessionEndsForAClientThatLeavesBeforeItOpens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cfg sse.Config
		ends := endsOf(&cfg)
		cfg.OpenDelay = -1
		cfg.OnOpen = func(*sse.ServerSession) { assert.Fail(t, "opened") }
		r := newRouter(cfg)
		r.SSE("/", func(s *sse.ServerSession) error {
			<-s.Done()
			return s.SendData("nobody there")
		})
		conn := servePipe(t, r).dial("/")
		synctest.Wait()
		require.Equal(t, 1, r.Plugin().Len())
		conn.Close()
		e := receive(t, ends)
		require.Equal(t, sse.EndClientGone, e.Reason)
		require.False(t, e.Opened)
	})
}

// A write that fails because the client has gone did not run into its timeout, and
// should not say so.
func TestSessionWriteUnderWaySaysThatTheClientIsGone(t *testing.T) {
	t.Parallel()
	var cfg sse.Config
	ends := endsOf(&cfg)
	results := make(chan error, 1)
	r := newRouter(cfg)
	r.SSE("/", func(s *sse.ServerSession) error {
		results <- s.SendData(strings.Repeat("x", 16<<20))
		return nil
	})
	conn := rawClient(t, serve(t, r, smallSendBuffer), "/")
	_, err := io.ReadFull(conn, make([]byte, 1<<10)) // head and some data: it is being written
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	err = receive(t, results)
	require.Equal(t, sse.EndClientGone, receive(t, ends).Reason)
	require.Error(t, err)
	require.NotErrorIs(t, err, sse.ErrWriteTimeout)
}
