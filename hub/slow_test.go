package hub_test

import (
	"context"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// padding makes an event so large that a hundred of them do not fit into the buffers
// between a server and a client, if those are small.
var padding = strings.Repeat(".", 16<<10)

// numbered returns a large event with i as its name.
func numbered(i int) sse.Event { return sse.Event{Name: strconv.Itoa(i), Data: padding} }

// number returns the number of such an event.
func number(t testing.TB, e sse.Event) int {
	t.Helper()
	n, err := strconv.Atoi(e.Name)
	require.NoError(t, err, e.Name)
	require.Len(t, e.Data, len(padding))
	return n
}

// blockWrite publishes an event named "large", of 1 MiB, and returns when s has begun to
// receive it. The server's write to s then waits until s reads on.
func (a *app) blockWrite(topic string, s *stream) {
	a.t.Helper()
	require.NotEmpty(a.t, s.block().ID, "an id from which the client can resume")
	a.publish(topic, sse.Event{Name: "large", Data: strings.Repeat(".", 1<<20)})
	_, err := s.r.Peek(1)
	require.NoError(a.t, err)
}

func TestSlowEnd(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, hub: hub.Config{LogEvents: 10}})
		s := a.connectSlow("/?topic=a&topic=b")
		a.blockWrite("a", s)
		a.publishN("b", 1, 3)
		a.publishN("a", 4, 20)
		require.Equal(t, "large", s.event().Name)
		s.expectEnd() // only after the complete event
		e := a.end()
		require.Equal(t, sse.EndSlow, e.Reason)
		require.ErrorIs(t, e.Err, sse.ErrSlow)
		var slow *hub.SlowError
		require.ErrorAs(t, e.Err, &slow)
		if !a.usesLog { // which topics have lost how many is not known
			require.Equal(t, &hub.SlowError{Topic: "a", Missed: 7}, slow)
		}
		require.EqualValues(t, 1, a.Stats().Ended)
		require.Empty(t, a.Stats().Gaps)
		require.Contains(t, a.log.String(), "level=WARN")

		s = a.reconnect(s)
		require.Equal(t, "expired", s.Header.Get(hub.GapHeader))
		gap := s.expectGap()
		require.EqualValues(t, 11, gap.Position.Offset)
		s.expectN(11, 20)
	})
}

// A client is not slow because the log loses events of other topics.
func TestSlowEndIsNotOfAnotherTopic(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, hub: hub.Config{LogEvents: 10}})
		s := a.connectSlow("/")
		a.blockWrite("a", s)
		a.publishN("busy", 1, 20)
		a.publishN("a", 1, 3)
		require.Equal(t, "large", s.event().Name)
		s.expectN(1, 3)
		require.Zero(t, a.Stats().Ended, "its topic has lost no event")
	})
}

// A slow client gets every event, as long as the log loses none of them.
func TestSlowButInTime(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true})
		s := a.connectSlow("/")
		a.blockWrite("a", s)
		for i := range 100 {
			a.publish("a", numbered(i))
		}
		require.Equal(t, "large", s.event().Name)
		for i := range 100 {
			require.Equal(t, i, number(t, s.event()))
		}
		require.Empty(t, a.Stats().Gaps)
		require.Zero(t, a.Stats().Ended)
	})
}

func TestSlowSkip(t *testing.T) {
	for name, snapshot := range map[string]bool{"no snapshot": false, "with a snapshot": true} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				var p plan
				p.small = true
				p.hub.LogEvents = 10
				p.sub.Slow = hub.SlowSkip
				if snapshot {
					p.sub.Snapshot = func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
						return at, s.Send(sse.Event{Name: "state", Data: at.String()})
					}
				}
				a := t.start(p)
				s := a.connectSlow("/")
				requireNoGap(t, s)
				if snapshot {
					require.Equal(t, a.Position().String(), s.event().Data)
				}
				a.blockWrite("a", s)
				large := a.Position()
				a.publishN("a", 1, 20)
				head := a.Position()
				require.Equal(t, "large", s.event().Name)
				require.Equal(t, hub.Gap{Reason: hub.GapSlow, LastEventID: large.String(), Position: head, Snapshot: snapshot}, s.expectGap())
				if snapshot {
					require.Equal(t, large.String(), s.id, "the client does not have the state yet")
					require.Equal(t, sse.Event{Name: "state", Data: head.String()}, s.event())
					require.Equal(t, head.String(), s.block().ID)
				}
				a.publishN("a", 21, 25)
				s.expectN(21, 25)
				require.Equal(t, map[hub.GapReason]uint64{hub.GapSlow: 1}, a.Stats().Gaps)
				require.Zero(t, a.Stats().Ended)
				require.Contains(t, a.log.String(), "reason=slow")

				s = a.reconnect(s)
				requireNoGap(t, s)
			})
		})
	}
}

