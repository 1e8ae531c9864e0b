package hub_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// presence records the calls of the hooks: which member has joined which topic.
type presence struct {
	t      testing.TB
	mu     sync.Mutex
	in     map[string]bool // "member topic"
	joins  int
	causes []error
}

func (p *presence) config() hub.Config {
	p.in = make(map[string]bool)
	key := func(m *hub.Member, topic string) string { return fmt.Sprintf("%p %s", m, topic) }
	return hub.Config{
		OnJoin: func(m *hub.Member, topic string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			assert.False(p.t, p.in[key(m, topic)], "the member joins twice")
			p.in[key(m, topic)] = true
			p.joins++
		},
		OnLeave: func(m *hub.Member, topic string, cause error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			assert.True(p.t, p.in[key(m, topic)], "the member has not joined")
			delete(p.in, key(m, topic))
			p.causes = append(p.causes, cause)
		},
	}
}

// left waits until OnLeave has been called n times, and returns the causes.
func (p *presence) left(n int) []error {
	p.t.Helper()
	testkit.Eventually(p.t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.causes) == n
	}, fmt.Sprint(n, " to leave"))
	return p.causes
}

func TestPresenceCauses(t *testing.T) {
	for name, tt := range map[string]struct {
		leave  func(a *app, s *stream, m *hub.Member)
		cause  []error // errors that OnLeave's cause matches; nil: it is nil
		reason sse.EndReason
		broken bool
	}{
		"the client leaves": {func(_ *app, s *stream, _ *hub.Member) { s.leave() }, []error{sse.ErrClientGone}, sse.EndClientGone, true},
		"Unsubscribe":       {func(_ *app, _ *stream, m *hub.Member) { m.Unsubscribe("a", "b"); m.Session().Close() }, nil, sse.EndClosed, false},
		"Close":             {func(_ *app, _ *stream, m *hub.Member) { m.Session().Close() }, []error{sse.ErrClosed}, sse.EndClosed, false},
		"Member.Kick":       {func(_ *app, _ *stream, m *hub.Member) { m.Kick(errOwn) }, []error{hub.ErrKicked, errOwn, sse.ErrClosed}, sse.EndKicked, false},
		"without a reason":  {func(_ *app, _ *stream, m *hub.Member) { m.Kick(nil) }, []error{hub.ErrKicked}, sse.EndKicked, false},
		"Hub.Kick": {func(a *app, _ *stream, _ *hub.Member) {
			assert.Equal(a.t, 1, a.kick("b", errOwn))
			assert.Equal(a.t, 0, a.kick("none", errOwn))
		}, []error{hub.ErrKicked, errOwn}, sse.EndKicked, false},
		"Hub.Shutdown":    {func(a *app, _ *stream, _ *hub.Member) { testkit.NoError(a.t, a.Shutdown(context.Background())) }, []error{sse.ErrShutdown}, sse.EndShutdown, false},
		"Plugin.Shutdown": {func(a *app, _ *stream, _ *hub.Member) { testkit.NoError(a.t, a.plugin.Shutdown(context.Background())) }, []error{sse.ErrShutdown}, sse.EndShutdown, false},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				p := &presence{t: t}
				a := t.start(plan{hub: p.config()})
				s := a.connect("/?topic=a&topic=b")
				a.joined("b", 1)
				tt.leave(a, s, receiveMember(t, a, "a"))
				for _, cause := range p.left(2) {
					if tt.cause == nil {
						require.NoError(t, cause)
						continue
					}
					for _, target := range tt.cause {
						require.ErrorIs(t, cause, target)
					}
				}
				e := a.end()
				require.Equal(t, tt.reason, e.Reason)
				if slices.Contains(tt.cause, hub.ErrKicked) {
					require.ErrorIs(t, e.Err, hub.ErrKicked)
				}
				if !tt.broken {
					s.expectEnd()
				}
				require.Zero(t, a.Count("a"))
				require.Empty(t, slices.Collect(a.Members("b")))
				require.Zero(t, a.Stats().Topics)
			})
		})
	}
}

