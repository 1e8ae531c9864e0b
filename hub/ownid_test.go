package hub_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// publishOwn publishes an event for each id to topic, with the topic and the id as data.
func (a *app) publishOwn(topic string, ids ...string) (pos hub.Position) {
	a.t.Helper()
	for _, id := range ids {
		pos = a.publish(topic, sse.Event{ID: id, Data: topic + id})
	}
	return pos
}

// expectOwnGap asserts that the response's header and the next block tell of a gap with
// reason, and nothing of the hub's positions.
func (s *stream) expectOwnGap(reason hub.GapReason, lastEventID string, snapshot bool) {
	s.t.Helper()
	require.Equal(s.t, string(reason), s.Header.Get(hub.GapHeader))
	id, err := json.Marshal(lastEventID)
	require.NoError(s.t, err)
	require.Equal(s.t, `event: gap`+"\n"+`data: {"reason":"`+string(reason)+`","lastEventId":`+string(id)+`,"snapshot":`+strconv.FormatBool(snapshot)+"}\n\n", s.block().text)
}

var ownIDs = plan{hub: hub.Config{OwnIDs: true}}

func TestOwnIDIsLookedUpInTheTopicsOfTheClient(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(ownIDs)
		a.publishOwn("a", "1", "2", "3", "4", "5")
		a.publishOwn("b", "1", "2", "3")
		a.publishOwn("private", "secret")
		for _, tt := range []struct{ query, id, want string }{
			{"?topic=a", "1", "a2 a3 a4 a5"},
			{"?topic=a", "4", "a5"},
			{"?topic=b", "1", "b2 b3"},
			{"?topic=b", "3", ""},
			{"?topic=b&topic=none", "2", "b3"},
			{"?topic=a&topic=b", "5", "b1 b2 b3"},
			{"?topic=b&topic=a", "2", "a3 a4 a5 b1 b2 b3"}, // from the lowest offset, so that nothing is missing
		} {
			s := a.resume("/"+tt.query, tt.id)
			requireNoGap(t, s)
			s.expect(strings.Fields(tt.want)...)
			a.endOf(s)
		}

		// An id of another topic is like one that nobody has ever published.
		for _, id := range []string{"secret", "nobody", "4", "order-17", a.Position().String()} {
			s := a.resume("/?topic=b", id)
			s.expectOwnGap(hub.GapMalformed, id, false)
			a.endOf(s)
		}
		require.Equal(t, map[hub.GapReason]uint64{hub.GapMalformed: 5}, a.Stats().Gaps)
	})
}

// Whatever happens, no byte of the hub's positions reaches a client.
func TestOwnIDsAloneAreSent(t *testing.T) {
	forEach(t, func(t *test) {
		var snapshot atomic.Bool
		a := t.start(plan{
			hub: hub.Config{OwnIDs: true, LogEvents: 4},
			sse: sse.Config{Heartbeat: sse.Heartbeat{Period: 3 * time.Millisecond}},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				if snapshot.Load() {
					sub.Snapshot = func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
						return at, s.Send(sse.Event{Name: "state", Data: "all"})
					}
				}
				return h.Serve(s, sub)
			},
		})
		beat := func(s *stream) {
			t.Helper()
			for range 3 {
				a.publishOwn("busy", strconv.FormatUint(a.Stats().Published, 10))
				require.Contains(t, []string{": open\n\n", ": heartbeat\n\n"}, s.block().text)
			}
		}
		s := a.connect("/")
		beat(s)
		a.publishOwn("a", "1")
		for {
			if b := s.block(); b.Comment == "" {
				require.Equal(t, "data: a1\nid: 1\n\n", b.text)
				break
			}
		}
		beat(s)
		s.leave()
		s = a.resume("/", "what")
		s.expectOwnGap(hub.GapMalformed, "what", false)
		beat(s)
		s.leave()

		snapshot.Store(true)
		for _, id := range []string{"", "what"} { // a client without an id is a new one each time
			s = a.resume("/", id)
			if id != "" {
				s.expectOwnGap(hub.GapMalformed, id, true)
			}
			require.Equal(t, "event: state\ndata: all\n\n", s.block().text)
			beat(s)
			s.leave()
		}
	})
}

// A client that has had only heartbeats is a new one when it reconnects.
func TestOwnIDsStartForAClientWithoutAnID(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{OwnIDs: true}, sub: hub.Subscription{Start: hub.Beginning}, sse: sse.Config{Heartbeat: sse.Heartbeat{Period: time.Millisecond}}})
		s := a.connect("/")
		for s.block().Comment != "heartbeat" {
		}
		a.publishOwn("a", "1", "2")
		s = a.reconnect(s)
		requireNoGap(t, s)
		s.expect("a1", "a2")
	})
}

func TestOwnIDsResumeAfterARestart(t *testing.T) {
	forEach(t, func(t *test) {
		before := t.start(ownIDs)
		s := before.connect("/")
		before.joined("a", 1)
		before.publishOwn("a", "order-1", "order-2")
		s.expect("aorder-1", "aorder-2")
		s.leave()

		after := t.start(ownIDs)
		after.publishOwn("a", "order-1", "order-2", "order-3")
		s = after.resume("/", s.id)
		requireNoGap(t, s)
		s.expect("aorder-3")
	})
}