func TestSlowSkipWithASnapshotThatFails(t *testing.T) {
	for name, panics := range map[string]bool{"error": false, "panic": true} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				first := true
				a := t.start(plan{small: true, hub: hub.Config{LogEvents: 10}, sub: hub.Subscription{
					Slow: hub.SlowSkip,
					Snapshot: func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) {
						if !first && panics {
							panic("of the snapshot")
						} else if !first {
							return at, errOwn
						}
						first = false
						return at, nil
					},
				}})
				s := a.connectSlow("/")
				a.blockWrite("a", s)
				a.publishN("a", 1, 20)
				require.Equal(t, "large", s.event().Name)
				s.expectGap()
				_, err := s.rest()
				require.Error(t, err, "the stream must not look complete")
				if e := a.end(); panics {
					require.Equal(t, sse.EndPanic, e.Reason)
				} else {
					require.ErrorIs(t, e.Err, errOwn)
				}
			})
		})
	}
}

// With SlowLatest, a client that is behind gets only the newest event of each topic.
func TestSlowLatest(t *testing.T) {
	for name, log := range map[string]int{"whole log": 0, "short log": 10} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(plan{small: true, hub: hub.Config{LogEvents: log}, sub: hub.Subscription{
					Topics: []string{"a", "b", "c"},
					Slow:   hub.SlowLatest,
				}})
				s := a.connectSlow("/")
				a.blockWrite("a", s)
				for i := range 300 {
					a.publish([]string{"a", "b"}[i/3%2], sse.Event{Data: strconv.Itoa(i)})
				}
				require.Equal(t, "large", s.event().Name)
				s.expect("296", "299")
				require.Empty(t, a.Stats().Gaps)

				// A client that keeps up gets every event.
				for i := range 20 {
					a.publish([]string{"a", "b", "c"}[i%3], sse.Event{Data: strconv.Itoa(i)})
					s.expect(strconv.Itoa(i))
				}
			})
		})
	}
}

// The log may have lost a topic's newest event too.
func TestSlowLatestOfATopicThatIsLost(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, hub: hub.Config{LogEvents: 10}, sub: hub.Subscription{
			Topics: []string{"a", "b"},
			Slow:   hub.SlowLatest,
		}})
		s := a.connectSlow("/")
		a.blockWrite("a", s)
		a.publishN("b", 1, 3)
		a.publishN("a", 4, 23)
		require.Equal(t, "large", s.event().Name)
		gap := s.expectGap()
		require.Equal(t, hub.GapSlow, gap.Reason)
		require.Equal(t, a.Position().Offset-10, gap.Position.Offset)
		s.expect("23")
		a.publish("b", sse.Event{Data: "24"})
		s.expect("24")
	})
}

func TestSlowLatestByKey(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sub: hub.Subscription{
			Topics: []string{"a", "b"},
			Slow:   hub.SlowLatest,
			Filter: func(m *hub.Message) bool { return m.Event.Comment != "key 4" },
			Key: func(m *hub.Message) string {
				if m.Event.Comment == "key 4" {
					panic("of one that is filtered")
				}
				return m.Event.Comment
			},
		}})
		s := a.connectSlow("/")
		a.blockWrite("a", s)
		for i := range 300 {
			a.publish([]string{"a", "b"}[i%2], sse.Event{Data: strconv.Itoa(i), Comment: "key " + strconv.Itoa(i/2%5)})
		}
		require.Equal(t, "large", s.event().Name)
		s.expect("291", "293", "295", "297")
		a.publish("a", sse.Event{Data: "300"})
		s.expect("300")
	})
}

// With a Key, the log may have lost the newest event of a key.
func TestSlowLatestByKeyBehindTheLog(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, hub: hub.Config{LogEvents: 10}, sub: hub.Subscription{
			Slow: hub.SlowLatest,
			Key:  func(m *hub.Message) string { return m.Event.Comment },
		}})
		s := a.connectSlow("/")
		a.blockWrite("a", s)
		for i := range 300 {
			a.publish("a", sse.Event{Data: strconv.Itoa(i), Comment: "key " + strconv.Itoa(i%5)})
		}
		require.Equal(t, "large", s.event().Name)
		require.Equal(t, a.Position().Offset-10, s.expectGap().Position.Offset)
		s.expectN(295, 299) // the newest event of each key that the log still holds
		require.Equal(t, map[hub.GapReason]uint64{hub.GapSlow: 1}, a.Stats().Gaps)
		a.publish("a", sse.Event{Data: "300"})
		s.expect("300")
	})
}

func TestSlowLatestOnTheFirstConnection(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{sub: hub.Subscription{
			Topics: []string{"a", "b"},
			Start:  hub.Beginning,
			Slow:   hub.SlowLatest,
		}})
		for i := range 20 {
			a.publish([]string{"a", "b"}[i%2], sse.Event{Data: strconv.Itoa(i)})
		}
		s := a.connect("/")
		s.expect("18", "19")
	})
}

// The newest events may be more than fit into one write.
func TestSlowLatestOfManyLargeEvents(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sub: hub.Subscription{
			Slow: hub.SlowLatest,
			Key:  func(m *hub.Message) string { return m.Event.Comment },
		}})
		s := a.connectSlow("/")
		a.blockWrite("a", s)
		for i := range 50 {
			e := numbered(i)
			e.Comment = strconv.Itoa(i % 20)
			a.publish("a", e)
		}
		require.Equal(t, "large", s.event().Name)
		for i := 30; i < 50; i++ {
			require.Equal(t, i, number(t, s.event()))
		}
	})
}

