package hub_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestDeliverInOrderWithPositionsAsIDs(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		s := a.connect("/")
		for i := range 50 {
			pos := a.publish("a", sse.Event{Name: "tick", Data: strconv.Itoa(i)})
			require.Equal(t, a.Position(), pos)
			require.EqualValues(t, i+1, pos.Offset)
			require.Equal(t, sse.Event{ID: pos.String(), Name: "tick", Data: strconv.Itoa(i)}, s.event())
		}
	})
}

// A new client does not get events from before it connected. It gets every event that is
// published after it has received the response header.
func TestDeliverFromTheHeadOn(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		a.publishN("a", 1, 3)
		s := a.connect("/")
		a.publishN("a", 4, 6)
		s.expectN(4, 6)
	})
}

func TestDeliverOnlyTheTopicsOfTheSubscription(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		ab, b, none := a.connect("/?topic=a&topic=b&topic=a"), a.connect("/?topic=b"), a.connect("/?topic=none")
		a.joined("a", 1) // not 2: a topic that is named twice counts once
		a.joined("b", 2)
		for i, topic := range strings.Split("abcabcab", "") {
			a.publish(topic, sse.Event{Data: topic + strconv.Itoa(i)})
		}
		a.publish("none", sse.Event{Data: "end"})
		ab.expect("a0", "b1", "a3", "b4", "a6", "b7")
		b.expect("b1", "b4", "b7")
		none.expect("end")
	})
}

func TestDeliverOneOrderOverAllTopics(t *testing.T) {
	forEach(t, func(t *test) {
		const topics, each = 4, 100
		a := t.start(plan{})
		var streams []*stream
		for range 3 {
			streams = append(streams, a.connect("/?topic=t0&topic=t1&topic=t2&topic=t3"))
		}
		var publishers sync.WaitGroup
		for i := range topics {
			publishers.Go(func() {
				for n := range each {
					_, err := a.Publish(context.Background(), fmt.Sprint("t", i), sse.Event{Name: fmt.Sprint("t", i), Data: strconv.Itoa(n)})
					testkit.NoError(t, err)
				}
			})
		}
		publishers.Wait()
		for _, s := range streams {
			next := make(map[string]int)
			for i := range topics * each {
				e := s.event()
				require.Equal(t, hub.Position{Epoch: a.Position().Epoch, Offset: uint64(i + 1)}.String(), e.ID)
				require.Equal(t, strconv.Itoa(next[e.Name]), e.Data)
				next[e.Name]++
			}
		}
	})
}

func TestDeliverKindsOfEvents(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		s := a.connect("/")
		require.True(t, s.block().silent, "an id from which the client can resume")
		for _, tt := range []struct {
			name  string
			event sse.Event
			want  string // %s stands for the position
		}{
			{"data", sse.Event{Data: "x"}, "data: x\nid: %s\n\n"},
			{"all", sse.Event{Name: "n", Data: "x", Retry: time.Second, Comment: "c"}, "event: n\ndata: x\nid: %s\nretry: 1000\n: c\n\n"},
			{"zero", sse.Event{}, "data: \nid: %s\n\n"},
			{"name", sse.Event{Name: "n"}, "event: n\ndata: \nid: %s\n\n"},
			{"retry", sse.Event{Retry: 1500 * time.Millisecond}, "id: %s\nretry: 1500\n\n"},
			{"retry at once", sse.Event{Retry: sse.RetryImmediately}, "id: %s\nretry: 0\n\n"},
			{"comment", sse.Event{Comment: "c1\nc2"}, "id: %s\n: c1\n: c2\n\n"},
			{"lines", sse.Event{Data: "1\n2\r3\r\n\n"}, "data: 1\ndata: 2\ndata: 3\ndata: \ndata: \nid: %s\n\n"},
			{"UTF-8", sse.Event{Data: "größer €"}, "data: größer €\nid: %s\n\n"},
			{"spaces", sse.Event{Data: " x: y "}, "data:  x: y \nid: %s\n\n"},
		} {
			pos := a.publish("a", tt.event)
			require.Equal(t, strings.ReplaceAll(tt.want, "%s", pos.String()), s.block().text, tt.name)
		}
	})
}

func TestDeliverLargeEvents(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true})
		s := a.connect("/")
		large := strings.Repeat("x", 1<<20)
		a.publish("a", sse.Event{Data: "before"})
		for range 3 {
			a.publish("a", sse.Event{Data: large})
		}
		a.publish("a", sse.Event{Data: "after"})
		s.expect("before")
		for range 3 {
			require.Len(t, s.event().Data, len(large))
		}
		s.expect("after")
	})
}