func TestPresenceIsConsistent(t *testing.T) {
	forEach(t, func(t *test) {
		p := &presence{t: t}
		cfg := p.config()
		var h atomic.Pointer[hub.Hub]
		check := func(m *hub.Member, topic string, in bool) {
			members := slices.Collect(h.Load().Members(topic))
			assert.Equal(t, in, slices.Contains(members, m))
			assert.LessOrEqual(t, len(members), 40)
		}
		onJoin, onLeave := cfg.OnJoin, cfg.OnLeave
		cfg.OnJoin = func(m *hub.Member, topic string) {
			onJoin(m, topic)
			if n := h.Load().Count(topic); slices.Contains(m.Topics(), topic) { // it is not kicked already
				assert.Positive(t, n, "the member counts itself")
			}
			_, err := h.Load().Publish(t.Context(), "presence", sse.Event{Data: "join"})
			testkit.NoError(t, err)
		}
		cfg.OnLeave = func(m *hub.Member, topic string, cause error) {
			check(m, topic, false)
			onLeave(m, topic, cause)
			_, err := h.Load().Publish(context.Background(), "presence", sse.Event{Data: "leave"})
			testkit.NoError(t, err)
		}
		a := t.start(plan{hub: cfg})
		h.Store(a.Hub)
		watcher := a.connect("/?topic=presence")
		watcher.expect("join") // its own event: it followed the topic before it joined
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				for n := range 3 {
					s, err := a.try(a.client, "/?topic=a&topic=b")
					if !testkit.NoError(t, err) {
						return
					}
					switch (i + n) % 3 {
					case 0:
						s.leave()
					case 1:
						a.kick("a", nil)
						s.leave()
					case 2:
						for m := range a.Members("b") {
							m.Unsubscribe("a")
						}
						s.leave()
					}
				}
			})
		}
		all.Wait()
		testkit.Eventually(t, func() bool { return a.Stats().Members == 1 }, "all members but one to leave")
		p.mu.Lock()
		require.Len(t, p.in, 1)
		joins, leaves := p.joins, len(p.causes)
		p.mu.Unlock()
		require.Equal(t, joins-1, leaves)
		for range joins - 1 + leaves {
			e := watcher.event()
			require.Contains(t, []string{"join", "leave"}, e.Data)
		}
		require.Zero(t, a.Count("a"))
		require.Zero(t, a.Count("b"))
		require.Equal(t, 1, a.Count("presence"))
	})
}

// A member is counted and listed when OnJoin is called, and no longer when OnLeave is
// called.
func TestPresenceInTheHooks(t *testing.T) {
	forEach(t, func(t *test) {
		type seen struct {
			what           string
			count, members int
		}
		var h atomic.Pointer[hub.Hub]
		told := make(chan seen, 10)
		look := func(what, topic string) {
			told <- seen{what, h.Load().Count(topic), len(slices.Collect(h.Load().Members(topic)))}
		}
		a := t.start(plan{hub: hub.Config{
			OnJoin:  func(_ *hub.Member, topic string) { look("join", topic) },
			OnLeave: func(_ *hub.Member, topic string, _ error) { look("leave", topic) },
		}})
		h.Store(a.Hub)
		s1 := a.connect("/")
		require.Equal(t, seen{"join", 1, 1}, testkit.Receive(t, told))
		s2 := a.connect("/")
		require.Equal(t, seen{"join", 2, 2}, testkit.Receive(t, told))
		s1.leave()
		require.Equal(t, seen{"leave", 1, 1}, testkit.Receive(t, told))
		s2.leave()
		require.Equal(t, seen{"leave", 0, 0}, testkit.Receive(t, told))
	})
}

func TestPresenceOfAClientThatLeavesWhileItJoins(t *testing.T) {
	forEach(t, func(t *test) {
		p := &presence{t: t}
		cfg := p.config()
		onJoin := cfg.OnJoin
		joining, goOn := make(chan *hub.Member, 1), make(chan struct{})
		cfg.OnJoin = func(m *hub.Member, topic string) {
			onJoin(m, topic)
			if topic == "a" {
				joining <- m
				<-goOn
			}
		}
		a := t.start(plan{hub: cfg})
		s := a.connect("/?topic=a&topic=b")
		m := testkit.Receive(t, joining)
		s.leave()
		testkit.Receive(t, m.Session().Done())
		close(goOn)
		for _, cause := range p.left(p.joined(t, a)) {
			require.ErrorIs(t, cause, sse.ErrClientGone)
		}
		require.Zero(t, a.Count("a"))
		require.Zero(t, a.Count("b"))
		require.Equal(t, sse.EndClientGone, a.end().Reason)
	})
}