// Clients that never read delay neither the publisher nor the other clients, whatever their
// topics. They delay Shutdown no longer than its context allows.
func TestSlowClientsDelayNobody(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sse: sse.Config{WriteTimeout: time.Hour}})
		var good []*stream
		for i := range 20 {
			a.connectSlow("/")
			if i%4 == 0 {
				good = append(good, a.connect("/"), a.connect("/?topic=b"), a.connect("/?topic=b&topic=a"))
			}
		}
		for i := range 150 {
			a.publish("a", numbered(i))
			if i%10 == 9 {
				a.publish("b", sse.Event{Name: "b"})
				for i := 1; i < len(good); i += 3 {
					require.Equal(t, "b", good[i].event().Name)
				}
			}
		}
		for i := range 150 {
			for n, s := range good {
				if n%3 != 1 {
					require.Equal(t, i, number(t, s.event()))
				}
				if n%3 == 2 && i%10 == 9 {
					require.Equal(t, "b", s.event().Name)
				}
			}
		}
		a.publish("a", sse.Event{Name: "again"})
		for n, s := range good {
			if n%3 != 1 {
				require.Equal(t, "again", s.event().Name)
			}
		}

		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		a.shutdownLeaves(ctx, 20)
		for _, s := range good {
			s.expectEnd()
		}
		for range 20 + len(good) {
			require.Equal(t, sse.EndShutdown, a.end().Reason)
		}
		var err error
		testkit.Within(t, func() { err = a.Shutdown(t.Context()) })
		require.NoError(t, err, "no member is left")
	})
}

func TestSlowClientIsCutOffByTheWriteTimeout(t *testing.T) {
	forEach(t, func(t *test) {
		left := make(chan error, 10)
		a := t.start(plan{
			small: true,
			hub:   hub.Config{OnLeave: func(_ *hub.Member, _ string, cause error) { left <- cause }},
			sse:   sse.Config{WriteTimeout: 200 * time.Millisecond},
		})
		s, good := a.connectSlow("/"), a.connect("/")
		for i := range 100 {
			a.publish("a", numbered(i))
			require.Equal(t, i, number(t, good.event()))
		}
		require.ErrorIs(t, testkit.Receive(t, left), sse.ErrWriteTimeout)
		e := a.end()
		require.Equal(t, sse.EndWriteTimeout, e.Reason)
		require.ErrorIs(t, e.Err, sse.ErrWriteTimeout)
		require.Less(t, e.Events, int64(100))
		a.joined("a", 1)
		next := 0
		for {
			b, err := s.tryBlock()
			if err != nil {
				require.NotEqual(t, io.EOF, err, "the stream must not look complete")
				break
			}
			if !b.silent {
				require.Equal(t, next, number(t, b.Event))
				next++
			}
		}
		require.Less(t, next, 100)

		s = a.reconnect(s)
		requireNoGap(t, s)
		for ; next < 100; next++ {
			require.Equal(t, next, number(t, s.event()))
		}
	})
}

// If a client leaves in the middle of an event, its session ends at once, whatever the
// write timeout is.
func TestSlowClientThatLeaves(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sse: sse.Config{WriteTimeout: time.Hour}})
		s := a.connectSlow("/")
		a.blockWrite("a", s)
		s.leave()
		require.Equal(t, sse.EndClientGone, a.end().Reason)
		a.joined("a", 0)
	})
}

// A slow client that is kicked gets the event that is being written, and those that were
// published before the kick.
func TestSlowClientThatIsKicked(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true})
		s := a.connectSlow("/")
		a.blockWrite("a", s)
		a.publishN("a", 1, 3)
		require.Equal(t, 1, a.kick("a", errOwn))
		require.Equal(t, "large", s.event().Name)
		s.expectN(1, 3)
		s.expectEnd()
		require.Equal(t, sse.EndKicked, a.end().Reason)
	})
}

// Heartbeats wait like events for a client that does not read.
func TestSlowClientAndHeartbeats(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{small: true, sse: sse.Config{
			Heartbeat: sse.Heartbeat{Period: time.Millisecond, Event: sse.Event{Name: "beat"}},
		}})
		s := a.connectSlow("/")
		for i := range 100 {
			a.publish("a", numbered(i))
		}
		for i, beats := 0, 0; i < 100 || beats < 3; {
			switch e := s.event(); e.Name {
			case "beat":
				beats++
			default:
				require.Equal(t, i, number(t, e))
				i++
			}
		}
	})
}

func TestSlowErrorSays(t *testing.T) {
	err := &hub.SlowError{Topic: "a", Missed: 7}
	require.EqualError(t, err, `hub: 7 events of topic "a" left the log before they could be sent`)
	require.ErrorIs(t, err, sse.ErrSlow)
}
