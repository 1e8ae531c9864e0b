package sse_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// lateness is how late a session may expire.
const lateness = time.Second / 8

// When a session ends after calls of EndAt. (Tests here that take much of the processor are not
// parallel, because others need it to be in time.)
func TestEndAt(t *testing.T) {
	in := func(s *sse.ServerSession, d time.Duration) { s.EndAt(time.Now().Add(d), nil) }
	for name, tt := range map[string]struct {
		calls   func(s *sse.ServerSession)
		options []sse.RouteOption
		at      time.Duration // 0: not within a day
	}{
		"once":                    {func(s *sse.ServerSession) { in(s, time.Minute) }, nil, time.Minute},
		"between two looks":       {func(s *sse.ServerSession) { in(s, 1234567*time.Microsecond) }, nil, 1234567 * time.Microsecond},
		"sooner":                  {func(s *sse.ServerSession) { in(s, time.Hour); in(s, time.Second) }, nil, time.Second},
		"later":                   {func(s *sse.ServerSession) { in(s, time.Second); in(s, time.Hour) }, nil, time.Hour},
		"a renewal":               {func(s *sse.ServerSession) { in(s, time.Second); time.Sleep(time.Second / 2); in(s, time.Second) }, nil, time.Second * 3 / 2},
		"removed":                 {func(s *sse.ServerSession) { in(s, time.Second); s.EndAt(time.Time{}, errOwn) }, nil, 0},
		"removed, without one":    {func(s *sse.ServerSession) { s.EndAt(time.Time{}, nil) }, nil, 0},
		"a wall clock's time":     {func(s *sse.ServerSession) { s.EndAt(time.Now().Add(time.Minute).Round(0), nil) }, nil, time.Minute},
		"in a thousand years":     {func(s *sse.ServerSession) { s.EndAt(time.Now().AddDate(1000, 0, 0), nil) }, nil, 0},
		"before the max age":      {func(s *sse.ServerSession) { in(s, time.Second) }, []sse.RouteOption{sse.WithMaxAge(time.Minute)}, time.Second},
		"one day, and no more":    {func(s *sse.ServerSession) { in(s, 24*time.Hour-time.Minute) }, nil, 24*time.Hour - time.Minute},
		"at once, after a second": {func(s *sse.ServerSession) { time.Sleep(time.Second); in(s, -time.Hour) }, nil, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := sse.Config{Heartbeat: sse.Heartbeat{Period: -1}}
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				r.SSE("/", func(s *sse.ServerSession) error {
					if err := s.Open(); err != nil {
						return err
					}
					tt.calls(s)
					<-s.Done()
					return s.SendData("late")
				}, tt.options...)
				began := time.Now()
				s := servePipe(t, r).connect("/")
				go io.Copy(io.Discard, s.Body) //nolint:errcheck // it reads what there is
				select {
				case e := <-ends:
					require.NotZero(t, tt.at, "it has ended after %v", time.Since(began))
					require.Equal(t, sse.EndExpired, e.Reason)
					require.NoError(t, e.Err)
					late := time.Since(began) - tt.at
					require.True(t, late >= 0 && late <= lateness, "%v late", late)
				case <-time.After(24 * time.Hour):
					require.Zero(t, tt.at, "it has not ended")
				}
			})
		})
	}
}

// After EndAt, a max age ends a session as before.
func TestMaxAgeStaysAfterEndAt(t *testing.T) {
	for name, calls := range map[string]func(s *sse.ServerSession){
		"without EndAt": func(*sse.ServerSession) {},
		"a later time":  func(s *sse.ServerSession) { s.EndAt(time.Now().Add(time.Hour), errOwn) },
		"removed":       func(s *sse.ServerSession) { s.EndAt(time.Now().Add(time.Second), errOwn); s.EndAt(time.Time{}, nil) },
		"removed twice": func(s *sse.ServerSession) { s.EndAt(time.Time{}, nil); s.EndAt(time.Time{}, errOwn) },
		"sooner, then later": func(s *sse.ServerSession) {
			s.EndAt(time.Now().Add(time.Second), errOwn)
			s.EndAt(time.Now().Add(time.Hour), errOwn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := sse.Config{}
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				r.SSE("/", func(s *sse.ServerSession) error {
					calls(s)
					return untilDone(s)
				}, sse.WithMaxAge(100*time.Second))
				p := servePipe(t, r)
				began := time.Now()
				for range 100 {
					s := p.connect("/")
					go io.Copy(io.Discard, s.Body) //nolint:errcheck // it reads what there is
				}
				ages := map[time.Duration]bool{}
				for range 100 {
					e := <-ends
					require.Equal(t, sse.EndExpired, e.Reason)
					require.NoError(t, e.Err, "the cause is that of the max age")
					age := time.Since(began)
					require.GreaterOrEqual(t, age, 80*time.Second)
					require.LessOrEqual(t, age, 100*time.Second+lateness)
					ages[age/time.Second] = true
				}
				require.Greater(t, len(ages), 15, "the ages are spread over 20 seconds")
			})
		})
	}
}

