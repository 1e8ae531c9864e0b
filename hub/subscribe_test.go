package hub_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// member waits for the only member of topic.
func (a *app) member(topic string) *hub.Member {
	a.t.Helper()
	a.joined(topic, 1)
	return slices.Collect(a.Members(topic))[0]
}

// Of the topics that a client had followed, those that the next Subscription names resume,
// and those that are subscribed from the client's position.
func TestSubscribeWhatResumes(t *testing.T) {
	for name, tt := range map[string]struct {
		topics []string
		onJoin func(m *hub.Member, after hub.Position) error
		want   string
	}{
		"named":             {topics: []string{"a", "room"}, want: "a1 room1 a2 room2"},
		"from the position": {topics: []string{"a"}, onJoin: func(m *hub.Member, after hub.Position) error { return m.SubscribeFrom(hub.After(after), "room") }, want: "a1 a2 room1 room2"},
		"from now":          {topics: []string{"a"}, onJoin: func(m *hub.Member, _ hub.Position) error { return m.Subscribe("room") }, want: "a1 a2"},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				var after hub.Position
				a := t.start(plan{
					hub: hub.Config{OnJoin: func(m *hub.Member, topic string) {
						if topic == "a" && tt.onJoin != nil {
							testkit.NoError(t, tt.onJoin(m, after))
						}
					}},
					sub: hub.Subscription{Topics: tt.topics},
				})
				after = a.Position()
				s := a.connect("/")
				a.joined("room", 1)
				after = a.publish("a", sse.Event{Data: "first"})
				s.expect("first")
				s.leave()
				a.joined("room", 0)
				for _, data := range []string{"a1", "room1", "a2", "room2"} {
					a.publish(data[:len(data)-1], sse.Event{Data: data})
				}
				s = a.resume("/", after.String())
				requireNoGap(t, s)
				s.expect(strings.Fields(tt.want)...)
				a.joined("room", 1)
				for _, topic := range []string{"a", "room"} {
					a.publish(topic, sse.Event{Data: "live"})
					s.expect("live")
				}
				a.endOf(s)
			})
		})
	}
}

// The older events of a topic come in order, before anything newer and without the events
// that the client has had. Then an id alone sets the client's last event id to the newest
// position.
func TestSubscribeFromAnOlderPosition(t *testing.T) {
	for name, tt := range map[string]struct {
		start func(third hub.Position) hub.Start
		want  string
	}{
		"Now":       {func(hub.Position) hub.Start { return hub.Now }, ""},
		"Latest":    {func(hub.Position) hub.Start { return hub.Latest }, "5"},
		"After":     {hub.After, "4 5"},
		"Beginning": {func(hub.Position) hub.Start { return hub.Beginning }, "1 2 3 4 5"},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(plan{})
				s := a.connect("/")
				m := a.member("a")
				var third hub.Position
				positions := make(map[string]hub.Position)
				for n := 1; n <= 5; n++ {
					data := strconv.Itoa(n)
					positions[data] = a.publish("room", sse.Event{Data: data})
					a.publish("a", sse.Event{Data: "a" + data})
					s.expect("a" + data)
				}
				third = positions["3"]
				require.NoError(t, m.SubscribeFrom(tt.start(third), "room", "empty"))
				require.NoError(t, m.SubscribeFrom(tt.start(third), "room"), "it follows the topic already, which stays as it is")
				for data := range strings.FieldsSeq(tt.want) {
					b := s.block()
					require.Equal(t, "data: "+data+"\nid: "+positions[data].String()+"\n\n", b.text)
				}
				if tt.want != "" {
					require.Equal(t, "id: "+a.Position().String()+"\n\n", s.block().text)
				}
				a.publish("room", sse.Event{Data: "6"})
				a.publish("a", sse.Event{Data: "a6"})
				a.publish("empty", sse.Event{Data: "e"})
				s.expect("6", "a6", "e")
				a.endOf(s)
			})
		})
	}
}

// Older events that take several writes are followed by one id.
func TestSubscribeFromFarBehind(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		s := a.connect("/")
		m := a.member("a")
		a.publishN("room", 1, 1200)
		a.publish("a", sse.Event{Data: "x"})
		s.expect("x")
		require.NoError(t, m.SubscribeFrom(hub.Beginning, "room"))
		s.expectN(1, 1200)
		require.Equal(t, "id: "+a.Position().String()+"\n\n", s.block().text)
	})
}

// MaxReplay does not apply to SlowLatest, which sends only the newest event.
func TestSubscribeFromWithSlowLatest(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{MaxReplay: 200}, sub: hub.Subscription{Slow: hub.SlowLatest}})
		s := a.connect("/")
		m := a.member("a")
		before := a.Position()
		a.publishN("room", 1, 100)
		require.NoError(t, m.SubscribeFrom(hub.After(before), "room"))
		s.expect("100")
	})
}

// A client that is cut off while it gets older events gets some events of other topics a
// second time, and none is lost.
func TestSubscribeFromIsCutOff(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		s := a.connect("/")
		m := a.member("a")
		for n := 1; n <= 5; n++ {
			a.publish("room", sse.Event{Data: "room" + strconv.Itoa(n)})
			a.publish("a", sse.Event{Data: "a" + strconv.Itoa(n)})
			s.expect("a" + strconv.Itoa(n))
		}
		require.NoError(t, m.SubscribeFrom(hub.Beginning, "room"))
		s.expect("room1", "room2", "room3")
		s.leave() // it has not read the rest
		s = a.resume("/?topic=a&topic=room", s.id)
		requireNoGap(t, s)
		s.expect("a3", "room4", "a4", "room5", "a5")
	})
}

