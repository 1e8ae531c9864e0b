package hub_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

func TestSessionsAreLimited(t *testing.T) {
	for name, p := range map[string]plan{
		"by the plugin": {sse: sse.Config{MaxSessions: 2}},
		"by the route":  {route: []sse.RouteOption{sse.WithSessionLimit(2)}},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(p)
				s1, s2 := a.connect("/"), a.connect("/")
				a.joined("a", 2)
				require.Equal(t, 2, a.plugin.Len())
				require.Len(t, slices.Collect(a.plugin.Sessions()), 2)
				require.Equal(t, http.StatusServiceUnavailable, a.dial("/").StatusCode)
				refused := a.connect("/", browser...)
				require.NotZero(t, refused.block().Retry)
				refused.expectEnd()
				s1.leave()
				eventually(t, func() bool { return a.plugin.Len() == 1 }, "room for one")
				s3 := a.connect("/")
				a.joined("a", 2)
				require.Equal(t, http.StatusServiceUnavailable, a.dial("/").StatusCode)
				a.publish("a", sse.Event{Data: "1"})
				s2.expect("1")
				s3.expect("1")
				require.Equal(t, 2, a.Kick("a", nil))
				eventually(t, func() bool { return a.plugin.Len() == 0 }, "the end")
			})
		})
	}
}

func TestSessionHeartbeats(t *testing.T) {
	var calls atomic.Int32
	for name, tt := range map[string]struct {
		heartbeat sse.Heartbeat
		want      string
	}{
		"default": {sse.Heartbeat{}, ": heartbeat\n\n"},
		"event":   {sse.Heartbeat{Event: sse.Event{Name: "beat", Data: "x"}}, "event: beat\ndata: x\n\n"},
		"provider": {sse.Heartbeat{Provider: func() sse.Event {
			calls.Add(1)
			return sse.Event{Name: "beat", Data: "y"}
		}}, "event: beat\ndata: y\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				beats := make(chan sse.Sent, 10_000)
				tt := tt
				tt.heartbeat.Period = 3 * time.Millisecond
				a := t.start(plan{sse: sse.Config{Heartbeat: tt.heartbeat, OnSend: func(_ *sse.ServerSession, sent sse.Sent) {
					if sent.Heartbeat {
						beats <- sent
					}
				}}})
				s := a.connect("/")
				require.NotEmpty(t, s.block().ID)
				for range 5 {
					require.Equal(t, tt.want, s.block().text)
				}
				require.Equal(t, len(tt.want), receive(t, beats).Bytes)
				a.publish("a", sse.Event{Data: "1"})
				for {
					b := s.block()
					if b.Data == "1" {
						break
					}
					require.Equal(t, tt.want, b.text)
				}
				require.Equal(t, tt.want, s.block().text, "and on it goes")
			})
		})
	}
	t.Cleanup(func() { assert.Positive(t, calls.Load()) })
}

func TestSessionHeartbeatProviderThatPanics(t *testing.T) {
	forEach(t, func(t *test) {
		left := make(chan error, 1)
		var beats atomic.Int32
		a := t.start(plan{
			hub: hub.Config{OnLeave: func(_ *hub.Member, _ string, cause error) { left <- cause }},
			sse: sse.Config{Heartbeat: sse.Heartbeat{Period: time.Millisecond, Provider: func() sse.Event {
				if beats.Add(1) == 5 {
					panic("of the provider")
				}
				return sse.Event{Data: "beat"}
			}}},
		})
		s := a.connect("/")
		_, err := s.rest()
		require.Error(t, err)
		require.Equal(t, sse.EndPanic, a.end().Reason)
		require.ErrorContains(t, receive(t, left), "of the provider")
	})
}

// What the sends of a session are called with adds up to what its end says, and to
// what the client gets.
func TestSessionHooksAndNumbers(t *testing.T) {
	forEach(t, func(t *test) {
		var mu sync.Mutex
		var bytes, events, opens int
		a := t.start(plan{
			small: true,
			sse: sse.Config{
				Retry:  4 * time.Second,
				OnOpen: func(*sse.ServerSession) { mu.Lock(); defer mu.Unlock(); opens++ },
				OnSend: func(_ *sse.ServerSession, sent sse.Sent) {
					mu.Lock()
					defer mu.Unlock()
					noError(t, sent.Err)
					assert.Positive(t, sent.Bytes)
					assert.False(t, sent.Heartbeat)
					assert.GreaterOrEqual(t, sent.Duration, time.Duration(0))
					bytes += sent.Bytes
				},
			},
		})
		s := a.connectSlow("/")
		require.Equal(t, 4*time.Second, s.block().Retry)
		for i := range 100 {
			a.publish("a", numbered(i))
		}
		got := int64(len("retry: 4000\n\n") + len(s.block().text))
		for events < 100 {
			b := s.block()
			require.Equal(t, events, number(t, b.Event))
			got += int64(len(b.text))
			events++
		}
		require.NoError(t, a.Shutdown(t.Context()))
		b := s.block()
		require.NotZero(t, b.Retry)
		got += int64(len(b.text))
		s.expectEnd()
		e := a.end()
		require.Equal(t, got, e.Bytes)
		require.EqualValues(t, 101, e.Events, "the id at the beginning is one")
		require.True(t, e.Opened)
		require.NoError(t, e.Err)
		require.Positive(t, e.Duration)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 1, opens)
		require.EqualValues(t, got, bytes)
	})
}

