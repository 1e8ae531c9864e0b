package hub_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

func TestFilterIsOfEachSubscriber(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			every, err := strconv.ParseUint(s.Call().URL.Query().Get("every"), 10, 64)
			noError(t, err)
			sub.Filter = func(m *hub.Message) bool { return m.Position.Offset%every == 0 }
			return h.Serve(s, sub)
		}})
		var streams []*stream
		for i := 1; i <= 5; i++ {
			streams = append(streams, a.connect(fmt.Sprint("/?topic=a&topic=b&every=", i)))
		}
		for i := 1; i <= 60; i++ {
			a.publish([]string{"a", "b", "c"}[i/2%3], sse.Event{Data: strconv.Itoa(i)})
		}
		for i, s := range streams {
			for n := 1; n <= 60; n++ {
				if n/2%3 != 2 && n%(i+1) == 0 {
					s.expect(strconv.Itoa(n))
				}
			}
			s.leave()
			s = a.resume(fmt.Sprint("/?topic=a&topic=b&every=", i+1), hub.Position{Epoch: a.Position().Epoch}.String())
			s.expect(strconv.Itoa([]int{1, 2, 3, 8, 15}[i])) // the first of them, with the log's help
		}
	})
}

func TestFilterSeesEachMessageOnceInOrder(t *testing.T) {
	for name, slow := range map[string]hub.SlowPolicy{"SlowEnd": hub.SlowEnd, "SlowLatest": hub.SlowLatest} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				var mu sync.Mutex
				var seen []hub.Message
				a := t.start(plan{sub: hub.Subscription{
					Topics: []string{"a", "b"},
					Start:  hub.Beginning,
					Slow:   slow,
					Filter: func(m *hub.Message) bool {
						mu.Lock()
						defer mu.Unlock()
						seen = append(seen, *m)
						return true
					},
				}})
				began := time.Now()
				var want []hub.Message
				publish := func() {
					for i := range 100 { // too many for one write
						e := sse.Event{Name: strconv.Itoa(i), Data: strings.Repeat("x", 3000)}
						topic := []string{"a", "b"}[i/3%2]
						want = append(want, hub.Message{Topic: topic, Position: a.publish(topic, e), Event: e})
					}
				}
				publish()
				s := a.connect("/")
				publish()
				for s.event().ID != a.Position().String() {
				}
				mu.Lock()
				defer mu.Unlock()
				require.Len(t, seen, len(want))
				if slow == hub.SlowLatest { // newest first, of what is due at a time
					slices.Reverse(want[:100])
					slices.SortFunc(seen[100:], func(a, b hub.Message) int { return cmp.Compare(a.Position.Offset, b.Position.Offset) })
				}
				for i := range seen {
					require.WithinRange(t, seen[i].Time, began, time.Now())
					seen[i].Time = time.Time{}
					require.Equal(t, want[i].Position, seen[i].Position)
					require.Equal(t, want[i], seen[i])
				}
			})
		})
	}
}

func TestFilterThatPanicsEndsOnlyItsSession(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{
			sub: hub.Subscription{},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				if s.Call().URL.Query().Has("bad") {
					sub.Filter = func(m *hub.Message) bool {
						if m.Event.Data == "2" {
							panic("of the filter")
						}
						return true
					}
				}
				return h.Serve(s, sub)
			},
		})
		good := []*stream{a.connect("/"), a.connect("/")}
		bad := a.connect("/?bad")
		good = append(good, a.connect("/"), a.connect("/"))
		a.publishN("a", 1, 1)
		bad.expect("1")
		a.publishN("a", 2, 5)
		rest, err := bad.rest()
		require.Empty(t, rest)
		require.Error(t, err, "it must not look whole")
		e := a.end()
		require.Equal(t, sse.EndPanic, e.Reason)
		var p *sse.PanicError
		require.ErrorAs(t, e.Err, &p)
		require.Equal(t, "of the filter", p.Value)
		require.Contains(t, string(p.Stack), "member_test.go")
		for _, s := range good {
			s.expectN(1, 5)
		}
		a.joined("a", 4)
		require.Contains(t, a.log.String(), "level=ERROR")

		// At the opening it is as if the handler had panicked.
		a.publish("a", sse.Event{Data: "2"})
		s, err := a.try(a.client, "/?bad", "Last-Event-ID", a.Position().String()[:9]+"0")
		if err == nil {
			require.NotEqual(t, http.StatusOK, s.StatusCode)
		}
		require.Equal(t, sse.EndPanic, a.end().Reason)
		a.publish("a", sse.Event{Data: "6"})
		good[0].expect("2", "6")
	})
}