// The client is told when to come back, and the next opening tells it the usual time.
func TestExpiryTellsARetry(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg      sse.Config
		options  []sse.RouteOption
		opening  time.Duration // the retry that an opening tells
		from, to time.Duration // of the farewell's
	}{
		"none":           {sse.Config{}, nil, 0, 0, 0},
		"the plugin's":   {sse.Config{Retry: time.Second}, nil, time.Second, time.Second, time.Second * 3 / 2},
		"the route's":    {sse.Config{Retry: time.Second}, []sse.RouteOption{sse.WithRetry(2 * time.Second)}, 2 * time.Second, 2 * time.Second, 3 * time.Second},
		"a max age":      {sse.Config{}, []sse.RouteOption{sse.WithMaxAge(time.Hour)}, 3 * time.Second, 3 * time.Second, 4500 * time.Millisecond},
		"a max age, too": {sse.Config{}, []sse.RouteOption{sse.WithMaxAge(time.Hour), sse.WithRetry(0)}, 3 * time.Second, 3 * time.Second, 4500 * time.Millisecond},
		"both":           {sse.Config{Retry: time.Second}, []sse.RouteOption{sse.WithMaxAge(time.Hour)}, time.Second, time.Second, time.Second * 3 / 2},
		"at once":        {sse.Config{Retry: sse.RetryImmediately}, nil, sse.RetryImmediately, time.Millisecond, 2 * time.Millisecond},
	} {
		for _, opened := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " opened ", opened), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r := newRouter(tt.cfg)
					r.SSE("/", func(s *sse.ServerSession) error {
						if opened {
							testkit.NoError(t, s.Comment("hello"))
						}
						s.EndAt(time.Unix(1, 0), errOwn)
						return nil
					}, tt.options...)
					p := servePipe(t, r)
					for range 20 {
						body, err := p.connect("/").rest()
						require.NoError(t, err)
						if opened {
							want := ": hello\n\n"
							if tt.opening != 0 {
								want = fmt.Sprintf("retry: %d\n\n: hello\n\n", max(0, tt.opening.Milliseconds()))
							}
							require.True(t, strings.HasPrefix(body, want), "%q", body)
							body = body[len(want):]
						}
						if tt.to == 0 {
							require.Empty(t, body)
							continue
						}
						var ms int64
						_, err = fmt.Sscanf(body, "retry: %d\n\n", &ms)
						require.NoError(t, err, "%q", body)
						require.Equal(t, fmt.Sprintf("retry: %d\n\n", ms), body)
						require.GreaterOrEqual(t, ms, tt.from.Milliseconds())
						require.Less(t, ms, tt.to.Milliseconds())
					}
				})
			})
		}
	}
}

// What the hub had to send by the expiry arrives, and nothing later does, in each mode.
func TestExpiryCutsAtTheHubsHead(t *testing.T) {
	t.Parallel()
	for _, detached := range []bool{false, true} {
		for _, proto := range protocols {
			t.Run(fmt.Sprint("detached ", detached, " over ", proto.Name), func(t *testing.T) {
				t.Parallel()
				h, err := hub.New(hub.Config{Detached: detached})
				require.NoError(t, err)
				joined := make(chan *sse.ServerSession, 1)
				r := newRouter(sse.Config{})
				r.SSE("/", func(s *sse.ServerSession) error {
					return h.Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning, Snapshot: func(s *sse.ServerSession, p hub.Position) (hub.Position, error) {
						joined <- s
						return p, nil
					}})
				})
				publish := func(data string) {
					_, err := h.Publish(t.Context(), "a", sse.Event{Data: data})
					require.NoError(t, err)
				}
				srv := serve(t, r, proto.Setup)
				for range 20 {
					c := connect(t, srv, "/")
					s := testkit.Receive(t, joined)
					testkit.Eventually(t, func() bool { return h.Count("a") == 1 }, "the member")
					publish("before")
					s.EndAt(time.Now().Add(-1), nil)
					publish("after")
					require.Zero(t, h.Count("a"), "it is still present")
					require.ErrorIs(t, s.SendData("after"), sse.ErrExpired)
					body, err := c.rest()
					require.NoError(t, err)
					require.Contains(t, body, "data: before\n")
					require.NotContains(t, body, "after")
				}
			})
		}
	}
}