// joined waits until all members have left, and returns how often OnJoin was called.
func (p *presence) joined(t testing.TB, a *app) int {
	t.Helper()
	testkit.Eventually(t, func() bool { return a.Stats().Members == 0 && a.plugin.Len() == 0 }, "all members to leave")
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.joins
}

func TestPresenceHooksMayDoAnything(t *testing.T) {
	forEach(t, func(t *test) {
		var h atomic.Pointer[hub.Hub]
		left := make(chan string, 10)
		a := t.start(plan{hub: hub.Config{
			OnJoin: func(m *hub.Member, topic string) {
				_, err := h.Load().Publish(t.Context(), topic, sse.Event{Data: "joined " + topic})
				testkit.NoError(t, err)
				switch topic {
				case "a":
					testkit.NoError(t, m.Subscribe("b", "c"))
				case "b":
					m.Unsubscribe("b")
				case "c":
					testkit.NoError(t, m.Session().Send(sse.Event{Data: "hello"}))
				case "kick":
					m.Kick(errOwn)
				}
			},
			OnLeave: func(m *hub.Member, topic string, _ error) {
				left <- topic
				_, err := h.Load().Publish(context.Background(), "a", sse.Event{Data: "left " + topic})
				testkit.NoError(t, err)
				if topic != "b" {
					testkit.ErrorIs(t, m.Subscribe("x"), sse.ErrClosed)
				}
			},
		}})
		h.Store(a.Hub)
		s := a.connect("/")
		var got []string
		for len(got) < 4 {
			if e := s.event(); e.Data != "joined b" { // it was sent only if it came before Unsubscribe
				got = append(got, e.Data)
			}
		}
		require.ElementsMatch(t, []string{"joined a", "joined c", "left b", "hello"}, got)
		require.Equal(t, "b", testkit.Receive(t, left))
		kicked := a.connect("/?topic=kick")
		kicked.expect("joined kick")
		kicked.expectEnd()
		require.Equal(t, "kick", testkit.Receive(t, left))
		s.expect("left kick")
		s.leave()
		require.ElementsMatch(t, []string{"a", "c"}, []string{testkit.Receive(t, left), testkit.Receive(t, left)})
	})
}

func TestPresenceHookThatPanics(t *testing.T) {
	for name, which := range map[string]string{"OnJoin": "join b", "OnLeave": "leave b"} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(plan{
					hub: hub.Config{
						OnJoin: func(_ *hub.Member, topic string) {
							if "join "+topic == which {
								panic("of the hook")
							}
						},
						OnLeave: func(_ *hub.Member, topic string, _ error) {
							if "leave "+topic == which {
								panic("of the hook")
							}
						},
					},
					expects: []string{"of the hook"},
				})
				good := a.connect("/?topic=a")
				s := a.connect("/?topic=a&topic=b&topic=c")
				if name == "OnJoin" {
					_, err := s.rest()
					require.Error(t, err, "the stream must not look complete")
					e := a.end()
					require.Equal(t, sse.EndPanic, e.Reason)
				} else {
					a.joined("c", 1)
					s.leave()
				}
				a.joined("a", 1)
				a.joined("b", 0)
				a.joined("c", 0)
				testkit.Eventually(t, func() bool { return a.Stats().Members == 1 && a.plugin.Len() == 1 }, "one session to end")
				require.Equal(t, 1, a.Stats().Topics)
				require.Contains(t, a.log.String(), "level=ERROR")
				a.publish("a", sse.Event{Data: "1"})
				good.expect("1")
				require.NoError(t, a.Shutdown(t.Context()))
				good.expectEnd()
			})
		})
	}
}