// following are the sessions by the name that their clients have given them.
type following struct {
	mu sync.Mutex
	m  map[string]*hub.Member
}

func (f *following) join(m *hub.Member, _ string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m == nil {
		f.m = make(map[string]*hub.Member)
	}
	f.m[m.Session().Call().URL.Query().Get("name")] = m
}

func (f *following) get(t testing.TB, name string) (m *hub.Member) {
	t.Helper()
	eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		m = f.m[name]
		return m != nil
	}, name)
	return m
}

func TestSubscribeAndUnsubscribeWhileConnected(t *testing.T) {
	forEach(t, func(t *test) {
		var f following
		a := t.start(plan{
			hub: hub.Config{OnJoin: f.join},
			sub: hub.Subscription{Info: "who"},
		})
		s := a.connect("/?topic=a&name=it")
		m := f.get(t, "it")
		require.Equal(t, "who", m.Info())
		require.Equal(t, []string{"a"}, m.Topics())
		a.publish("b", sse.Event{Data: "too early"})
		require.NoError(t, m.Subscribe("b", "c", "a", "b"))
		require.ElementsMatch(t, []string{"a", "b", "c"}, m.Topics())
		require.Equal(t, []*hub.Member{m}, slices.Collect(a.Members("c")))
		for i, topic := range strings.Split("abcba", "") {
			a.publish(topic, sse.Event{Data: topic + strconv.Itoa(i)})
		}
		s.expect("a0", "b1", "c2", "b3", "a4")

		m.Unsubscribe("b", "unknown", "b")
		require.ElementsMatch(t, []string{"a", "c"}, m.Topics())
		require.Empty(t, slices.Collect(a.Members("b")))
		require.Zero(t, a.Count("b"))
		for i, topic := range strings.Split("abcba", "") {
			a.publish(topic, sse.Event{Data: topic + strconv.Itoa(i)})
		}
		s.expect("a0", "c2", "a4")

		require.NoError(t, m.Subscribe("b"), "from now on, again")
		a.publish("b", sse.Event{Data: "b"})
		s.expect("b")

		m.Unsubscribe("a", "b", "c")
		require.Empty(t, m.Topics())
		a.publish("a", sse.Event{Data: "not for it"})
		require.NoError(t, m.Subscribe("d"), "it is still there")
		a.publish("d", sse.Event{Data: "d"})
		s.expect("d")

		err := m.Subscribe("e", "", "f")
		require.EqualError(t, err, "hub: subscribe: the topic must not be empty")
		require.Equal(t, []string{"d"}, m.Topics())

		s.leave()
		a.end()
		err = m.Subscribe("g")
		require.ErrorIs(t, err, sse.ErrClosed)
		require.Empty(t, m.Topics())
		m.Unsubscribe("d")
		m.Kick(nil)
		require.Zero(t, a.Count("g"))
	})
}

func TestSubscribeToTopicsThatAreLeftAtOnce(t *testing.T) {
	forEach(t, func(t *test) {
		var f following
		var joins, leaves atomic.Int32
		a := t.start(plan{hub: hub.Config{
			OnJoin:  func(m *hub.Member, topic string) { f.join(m, topic); joins.Add(1) },
			OnLeave: func(*hub.Member, string, error) { leaves.Add(1) },
		}})
		s := a.connect("/")
		m := f.get(t, "")
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for n := range 100 {
					topic := strconv.Itoa((i + n) % 3)
					noError(t, m.Subscribe(topic))
					_, err := a.Publish(t.Context(), topic, sse.Event{Comment: "x"})
					noError(t, err)
					m.Unsubscribe(topic)
				}
			})
		}
		all.Wait()
		require.Equal(t, joins.Load()-1, leaves.Load())
		for i := range 3 {
			require.Zero(t, a.Count(strconv.Itoa(i)))
		}
		require.Equal(t, []string{"a"}, m.Topics())
		a.publish("a", sse.Event{Data: "end"})
		s.expect("end")
	})
}