// Over HTTP/2, and HTTP/1.1 without a hub that detaches, the connection stays after an expiry.
func TestExpiryKeepsTheConnection(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			remotes := make(chan string, 3)
			r := newRouter(sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error {
				remotes <- s.Call().RemoteAddr
				err := s.SendData("open")
				s.EndAt(time.Now().Add(time.Millisecond), nil)
				<-s.Done()
				return err
			})
			srv := serve(t, r, proto.Setup)
			for range 3 {
				c := connect(t, srv, "/")
				require.Equal(t, "open", c.nextData())
				c.end()
			}
			first := <-remotes
			require.Equal(t, first, <-remotes)
			require.Equal(t, first, <-remotes)
		})
	}
}

// A client that takes nothing delays the end for a second at most, whatever the write timeout is.
func TestExpiryOfAStalledSession(t *testing.T) {
	t.Parallel()
	for _, by := range []string{byHandler, byHub, byDetachingHub} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			cfg := sse.Config{WriteTimeout: time.Hour}
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			h, err := hub.New(hub.Config{Detached: by == byDetachingHub})
			require.NoError(t, err)
			large := strings.Repeat("x", 16<<20)
			sending := make(chan *sse.ServerSession, 1)
			r.SSE("/", func(s *sse.ServerSession) error {
				testkit.NoError(t, s.Open())
				if by == byHandler {
					sending <- s
					return s.SendData(large)
				}
				sending <- s
				return h.Serve(s, hub.Subscription{Topics: []string{"a"}})
			})
			srv := serve(t, r, smallSendBuffer)
			conn := dialRaw(t, srv, "/")
			s := testkit.Receive(t, sending)
			if by != byHandler {
				testkit.Eventually(t, func() bool { return h.Count("a") == 1 }, "the member")
				_, err := h.Publish(t.Context(), "a", sse.Event{Data: large})
				require.NoError(t, err)
			}
			_, err = io.ReadFull(conn, make([]byte, 10_000)) // the write is under way
			require.NoError(t, err)
			s.EndAt(time.Now().Add(10*time.Millisecond), errOwn)
			e := testkit.Receive(t, ends)
			require.Equal(t, sse.EndExpired, e.Reason)
			require.ErrorIs(t, e.Err, sse.ErrExpired)
			require.ErrorIs(t, e.Err, errOwn)
			body, _ := io.ReadAll(conn)
			require.NotContains(t, string(body), "\r\n0\r\n\r\n", "it looks complete")
		})
	}
}

// An expiry before anything else, and the log of it.
func TestExpiryIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logs := testkit.NewLog()
		r := newRouter(sse.Config{Logger: logs.Logger()})
		r.SSE("/", func(s *sse.ServerSession) error {
			s.EndAt(time.Now().Add(time.Second), sse.ErrClientGone) // a cause that would mean another reason
			<-s.Done()
			testkit.ErrorIs(t, s.Open(), sse.ErrExpired)
			return s.Open()
		}, sse.WithOpenDelay(-1))
		c := servePipe(t, r).connect("/")
		c.end()
		synctest.Wait()
		entries := logs.Entries("session ended")
		require.Len(t, entries, 1)
		require.Equal(t, slog.LevelDebug, entries[0].Level)
		require.Contains(t, fmt.Sprint(entries[0]), "expired")
	})
}

