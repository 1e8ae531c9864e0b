package hub_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

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