// A client that is connected by one request is subscribed by another.
func TestSubscribeFromAnotherRequest(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{
			sub: hub.Subscription{Topics: []string{"user/1"}},
			mount: func(a *app, r *sse.Router) {
				r.Get("/follow/{topic}", func(w http.ResponseWriter, r *http.Request) {
					n := 0
					for m := range a.Members("user/1") {
						noError(t, m.Subscribe(r.PathValue("topic")))
						n++
					}
					fmt.Fprint(w, n)
				})
			},
		})
		streams := []*stream{a.connect("/"), a.connect("/")}
		a.joined("user/1", 2)
		answer, err := a.dial("/follow/b").rest()
		require.NoError(t, err)
		require.Equal(t, "2", answer)
		a.publish("b", sse.Event{Data: "b"})
		for _, s := range streams {
			s.expect("b")
		}
	})
}

// Members that follow nothing yet are members.
func TestSubscribeFromNothing(t *testing.T) {
	forEach(t, func(t *test) {
		members := make(chan *hub.Member, 1)
		a := t.start(plan{
			hub: hub.Config{OnJoin: func(m *hub.Member, topic string) {
				if topic == "user/1" {
					noError(t, m.Subscribe("a"))
					members <- m
				}
			}},
			sub: hub.Subscription{Topics: []string{"user/1"}},
		})
		s := a.connect("/")
		m := receive(t, members)
		m.Unsubscribe("user/1")
		a.joined("a", 1)
		require.Equal(t, 1, a.Stats().Members)
		a.publish("user/1", sse.Event{Data: "not for it"})
		a.publish("a", sse.Event{Data: "1"})
		s.expect("1")

		none := a.connect("/?topic=x")
		x := receiveMember(t, a, "x")
		x.Unsubscribe("x")
		require.Equal(t, 2, a.Stats().Members)
		x.Kick(nil)
		none.expectEnd()
	})
}

func receiveMember(t testing.TB, a *app, topic string) *hub.Member {
	t.Helper()
	a.joined(topic, 1)
	for m := range a.Members(topic) {
		return m
	}
	panic("unreachable")
}

// presence is what the hooks have told: who is where.
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
			assert.False(p.t, p.in[key(m, topic)], "twice")
			p.in[key(m, topic)] = true
			p.joins++
		},
		OnLeave: func(m *hub.Member, topic string, cause error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			assert.True(p.t, p.in[key(m, topic)], "it has not joined")
			delete(p.in, key(m, topic))
			p.causes = append(p.causes, cause)
		},
	}
}

// left waits until so many have left, and returns the causes.
func (p *presence) left(n int) []error {
	p.t.Helper()
	eventually(p.t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.causes) == n
	}, fmt.Sprint(n, " to leave"))
	return p.causes
}