// A hook that panics ends the session, wherever the hub happens to call it.
func TestSessionHookThatPanics(t *testing.T) {
	for name, stall := range map[string]bool{"at once": false, "of a slow client": true} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				var armed atomic.Bool
				a := t.start(plan{small: true, sse: sse.Config{OnSend: func(*sse.ServerSession, sse.Sent) {
					if armed.Load() {
						armed.Store(false)
						panic("of OnSend")
					}
				}}})
				s := a.connectSlow("/")
				if stall {
					a.stall("a", s)
					armed.Store(true)
				} else {
					a.joined("a", 1)
					armed.Store(true)
					a.publish("a", sse.Event{Data: "1"})
				}
				_, err := s.rest()
				require.Error(t, err)
				require.Equal(t, sse.EndPanic, a.end().Reason)
				a.joined("a", 0)
			})
		})
	}
}

// exchange is what goes over a connection of HTTP/1.x, without dates and epochs, and
// without what becomes of the connection: a detached one is not used again.
func exchange(t testing.TB, a *app, request string, script func()) (head, body string, whole bool) {
	t.Helper()
	conn := a.rawConn()
	defer conn.Close()
	_, err := io.WriteString(conn, request)
	require.NoError(t, err)
	a.joined("a", 1)
	script()
	var raw bytes.Buffer
	r := bufio.NewReader(io.TeeReader(conn, &raw))
	resp, err := http.ReadResponse(r, nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	head, _, _ = strings.Cut(raw.String(), "\r\n\r\n")
	epoch, _, _ := strings.Cut(a.Position().String(), "-")
	text := strings.ReplaceAll(string(b), epoch, "epoch")
	text = regexp.MustCompile(`retry: \d+`).ReplaceAllString(text, "retry: n")
	if strings.Contains(request, "HTTP/1.1") {
		require.Equal(t, a.tr.detached || strings.Contains(request, "Connection: close"), strings.Contains(head, "\r\nConnection: close"), head)
	}
	return regexp.MustCompile(`Date: .*\r\n|Connection: .*\r\n`).ReplaceAllString(head+"\r\n", ""), text, err == nil
}

// A client cannot tell whether its session is detached.
func TestDetachedLooksTheSame(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		request string
		end     func(a *app)
		broken  bool
	}{
		"HTTP/1.1 and Shutdown": {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", func(a *app) { noError(a.t, a.Shutdown(a.t.Context())) }, false},
		"HTTP/1.1 and Kick":     {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", func(a *app) { a.Kick("a", nil) }, false},
		"HTTP/1.1 and a panic":  {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", func(a *app) { a.publish("a", sse.Event{Name: "panic"}) }, true},
		"a gap":                 {"GET / HTTP/1.1\r\nHost: test\r\nLast-Event-ID: nonsense\r\n\r\n", func(a *app) { a.Kick("a", nil) }, false},
		"Connection: close":     {"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", func(a *app) { a.Kick("a", nil) }, false},
		"HTTP/1.0":              {"GET / HTTP/1.0\r\nHost: test\r\n\r\n", func(a *app) { a.Kick("a", nil) }, false},
		"HTTP/1.0, kept alive":  {"GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n", func(a *app) { a.Kick("a", nil) }, false},
		"middleware's headers":  {"GET / HTTP/1.1\r\nHost: test\r\nX-Set: y\r\n\r\n", func(a *app) { a.Kick("a", nil) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var heads, bodies []string
			var ends []sse.End
			for _, tr := range transports {
				if tr.major != 1 || tr.tls {
					continue
				}
				a := tr.start(t, plan{
					sse: sse.Config{Retry: time.Second},
					use: []func(http.Handler) http.Handler{func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							if set := r.Header.Get("X-Set"); set != "" {
								w.Header()["X-Set"] = []string{"1", set}
								http.SetCookie(w, &http.Cookie{Name: "c", Value: "v"})
							}
							next.ServeHTTP(w, r)
						})
					}},
					sub: hub.Subscription{Filter: func(m *hub.Message) bool {
						if m.Event.Name == "panic" {
							panic("of the filter")
						}
						return true
					}},
				})
				head, body, whole := exchange(t, a, tt.request, func() {
					before := a.Stats().Delivered
					for i := range 10 {
						a.publish("a", sse.Event{Name: "n", Data: strconv.Itoa(i)})
					}
					a.publish("a", sse.Event{Data: strings.Repeat("large\n", 5_000), ID: "own"})
					a.publish("a", sse.Event{})
					a.publish("a", sse.Event{Comment: "c", Retry: time.Second})
					eventually(t, func() bool { return a.Stats().Delivered == before+13 }, "all of it")
					tt.end(a)
				})
				require.Equal(t, !tt.broken, whole)
				e := a.end()
				e.Duration, e.Err = 0, nil
				heads, bodies, ends = append(heads, head), append(bodies, body), append(ends, e)
			}
			require.Len(t, heads, 2)
			require.Equal(t, heads[0], heads[1])
			require.Equal(t, bodies[0], bodies[1])
			require.Contains(t, bodies[0], "data: large\ndata: large\n")
			require.Equal(t, ends[0], ends[1])
		})
	}
}

