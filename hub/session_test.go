package hub_test

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
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
				testkit.Eventually(t, func() bool { return a.plugin.Len() == 1 }, "one session")
				s3 := a.connect("/")
				a.joined("a", 2)
				require.Equal(t, http.StatusServiceUnavailable, a.dial("/").StatusCode)
				a.publish("a", sse.Event{Data: "1"})
				s2.expect("1")
				s3.expect("1")
				require.Equal(t, 2, a.kick("a", nil))
				testkit.Eventually(t, func() bool { return a.plugin.Len() == 0 }, "the session to end")
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
				require.Equal(t, len(tt.want), testkit.Receive(t, beats).Bytes)
				a.publish("a", sse.Event{Data: "1"})
				for {
					b := s.block()
					if b.Data == "1" {
						break
					}
					require.Equal(t, tt.want, b.text)
				}
				require.Equal(t, tt.want, s.block().text, "and the next one")
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
		require.ErrorContains(t, testkit.Receive(t, left), "of the provider")
	})
}

// The bytes of all OnSend calls are the bytes in the session's End, and those that the
// client gets.
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
					testkit.NoError(t, sent.Err)
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
		require.EqualValues(t, 101, e.Events, "the id at the beginning counts as an event")
		require.True(t, e.Opened)
		require.NoError(t, e.Err)
		require.Positive(t, e.Duration)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, 1, opens)
		require.EqualValues(t, got, bytes)
	})
}

// A hook that panics ends the session, whichever goroutine of the hub calls it.
func TestSessionHookThatPanics(t *testing.T) {
	for name, slow := range map[string]bool{"at once": false, "of a slow client": true} {
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
				if slow {
					a.blockWrite("a", s)
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
			var failed atomic.Int64 // requests
			stop := make(chan struct{})
			for i := range 12 {
				clients.Go(func() {
					c := a.client
					if i%4 == 0 {
						c = a.newClient(true)
					}
					for n := range 10 {
						s, err := a.try(c, fmt.Sprintf("/?topic=a&topic=t%d", i%3))
						if err != nil { // on a busy machine, the head can take longer than the WriteTimeout
							failed.Add(1)
							continue
						}
						for range n * i {
							if _, err := s.tryBlock(); err != nil {
								break
							}
						}
						if i%4 == 0 && n == 5 {
							<-stop // the client does not read meanwhile
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
						testkit.NoError(t, err)
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
			testkit.Eventually(t, func() bool { return a.plugin.Len() == 0 }, "the end of all sessions")
			late := int64(0)
			for range len(a.ends) {
				if e := a.end(); e.Reason == sse.EndWriteTimeout {
					late++
				}
			}
			require.LessOrEqual(t, failed.Load(), late, "a request failed for another reason")
		})
		testkit.GoroutinesBackTo(t, before)
	}
}