// Many sessions of all modes expire, are kicked, leave and are shut down at the same time. Each
// ends once, for one of these reasons.
func TestExpiryRaces(t *testing.T) {
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			const n = 120
			cfg := sse.Config{WriteTimeout: time.Minute}
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			var hubs []*hub.Hub
			for _, detached := range []bool{false, true} {
				h, err := hub.New(hub.Config{Detached: detached})
				require.NoError(t, err)
				hubs = append(hubs, h)
				for range 50 {
					_, err = h.Publish(t.Context(), "a", sse.Event{Data: strings.Repeat("x", 2000)})
					require.NoError(t, err)
				}
			}
			var begun atomic.Int64
			r.SSE("/{n}", func(s *sse.ServerSession) error {
				begun.Add(1)
				s.EndAt(time.Now().Add(rand.N(300*time.Millisecond)), nil)
				var renewals sync.WaitGroup
				defer renewals.Wait()
				renewals.Go(func() {
					for range 5 {
						s.EndAt(time.Now().Add(rand.N(300*time.Millisecond)), errOwn)
						time.Sleep(rand.N(20 * time.Millisecond))
					}
					if rand.N(4) == 0 {
						s.EndAt(time.Now(), errOwn)
					}
				})
				if i := rand.N(3); i < 2 {
					return hubs[i].Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning})
				}
				return untilDone(s)
			}, sse.WithMaxAge(time.Second), sse.WithRecheck(30*time.Millisecond, func(*sse.ServerSession) error {
				if rand.N(20) == 0 {
					return errOwn
				}
				return nil
			}))
			srv := serve(t, r, proto.Setup)
			var clients sync.WaitGroup
			for i := range n {
				clients.Go(func() {
					time.Sleep(rand.N(200 * time.Millisecond))
					resp, err := srv.Client().Get(fmt.Sprint(srv.URL, "/", i))
					if err != nil {
						return // the session was broken
					}
					defer resp.Body.Close()
					if rand.N(5) > 0 {
						_, _ = io.Copy(io.Discard, resp.Body)
					}
				})
			}
			testkit.Eventually(t, func() bool { return begun.Load() > n/3 }, "a third of the sessions")
			for _, h := range hubs {
				_, err := h.Kick(t.Context(), "a", errOwn)
				require.NoError(t, err)
				_, err = h.Publish(t.Context(), "a", sse.Event{Data: "x"})
				require.NoError(t, err)
			}
			testkit.Eventually(t, func() bool { return begun.Load() > n*2/3 }, "two thirds of the sessions")
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
			defer cancel()
			require.NoError(t, r.Plugin().Shutdown(ctx))
			clients.Wait()
			reasons := map[sse.EndReason]int{}
			for range begun.Load() {
				e := testkit.Receive(t, ends)
				reasons[e.Reason]++
				switch e.Reason {
				case sse.EndExpired, sse.EndRevoked, sse.EndKicked, sse.EndShutdown, sse.EndClientGone:
				default:
					require.Fail(t, "unexpected end", "%v: %v", e.Reason, e.Err)
				}
			}
			require.Empty(t, ends)
			t.Log(reasons)
		})
	}
}

// Clients of a route with an age come back evenly, and lose nothing.
func TestRotation(t *testing.T) {
	for _, detached := range []bool{false, true} {
		t.Run(fmt.Sprint("detached ", detached), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testRotation(t, detached) })
		})
	}
}

func testRotation(t *testing.T, detached bool) {
	t.Helper()
	const (
		n      = 200
		age    = 10 * time.Minute
		events = 60 // one every 30 seconds
		slot   = 20 * time.Second
	)
	h, err := hub.New(hub.Config{Detached: detached, LogAge: time.Hour})
	require.NoError(t, err)
	var mu sync.Mutex
	openings := map[time.Duration]int{}
	began := time.Now()
	r := newRouter(sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, OnOpen: func(*sse.ServerSession) {
		mu.Lock()
		defer mu.Unlock()
		openings[time.Since(began)/slot]++
	}})
	r.SSE("/", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"a"}})
	}, sse.WithMaxAge(age), sse.WithRetry(time.Second))
	p := servePipe(t, r)
	httpClient := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			c, s := net.Pipe()
			p.conns <- s
			return c, nil
		},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := client.Install(httpClient, client.Config{MaxReconnectionAttempts: client.Unlimited})
	var got atomic.Int64
	var clients sync.WaitGroup
	for range n {
		clients.Go(func() {
			next := 0
			_ = c.SSE(ctx, "http://test/", func(s *client.Session) error {
				for ev, err := range s.Incoming() {
					if err != nil {
						return err
					}
					assert.Equal(t, fmt.Sprint(next), ev.Data)
					next++
					got.Add(1)
				}
				return nil
			})
		})
	}
	time.Sleep(time.Second)
	for i := range events {
		_, err := h.Publish(ctx, "a", sse.Event{Data: fmt.Sprint(i)})
		require.NoError(t, err)
		time.Sleep(30 * time.Second)
	}
	require.EqualValues(t, n*events, got.Load(), "events that arrived")
	cancel()
	clients.Wait()

	// All have opened at the same time. The first rotation takes a fifth of the age, and no time
	// of it may have many more openings than another.
	mu.Lock()
	defer mu.Unlock()
	most, later := 0, 0
	for at, openings := range openings {
		if at > 0 {
			most, later = max(most, openings), later+openings
		}
	}
	mean := float64(n) * float64(slot) / float64(age/5)
	t.Logf("%d openings later on, at most %d in %v; the mean of the first rotation is %.1f", later, most, slot, mean)
	require.Greater(t, later, 2*n)
	require.Less(t, float64(most), 2*mean)
}

func TestLifetimeOptionsPanic(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]func(){
		"sse: WithMaxAge(0s): the age must be positive; leave the option out for none": func() { sse.WithMaxAge(0) },
		"sse: WithRecheck(-1ns): the time between checks must be positive":             func() { sse.WithRecheck(-1, func(*sse.ServerSession) error { return nil }) },
		"sse: WithRecheck without a check":                                             func() { sse.WithRecheck(time.Second, nil) },
	} {
		require.Equal(t, want, panicOf(t, f))
	}
}