// What stands around the handler has seen a request that was answered with status 200
// and what was written by then.
func TestMiddlewareSeesAnAnswer(t *testing.T) {
	forEach(t, func(t *test) {
		type answer struct{ status, bytes int }
		answers := make(chan answer, 1)
		var access syncBuffer
		a := t.start(plan{
			use: []func(http.Handler) http.Handler{
				middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: &printer{&access}, NoColor: true}),
				func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
						next.ServeHTTP(ww, r)
						answers <- answer{ww.Status(), ww.BytesWritten()}
					})
				},
			},
			sub: hub.Subscription{Start: hub.Beginning},
		})
		a.publishN("a", 1, 3)
		s := a.connect("/")
		read := 0
		for range 3 {
			b := s.block()
			require.False(t, b.silent)
			read += len(b.text)
		}
		if !t.detached {
			a.joined("a", 1)
			a.Kick("a", nil)
		}
		require.Equal(t, answer{http.StatusOK, read}, receive(t, answers))
		eventually(t, func() bool { return access.String() != "" }, "a line of the log")
		require.Contains(t, access.String(), fmt.Sprintf(" - 200 %dB in ", read))
	})
}

// printer is a middleware.LoggerInterface.
type printer struct{ w io.Writer }

func (p *printer) Print(v ...any) { fmt.Fprintln(p.w, v...) }

func TestMiddlewareAround(t *testing.T) {
	for name, use := range map[string]func(http.Handler) http.Handler{
		"Recoverer":  middleware.Recoverer,
		"Timeout":    middleware.Timeout(time.Nanosecond),
		"Timeout 10": middleware.Timeout(10 * time.Millisecond),
		"Compress":   middleware.Compress(5),
		"Throttle":   middleware.Throttle(10),
		"NoCache":    middleware.NoCache,
		"late write": func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				w.Header().Set("X-Late", "1")
				w.WriteHeader(http.StatusTeapot)
				io.WriteString(w, "data: late\n\n")
				_ = http.NewResponseController(w).Flush()
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(plan{
					use:     []func(http.Handler) http.Handler{use, middleware.RequestID},
					sub:     hub.Subscription{Start: hub.Beginning},
					expects: []string{"response.WriteHeader on hijacked connection", "response.Write on hijacked connection"},
				})
				a.publishN("a", 1, 3)
				s := a.connect("/", "Accept-Encoding", "gzip")
				require.Empty(t, s.Header.Get("X-Late"))
				s.expectN(1, 3)
				a.joined("a", 1)
				for m := range a.Members("a") {
					require.Equal(t, "/", chi.RouteContext(m.Session().Call().Context()).RoutePattern())
					if !t.detached {
						require.NotEmpty(t, middleware.GetReqID(m.Session().Context()), "it has the values of middleware")
					}
					_, ok := m.Session().Context().Deadline()
					require.False(t, ok)
				}
				for i := 4; i < 20; i++ {
					time.Sleep(time.Millisecond) // past the Timeout's end
					a.publish("a", sse.Event{Data: strconv.Itoa(i)})
					s.expect(strconv.Itoa(i))
				}
				s = a.reconnect(s)
				a.joined("a", 1)
				require.NoError(t, a.Shutdown(t.Context()))
				s.expectEnd()
			})
		})
	}
}