func TestPresenceCauses(t *testing.T) {
	for name, tt := range map[string]struct {
		leave  func(a *app, s *stream, m *hub.Member)
		cause  []error // nil: none
		reason sse.EndReason
		broken bool
	}{
		"the client leaves": {func(_ *app, s *stream, _ *hub.Member) { s.leave() }, []error{sse.ErrClientGone}, sse.EndClientGone, true},
		"Unsubscribe":       {func(_ *app, _ *stream, m *hub.Member) { m.Unsubscribe("a", "b"); m.Session().Close() }, nil, sse.EndClosed, false},
		"Close":             {func(_ *app, _ *stream, m *hub.Member) { m.Session().Close() }, []error{sse.ErrClosed}, sse.EndClosed, false},
		"Member.Kick":       {func(_ *app, _ *stream, m *hub.Member) { m.Kick(errOwn) }, []error{hub.ErrKicked, errOwn, sse.ErrClosed}, sse.EndClosed, false},
		"without a reason":  {func(_ *app, _ *stream, m *hub.Member) { m.Kick(nil) }, []error{hub.ErrKicked}, sse.EndClosed, false},
		"Hub.Kick": {func(a *app, _ *stream, _ *hub.Member) {
			assert.Equal(a.t, 1, a.Kick("b", errOwn))
			assert.Equal(a.t, 0, a.Kick("none", errOwn))
		}, []error{hub.ErrKicked, errOwn}, sse.EndClosed, false},
		"Hub.Shutdown":    {func(a *app, _ *stream, _ *hub.Member) { noError(a.t, a.Shutdown(context.Background())) }, []error{sse.ErrShutdown}, sse.EndShutdown, false},
		"Plugin.Shutdown": {func(a *app, _ *stream, _ *hub.Member) { noError(a.t, a.plugin.Shutdown(context.Background())) }, []error{sse.ErrShutdown}, sse.EndShutdown, false},
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
			assert.Positive(t, h.Load().Count(topic), "it has joined")
			_, err := h.Load().Publish(t.Context(), "presence", sse.Event{Data: "join"})
			noError(t, err)
		}
		cfg.OnLeave = func(m *hub.Member, topic string, cause error) {
			check(m, topic, false)
			onLeave(m, topic, cause)
			_, err := h.Load().Publish(context.Background(), "presence", sse.Event{Data: "leave"})
			noError(t, err)
		}
		a := t.start(plan{hub: cfg})
		h.Store(a.Hub)
		watcher := a.connect("/?topic=presence")
		watcher.expect("join") // of itself: it was a follower before it had joined
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				for n := range 3 {
					s, err := a.try(a.client, "/?topic=a&topic=b")
					if !noError(t, err) {
						return
					}
					switch (i + n) % 3 {
					case 0:
						s.leave()
					case 1:
						a.Kick("a", nil)
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
		eventually(t, func() bool { return a.Stats().Members == 1 }, "the end of all but one")
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

// Who has joined is counted and listed when OnJoin is called, and neither when OnLeave
// is.
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
		require.Equal(t, seen{"join", 1, 1}, receive(t, told))
		s2 := a.connect("/")
		require.Equal(t, seen{"join", 2, 2}, receive(t, told))
		s1.leave()
		require.Equal(t, seen{"leave", 1, 1}, receive(t, told))
		s2.leave()
		require.Equal(t, seen{"leave", 0, 0}, receive(t, told))
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
		m := receive(t, joining)
		s.leave()
		receive(t, m.Session().Done())
		close(goOn)
		for _, cause := range p.left(p.joined(t, a)) {
			require.ErrorIs(t, cause, sse.ErrClientGone)
		}
		require.Zero(t, a.Count("a"))
		require.Zero(t, a.Count("b"))
		require.Equal(t, sse.EndClientGone, a.end().Reason)
	})
}

// joined waits for the end of all members, and returns how often one had joined.
func (p *presence) joined(t testing.TB, a *app) int {
	t.Helper()
	eventually(t, func() bool { return a.Stats().Members == 0 && a.plugin.Len() == 0 }, "the end of all")
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
				noError(t, err)
				switch topic {
				case "a":
					noError(t, m.Subscribe("b", "c"))
				case "b":
					m.Unsubscribe("b")
				case "c":
					noError(t, m.Session().Send(sse.Event{Data: "hello"}))
				case "kick":
					m.Kick(errOwn)
				}
			},
			OnLeave: func(m *hub.Member, topic string, _ error) {
				left <- topic
				_, err := h.Load().Publish(context.Background(), "a", sse.Event{Data: "left " + topic})
				noError(t, err)
				if topic != "b" {
					matches(t, m.Subscribe("x"), sse.ErrClosed)
				}
			},
		}})
		h.Store(a.Hub)
		s := a.connect("/")
		var got []string
		for len(got) < 4 {
			if e := s.event(); e.Data != "joined b" { // it may have been sent before it left
				got = append(got, e.Data)
			}
		}
		require.ElementsMatch(t, []string{"joined a", "joined c", "left b", "hello"}, got)
		require.Equal(t, "b", receive(t, left))
		kicked := a.connect("/?topic=kick")
		kicked.expectEnd()
		require.Equal(t, "kick", receive(t, left))
		s.expect("left kick")
		s.leave()
		require.ElementsMatch(t, []string{"a", "c"}, []string{receive(t, left), receive(t, left)})
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
					require.Error(t, err, "it must not look whole")
					e := a.end()
					require.Equal(t, sse.EndPanic, e.Reason)
				} else {
					a.joined("c", 1)
					s.leave()
				}
				a.joined("a", 1)
				a.joined("b", 0)
				a.joined("c", 0)
				eventually(t, func() bool { return a.Stats().Members == 1 && a.plugin.Len() == 1 }, "the end")
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

