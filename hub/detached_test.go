package hub_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// exchange sends request over a new HTTP/1.x connection, runs script, and returns the
// response's head and body, and whether the body is complete. It removes dates, epochs and
// the Connection header, which differs: a detached connection is not used again.
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
		"HTTP/1.1 and Shutdown": {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", func(a *app) { testkit.NoError(a.t, a.Shutdown(a.t.Context())) }, false},
		"HTTP/1.1 and Kick":     {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", func(a *app) { a.kick("a", nil) }, false},
		"HTTP/1.1 and a panic":  {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", func(a *app) { a.publish("a", sse.Event{Name: "panic"}) }, true},
		"a gap":                 {"GET / HTTP/1.1\r\nHost: test\r\nLast-Event-ID: nonsense\r\n\r\n", func(a *app) { a.kick("a", nil) }, false},
		"Connection: close":     {"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", func(a *app) { a.kick("a", nil) }, false},
		"HTTP/1.0":              {"GET / HTTP/1.0\r\nHost: test\r\n\r\n", func(a *app) { a.kick("a", nil) }, false},
		"HTTP/1.0, kept alive":  {"GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n", func(a *app) { a.kick("a", nil) }, false},
		"middleware's headers":  {"GET / HTTP/1.1\r\nHost: test\r\nX-Set: y\r\n\r\n", func(a *app) { a.kick("a", nil) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var heads, bodies []string
			var ends []sse.End
			for _, tr := range transports {
				if tr.protocol.Name != testkit.HTTP1.Name {
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
					a.publish("a", sse.Event{Data: strings.Repeat("large\n", 5_000)})
					a.publish("a", sse.Event{})
					a.publish("a", sse.Event{Comment: "c", Retry: time.Second})
					testkit.Eventually(t, func() bool { return a.Stats().Delivered == before+13 }, "the delivery of all 13 events")
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

// A detached session that is idle has no goroutine.
func TestDetachedSessionsHaveNoGoroutines(t *testing.T) {
	const n = 200
	for _, tr := range transports {
		if !tr.detached {
			continue
		}
		t.Run(tr.name, func(t *testing.T) {
			if runtime.GOOS != "linux" {
				t.Skip("on this system a goroutine for each session waits for the client to leave")
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
			testkit.GoroutinesBackTo(t, before+5)
			a.publish("a", sse.Event{Data: "1"})
			for _, conn := range conns {
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				require.NoError(t, err)
				s := &stream{Response: resp, t: t, r: bufio.NewReader(resp.Body)}
				s.expect("1")
			}
			testkit.GoroutinesBackTo(t, before+5)
			for _, conn := range conns {
				conn.Close()
			}
			a.joined("a", 0)
			testkit.GoroutinesBackTo(t, before)
		})
	}
}

// The hub notices that the client of a detached session leaves, however it does.
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
				if tr.protocol.Name != testkit.HTTP1.Name {
					continue
				}
				left := make(chan error, 1)
				a := tr.start(t, plan{hub: hub.Config{OnLeave: func(_ *hub.Member, _ string, cause error) { left <- cause }}})
				conn := a.rawConn()
				_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
				require.NoError(t, err)
				a.joined("a", 1)
				leave(conn)
				require.ErrorIs(t, testkit.Receive(t, left), sse.ErrClientGone)
				require.Equal(t, sse.EndClientGone, a.end().Reason)
			}
		})
	}
}

// Where Serve cannot take over the connection, it works without detaching.
func TestDetachedIsNotWhereTheConnectionCannotBeHad(t *testing.T) {
	forEach(t, func(t *test) {
		if !t.detached && t.protocol.Proto == "HTTP/1.1" {
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
			t.detached = true // which HTTP/2 cannot be
		}
		a := t.start(p)
		s := a.connect("/")
		a.joined("a", 1)
		a.publishN("a", 1, 3)
		s.expectN(1, 3)
		require.Empty(t, returned)
		a.kick("a", errOwn)
		require.ErrorIs(t, testkit.Receive(t, returned), errOwn)
		s.expectEnd()
	})
}

// A session that is open when Serve is called has told its client whether the connection can be
// used again. If it can, the connection stays with net/http, and the next request finds it open.
func TestDetachedKeepsWhatTheHeadHasPromised(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		open     func(s *sse.ServerSession) error
		delay    time.Duration
		detaches bool
	}{
		"not open":        {func(*sse.ServerSession) error { return nil }, -1, true},
		"a Send":          {func(s *sse.ServerSession) error { return s.SendData("0") }, -1, false},
		"the OpenDelay":   {func(*sse.ServerSession) error { time.Sleep(50 * time.Millisecond); return nil }, time.Millisecond, false},
		"closed, a Send":  {func(s *sse.ServerSession) error { s.Header().Set("Connection", "close"); return s.SendData("0") }, -1, true},
		"closed, no Send": {func(s *sse.ServerSession) error { s.Header().Set("Connection", "close"); return nil }, -1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, tr := range transports {
				if !tr.detached || tr.protocol.Name != testkit.HTTP1.Name {
					continue
				}
				returned := make(chan error, 1)
				a := tr.start(t, plan{sse: sse.Config{OpenDelay: tt.delay}, serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
					if err := tt.open(s); err != nil {
						return err
					}
					err := h.Serve(s, sub)
					returned <- err
					return err
				}})
				conn := a.rawConn()
				t.Cleanup(func() { conn.Close() })
				r := bufio.NewReader(conn)
				for range 3 {
					_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
					require.NoError(t, err)
					a.joined("a", 1)
					resp, err := http.ReadResponse(r, nil)
					require.NoError(t, err)
					require.Equal(t, tt.detaches, resp.Close, "what the head says")
					if tt.detaches {
						require.NoError(t, testkit.Receive(t, returned))
						conn.Close()
						resp.Body.Close() // which reads what is left
						break
					}
					require.Empty(t, returned)
					a.kick("a", nil)
					_, err = io.Copy(io.Discard, resp.Body)
					require.NoError(t, err)
					require.Error(t, testkit.Receive(t, returned))
					resp.Body.Close()
				}
			}
		})
	}
}