func TestSubscribeFromRefuses(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{LogEvents: 10, MaxReplay: 200}})
		s := a.connect("/")
		m := a.member("a")
		first := a.publish("room", sse.Event{Data: "10"})
		for n := 11; n < 20; n++ {
			a.publish("room", sse.Event{Data: replayed(n)})
		}
		a.publish("a", sse.Event{Data: "x"}) // evicts room's first
		s.expect("x")
		other := hub.Position{Epoch: first.Epoch + 1, Offset: 1}
		ahead := hub.Position{Epoch: first.Epoch, Offset: a.Position().Offset + 1}
		for _, want := range []hub.GapError{
			{Topic: "room", After: hub.Position{Epoch: first.Epoch}, Reason: hub.GapExpired},
			{Topic: "room", After: first, Reason: hub.GapReplay},
			{Topic: "room", After: other, Reason: hub.GapEpoch},
			{Topic: "room", After: ahead, Reason: hub.GapAhead},
		} {
			err := m.SubscribeFrom(hub.After(want.After), "b", "room", "c")
			var gap *hub.GapError
			require.ErrorAs(t, err, &gap)
			if want.Reason == hub.GapEpoch || want.Reason == hub.GapAhead {
				want.Topic = "b"
			}
			if a.usesLog && want.Reason == hub.GapExpired {
				want.Reason = hub.GapReplay // it may be in the Log, but is not measured
			}
			require.Equal(t, want, *gap)
			require.EqualError(t, err, `hub: subscribe: topic "`+want.Topic+`" cannot start after `+want.After.String()+`: the gap has the reason "`+string(want.Reason)+`"; start it elsewhere, with Now, Latest or Beginning`)
			require.NotContains(t, m.Topics(), "room")
			require.NotContains(t, m.Topics(), "c")
			m.Unsubscribe("b")
		}
		require.EqualError(t, m.SubscribeFrom(hub.Beginning, "room", ""), "hub: subscribe: the topic must not be empty")
		require.Equal(t, []string{"a"}, m.Topics())
		require.Empty(t, a.Stats().Gaps)

		require.NoError(t, m.SubscribeFrom(hub.Beginning, "room"))
		require.Contains(t, s.event().Data, "18", "the newest events that fit")
		require.Contains(t, s.event().Data, "19")
		s.leave()
		a.end()
		require.ErrorIs(t, m.SubscribeFrom(hub.Beginning, "c"), sse.ErrClosed)
	})
}

// With OwnIDs there is no id alone at the end.
func TestSubscribeFromWithOwnIDs(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(ownIDs)
		s := a.connect("/")
		m := a.member("a")
		a.publishOwn("room", "1")
		a.publishOwn("a", "1")
		s.expect("a1")
		require.NoError(t, m.SubscribeFrom(hub.Beginning, "room"))
		require.Equal(t, "data: room1\nid: 1\n\n", s.block().text)
		a.publishOwn("a", "2")
		require.Equal(t, "data: a2\nid: 2\n\n", s.block().text)
	})
}

// A session that is subscribed to more and more topics with many older events, while events
// are published, gets each event once, and those of a topic in order.
func TestSubscribeFromWhilePublishing(t *testing.T) {
	filter := func(m *hub.Message) bool { return m.Topic != "b" || m.Event.Data == "end" }
	for name, tc := range map[string]struct {
		filter func(*hub.Message) bool
		most   int // of events in memory; the others are in a Log
	}{
		"all":                {},
		"filtered":           {filter: filter},
		"cold":               {most: 300},
		"cold, and filtered": {filter: filter, most: 300},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				filter, cfg := tc.filter, hub.Config{LogEvents: tc.most}
				if tc.most > 0 {
					cfg.Log = logtest.NewMemory(1)
				}
				const older, newer = 1200, 200 // more than the hub collects at a time
				topics := []string{"a", "b", "c", "d"}
				a := t.start(plan{hub: cfg, sub: hub.Subscription{Filter: filter}})
				for n := range older {
					for _, topic := range topics {
						a.publish(topic, sse.Event{Name: topic, Data: strconv.Itoa(n)})
					}
				}
				s := a.connect("/")
				m := a.member("a")
				next := map[string]int{"a": older}
				var publisher sync.WaitGroup
				publisher.Go(func() {
					for n := older; n < older+newer; n++ {
						for _, topic := range topics {
							_, err := a.Publish(context.Background(), topic, sse.Event{Name: topic, Data: strconv.Itoa(n)})
							testkit.NoError(t, err)
						}
						if n%20 == 0 {
							time.Sleep(time.Millisecond)
						}
					}
				})
				publisher.Go(func() {
					for _, topic := range topics[1:] {
						time.Sleep(2 * time.Millisecond)
						assert.NoError(t, m.SubscribeFrom(hub.Beginning, topic))
					}
				})
				publisher.Wait()
				for _, topic := range topics {
					a.publish(topic, sse.Event{Name: topic, Data: "end"})
				}
				for ended := 0; ended < len(topics); {
					e := s.event()
					if e.Data == "end" {
						ended++
						if filter == nil || e.Name != "b" {
							require.Equal(t, older+newer, next[e.Name], e.Name)
						}
						continue
					}
					require.Equal(t, strconv.Itoa(next[e.Name]), e.Data, e.Name)
					next[e.Name]++
				}
				require.Equal(t, a.Position().String(), s.id)
			})
		})
	}
}