func TestServeTwice(t *testing.T) {
	forEach(t, func(t *test) {
		errs := make(chan error, 2)
		var h2 *hub.Hub
		a := t.start(plan{
			hub: hub.Config{},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				done := make(chan struct{})
				sub.Snapshot = func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
					defer close(done)
					errs <- h.Serve(s, hub.Subscription{Topics: []string{"a"}})
					errs <- h2.Serve(s, hub.Subscription{Topics: []string{"a"}})
					return at, s.Send(sse.Event{Data: "1"})
				}
				return h.Serve(s, sub)
			},
		})
		var err error
		h2, err = hub.New(hub.Config{Detached: t.detached})
		require.NoError(t, err)
		s := a.connect("/")
		s.expect("1")
		for range 2 {
			require.EqualError(t, receive(t, errs), "hub: serve: a hub already serves this session")
		}
		require.Zero(t, h2.Stats().Members)
		a.publish("a", sse.Event{Data: "2"})
		s.expect("2")
	})
}

// Serve gives a session back when it fails before that is open.
func TestServeAfterAFailure(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			bad := sub
			bad.Snapshot = func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) { return at, errOwn }
			matches(t, h.Serve(s, bad), errOwn)
			return h.Serve(s, sub)
		}})
		s := a.connect("/")
		a.publish("a", sse.Event{Data: "1"})
		s.expect("1")
		a.joined("a", 1)
	})
}

// Serve returns when the session has ended, with the cause; for a detached one at
// once.
func TestServeReturns(t *testing.T) {
	forEach(t, func(t *test) {
		errs := make(chan error, 1)
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			err := h.Serve(s, sub)
			errs <- err
			return err
		}})
		s := a.connect("/")
		m := receiveMember(t, a, "a")
		if t.detached {
			require.NoError(t, receive(t, errs))
		} else {
			require.Empty(t, errs)
		}
		require.Equal(t, 1, a.plugin.Len())
		m.Kick(errOwn)
		s.expectEnd()
		if !t.detached {
			require.ErrorIs(t, receive(t, errs), errOwn)
		}
		require.Equal(t, sse.EndClosed, a.end().Reason)
	})
}

// The handler may still send after Serve has returned for a detached session, and what
// it returns then counts.
func TestServeAndAnErrorOfTheHandlerBehindIt(t *testing.T) {
	for name, tt := range map[string]struct {
		end    func(s *sse.ServerSession) error
		reason sse.EndReason
	}{
		"error": {func(*sse.ServerSession) error { return errOwn }, sse.EndHandlerError},
		"panic": {func(*sse.ServerSession) error { panic("of the handler") }, sse.EndPanic},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				left := make(chan error, 1)
				a := t.start(plan{
					hub: hub.Config{OnLeave: func(_ *hub.Member, _ string, cause error) { left <- cause }},
					serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
						err := h.Serve(s, sub)
						if t.detached {
							noError(t, err)
							noError(t, s.Send(sse.Event{Data: "last words"}))
						}
						return tt.end(s)
					},
					expects: []string{"of the handler"},
				})
				s := a.connect("/")
				if !t.detached {
					receiveMember(t, a, "a").Kick(nil)
					_, err := s.rest()
					require.Equal(t, name == "panic", err != nil)
				} else {
					s.expect("last words")
					_, err := s.rest()
					require.Equal(t, io.ErrUnexpectedEOF, err)
				}
				require.ErrorIs(t, receive(t, left), sse.ErrClosed)
				e := a.end()
				if t.detached || name == "panic" {
					require.Equal(t, tt.reason, e.Reason)
				}
			})
		})
	}
}