func TestDeliverABurstToAClientThatIsNotReading(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true})
		slow := []*stream{a.connectSlow("/"), a.connectSlow("/?topic=b&topic=a")}
		quick := a.connect("/")
		padding := strings.Repeat(".", 500)
		for i := range 1000 {
			a.publish("a", sse.Event{Name: strconv.Itoa(i), Data: padding})
		}
		for _, s := range append(slow, quick) {
			for i := range 1000 {
				require.Equal(t, strconv.Itoa(i), s.event().Name)
			}
		}
	})
}

// A worker goes through the members in stints. Events that are published during a pass make
// another one follow.
func TestDeliverToManyMembers(t *testing.T) {
	forEach(t, func(t *test) {
		const members, events = 150, 20
		a := t.start(plan{})
		var streams []*stream
		for i := range members {
			streams = append(streams, a.connect([]string{"/?topic=a", "/?topic=a&topic=b", "/?topic=b&topic=a"}[i%3]))
		}
		a.publishN("a", 1, events)
		a.publish("b", sse.Event{Data: "b"})
		a.publish("a", sse.Event{Data: "end"})
		for i, s := range streams {
			s.expectN(1, events)
			if i%3 > 0 {
				s.expect("b")
			}
			s.expect("end")
		}
		testkit.Eventually(t, func() bool { return a.Stats().Delivered == members*(events+1)+members/3*2 }, "the expected number of deliveries")
	})
}

// When a member leaves, another one takes its place in the list of followers. The worker
// must not skip that one if it is in the middle of a pass.
func TestDeliverToMembersThatMove(t *testing.T) {
	forEach(t, func(t *test) {
		const members, leaving = 150, 8
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			if s.Call().URL.Query().Has("last") { // it makes the members before it leave
				sub.Filter = func(*hub.Message) bool {
					left := 0
					for m := range h.Members("leaving") {
						m.Unsubscribe("a")
						left++
					}
					assert.Equal(t, leaving, left)
					return true
				}
			}
			return h.Serve(s, sub)
		}})
		var streams []*stream
		for i := range members {
			path := "/"
			if i < leaving {
				path = "/?topic=a&topic=leaving"
			} else if i == leaving {
				path = "/?last"
			}
			if s := a.connect(path); i >= leaving {
				streams = append(streams, s)
			}
			a.joined("a", i+1)
		}
		a.publish("a", sse.Event{Data: "1"})
		for _, s := range streams {
			s.expect("1")
		}
	})
}

func TestDeliverWhileMembersComeAndGo(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		steady := a.connect("/")
		stop := make(chan struct{})
		var others sync.WaitGroup
		for range 4 {
			others.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					s, err := a.try(a.client, "/?topic=a&topic=b")
					if !testkit.NoError(t, err) {
						return
					}
					last := 0
					for range 10 {
						b, err := s.tryBlock()
						if !testkit.NoError(t, err) {
							break
						}
						if b.silent {
							continue
						}
						n, err := strconv.Atoi(b.Data)
						testkit.NoError(t, err)
						if last > 0 {
							assert.Equal(t, last+1, n)
						}
						last = n
					}
					s.leave()
				}
			})
		}
		for i := 1; i <= 1000; i++ {
			a.publish("a", sse.Event{Data: strconv.Itoa(i)})
			steady.expect(strconv.Itoa(i))
		}
		close(stop)
		done := make(chan struct{})
		go func() {
			others.Wait()
			close(done)
		}()
		for i := 1001; ; i++ { // the remaining clients may still wait for an event
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				a.publish("a", sse.Event{Data: strconv.Itoa(i)})
			}
		}
	})
}

// The application's own sends and the hub's do not break each other's events.
func TestDeliverBesideOtherSends(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{sub: hub.Subscription{Topics: []string{"a", "user/1"}}})
		s := a.connect("/")
		a.joined("user/1", 1)
		var sends sync.WaitGroup
		sends.Go(func() {
			for m := range a.Members("user/1") {
				for i := range 200 {
					testkit.NoError(t, m.Session().Send(sse.Event{Name: "own", Data: strconv.Itoa(i)}))
				}
			}
		})
		a.publishN("a", 0, 199)
		sends.Wait()
		own, hubs := 0, 0
		for own+hubs < 400 {
			if e := s.event(); e.Name == "own" {
				require.Equal(t, strconv.Itoa(own), e.Data)
				own++
			} else {
				require.Equal(t, strconv.Itoa(hubs), e.Data)
				hubs++
			}
		}
		require.Equal(t, 200, own)
	})
}