// A topic remembers the id that it has evicted last, even if the topic has been dropped.
func TestOwnIDThatWasEvictedLast(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{OwnIDs: true, LogEvents: 4}})
		a.publishOwn("a", "1", "2")
		a.publishOwn("b", "1", "2", "3", "4")
		require.Equal(t, 1, a.Stats().Topics, "topic a is dropped")
		for range 2 { // the second time, topic a has been made again, and dropped again
			s := a.resume("/?topic=a", "2")
			requireNoGap(t, s)
			a.endOf(s)
			s = a.resume("/?topic=a", "1")
			s.expectOwnGap(hub.GapMalformed, "1", false)
			a.endOf(s)
			testkit.Eventually(t, func() bool { return a.Stats().Topics == 1 }, "the drop of topic a")
		}
		s := a.resume("/?topic=a", "2")
		requireNoGap(t, s)
		a.publishOwn("a", "3")
		s.expect("a3")
		s.leave()

		// Topic b has evicted its 1, and nothing else.
		for _, tt := range []struct {
			query, id, want string
			gap             hub.GapReason
		}{
			{"?topic=a", "2", "a3", ""},
			{"?topic=b", "1", "b2 b3 b4", ""},
			{"?topic=b", "3", "b4", ""},
			{"?topic=a&topic=b", "3", "b4 a3", ""},
			{"?topic=a&topic=b", "2", "b2 b3 b4 a3", hub.GapExpired}, // from topic a's 2, after which topic b has lost its 1
		} {
			s := a.resume("/"+tt.query, tt.id)
			if tt.gap == "" {
				requireNoGap(t, s)
			} else {
				s.expectOwnGap(tt.gap, tt.id, false)
			}
			s.expect(strings.Fields(tt.want)...)
			a.endOf(s)
		}
	})
}

// A slow client is told of a gap without a position, too.
func TestOwnIDsInTheGapOfASlowClient(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, hub: hub.Config{OwnIDs: true, LogEvents: 10}, sub: hub.Subscription{Slow: hub.SlowSkip}})
		s := a.connectSlow("/")
		a.joined("a", 1)
		for i := range 300 {
			a.publish("a", sse.Event{ID: strconv.Itoa(i), Data: strings.Repeat("x", 50_000)})
		}
		for {
			if b := s.block(); b.Name == hub.GapEvent {
				require.Equal(t, "event: gap\ndata: {\"reason\":\"slow\",\"lastEventId\":\"\",\"snapshot\":false}\n\n", b.text)
				return
			}
		}
	})
}

func TestOwnIDsThatPublishRefuses(t *testing.T) {
	t.Parallel()
	h, err := hub.New(hub.Config{OwnIDs: true, LogEvents: 3})
	require.NoError(t, err)
	publish := func(topic, id string) (hub.Position, error) {
		return h.Publish(t.Context(), topic, sse.Event{ID: id, Data: "x"})
	}
	must := func(topic, id string) hub.Position {
		pos, err := publish(topic, id)
		require.NoError(t, err, id)
		return pos
	}
	duplicate := func(topic, id string, at hub.Position) {
		t.Helper()
		before := h.Stats()
		_, err := publish(topic, id)
		var dup *hub.DuplicateIDError
		require.ErrorAs(t, err, &dup)
		require.Equal(t, hub.DuplicateIDError{Topic: topic, ID: id, Position: at}, *dup)
		require.EqualError(t, err, `hub: publish: event `+at.String()+` of topic "`+topic+`" has the ID "`+id+`"; the ID must be no other event's of the topic`)
		require.Equal(t, before, h.Stats())
	}
	for id, text := range map[string]string{
		"":                        "hub: publish: event: ID must not be empty in a published event, since hub.Config.OwnIDs is set",
		strings.Repeat("x", 1025): "hub: publish: event: ID must not be longer than 1024 bytes in a published event",
	} {
		_, err := publish("a", id)
		var field *event.FieldError
		require.ErrorAs(t, err, &field)
		require.Equal(t, "ID", field.Field)
		require.EqualError(t, err, text)
		require.Zero(t, h.Stats().Topics)
	}
	must("a", strings.Repeat("x", 1024))
	must("a", h.Position().String()) // under OwnIDs no id is a position

	one := must("a", "1")
	duplicate("a", "1", one)
	must("b", "1")
	must("b", "2")
	duplicate("a", "1", one)
	must("b", "3") // evicts a's 1, and drops topic a
	require.Equal(t, 1, h.Stats().Topics)
	duplicate("a", "1", one)
	must("a", "2")
	duplicate("a", "1", one)
	must("b", "4")
	must("b", "5")
	two := must("b", "6").Offset // evicts a's 2
	require.NotZero(t, two)
	must("a", "1") // long gone: no client can resume from it
}