// An idle session that is detached has no goroutine.
func TestDetachedSessionsHaveNoGoroutines(t *testing.T) {
	const n = 200
	for _, tr := range transports {
		if !tr.detached {
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			if runtime.GOOS != "linux" {
				t.Skip("a goroutine waits for the client's leaving")
			}
			a := tr.start(t, plan{})
			before := runtime.NumGoroutine()
			conns := make([]net.Conn, n)
			for i := range conns {
				conns[i] = a.rawConn()
				_, err := io.WriteString(conns[i], "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
				require.NoError(t, err)
			}
			a.joined("a", n)
			goroutinesBackTo(t, before+5)
			a.publish("a", sse.Event{Data: "1"})
			for _, conn := range conns {
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				require.NoError(t, err)
				s := &stream{Response: resp, t: t, r: bufio.NewReader(resp.Body)}
				s.expect("1")
			}
			goroutinesBackTo(t, before+5)
			for _, conn := range conns {
				conn.Close()
			}
			a.joined("a", 0)
			goroutinesBackTo(t, before)
		})
	}
}

// A detached client that leaves is noticed, whichever way it goes.
func TestDetachedClientThatLeaves(t *testing.T) {
	for name, leave := range map[string]func(conn net.Conn){
		"closed":      func(conn net.Conn) { conn.Close() },
		"half closed": func(conn net.Conn) { _ = conn.(*net.TCPConn).CloseWrite() },
		"reset": func(conn net.Conn) {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, tr := range transports {
				if tr.major != 1 || tr.tls {
					continue
				}
				left := make(chan error, 1)
				a := tr.start(t, plan{hub: hub.Config{OnLeave: func(_ *hub.Member, _ string, cause error) { left <- cause }}})
				conn := a.rawConn()
				_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
				require.NoError(t, err)
				a.joined("a", 1)
				leave(conn)
				require.ErrorIs(t, receive(t, left), sse.ErrClientGone)
				require.Equal(t, sse.EndClientGone, a.end().Reason)
			}
		})
	}
}

// Serve does without detaching where it cannot.
func TestDetachedIsNotWhereTheConnectionCannotBeHad(t *testing.T) {
	forEach(t, func(t *test) {
		if !t.detached && t.major == 1 {
			return
		}
		returned := make(chan error, 1)
		hide := func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(struct {
					http.ResponseWriter
					http.Flusher
				}{w, w.(http.Flusher)}, r)
			})
		}
		p := plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			err := h.Serve(s, sub)
			returned <- err
			return err
		}}
		if t.detached {
			p.server = func(_ *app, srv *http.Server) { srv.Handler = hide(srv.Handler) }
		} else {
			t.detached = true // of HTTP/2
		}
		a := t.start(p)
		s := a.connect("/")
		a.joined("a", 1)
		a.publishN("a", 1, 3)
		s.expectN(1, 3)
		require.Empty(t, returned)
		a.Kick("a", errOwn)
		require.ErrorIs(t, receive(t, returned), errOwn)
		s.expectEnd()
	})
}

func TestNothingIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			a := tr.start(t, plan{
				small: true,
				hub:   hub.Config{LogEvents: 50},
				sse:   sse.Config{Heartbeat: sse.Heartbeat{Period: time.Millisecond}, WriteTimeout: 100 * time.Millisecond},
				sub:   hub.Subscription{Start: hub.Beginning, Slow: hub.SlowSkip},
			})
			var clients sync.WaitGroup
			stop := make(chan struct{})
			for i := range 12 {
				clients.Go(func() {
					c := a.client
					if i%4 == 0 {
						c = a.newClient(true)
					}
					for n := range 10 {
						s, err := a.try(c, fmt.Sprintf("/?topic=a&topic=t%d", i%3))
						if !noError(t, err) {
							return
						}
						for range n * i {
							if _, err := s.tryBlock(); err != nil {
								break
							}
						}
						if i%4 == 0 && n == 5 {
							<-stop // it does not read
						}
						s.leave()
					}
				})
			}
			done := make(chan struct{})
			var publisher sync.WaitGroup
			publisher.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-done:
						return
					default:
						e := sse.Event{Data: strconv.Itoa(i)}
						if i%10 == 0 {
							e.Data = padding
						}
						_, err := a.Publish(t.Context(), []string{"a", "t0", "t1", "t2"}[i%4], e)
						noError(t, err)
						if i == 3000 {
							close(stop)
						}
						if i%10 == 0 {
							time.Sleep(100 * time.Microsecond)
						}
					}
				}
			})
			clients.Wait()
			close(done)
			publisher.Wait()
			require.NoError(t, a.Shutdown(t.Context()))
		})
		goroutinesBackTo(t, before)
	}
}
