package hub_test

import (
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
	"github.com/chi-sse/sse/internal/testkit"
)

func TestFilterIsOfEachSubscriber(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			every, err := strconv.ParseUint(s.Call().URL.Query().Get("every"), 10, 64)
			testkit.NoError(t, err)
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
			s.expect(strconv.Itoa([]int{1, 2, 3, 8, 15}[i])) // the first event of topics a and b that the filter accepts
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
					for i := range 100 { // more than fit into one write
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
		require.Error(t, err, "the stream must not look complete")
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

		// While the session opens, a panic is like one of the handler.
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

// following holds the members by the names that their clients have sent.
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
	testkit.Eventually(t, func() bool {
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

		require.NoError(t, m.Subscribe("b"), "b is followed again, from the next event on")
		a.publish("b", sse.Event{Data: "b"})
		s.expect("b")

		m.Unsubscribe("a", "b", "c")
		require.Empty(t, m.Topics())
		a.publish("a", sse.Event{Data: "not for it"})
		require.NoError(t, m.Subscribe("d"), "the session is still open")
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
					testkit.NoError(t, m.Subscribe(topic))
					_, err := a.Publish(t.Context(), topic, sse.Event{Comment: "x"})
					testkit.NoError(t, err)
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

// One request subscribes the sessions of other requests to a topic.
func TestSubscribeFromAnotherRequest(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{
			sub: hub.Subscription{Topics: []string{"user/1"}},
			mount: func(a *app, r *sse.Router) {
				r.Get("/follow/{topic}", func(w http.ResponseWriter, r *http.Request) {
					n := 0
					for m := range a.Members("user/1") {
						testkit.NoError(t, m.Subscribe(r.PathValue("topic")))
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

// A member that follows no topic stays a member.
func TestSubscribeFromNothing(t *testing.T) {
	forEach(t, func(t *test) {
		members := make(chan *hub.Member, 1)
		a := t.start(plan{
			hub: hub.Config{OnJoin: func(m *hub.Member, topic string) {
				if topic == "user/1" {
					testkit.NoError(t, m.Subscribe("a"))
					members <- m
				}
			}},
			sub: hub.Subscription{Topics: []string{"user/1"}},
		})
		s := a.connect("/")
		m := testkit.Receive(t, members)
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

func TestInfoOf(t *testing.T) {
	t.Parallel()
	type user struct{ name string }
	ann := &user{"ann"}
	for _, tt := range []struct {
		info              any
		user, text, error bool
	}{
		{info: ann, user: true},
		{info: *ann},
		{info: (*user)(nil), user: true},
		{info: "ann", text: true},
		{info: io.EOF, error: true},
		{info: nil},
	} {
		a := http1.start(t, plan{
			sub: hub.Subscription{Info: tt.info},
			hub: hub.Config{OnJoin: func(m *hub.Member, _ string) {
				u, ok := hub.InfoOf[*user](m)
				assert.Equal(t, tt.user, ok)
				if ok {
					assert.Equal(t, tt.info, u)
				}
				text, ok := hub.InfoOf[string](m)
				assert.Equal(t, tt.text, ok)
				assert.Equal(t, ok, text == "ann")
				err, ok := hub.InfoOf[error](m)
				assert.Equal(t, tt.error, ok)
				assert.Equal(t, ok, err != nil)
			}},
		})
		a.connect("/").leave()
		a.end()
	}
}
