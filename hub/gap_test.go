package hub_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// gapCase is a client that connects with an id from which it cannot resume.
type gapCase struct {
	reason hub.GapReason
	id     func(a *app, first hub.Position) string
}

var gapCases = []gapCase{
	{hub.GapExpired, func(_ *app, first hub.Position) string { return first.String() }},
	{hub.GapExpired, func(_ *app, first hub.Position) string { return hub.Position{Epoch: first.Epoch}.String() }},
	{hub.GapEpoch, func(a *app, _ hub.Position) string {
		pos := a.Position()
		pos.Epoch++
		return pos.String()
	}},
	{hub.GapAhead, func(a *app, _ hub.Position) string {
		pos := a.Position()
		pos.Offset++
		return pos.String()
	}},
	{hub.GapMalformed, func(*app, hub.Position) string { return "nonsense" }},
	{hub.GapMalformed, func(_ *app, first hub.Position) string { return strings.ToUpper(first.String()) }},
	{hub.GapMalformed, func(_ *app, first hub.Position) string { return first.String() + "0000000000000000000000" }},
	{hub.GapMalformed, func(*app, hub.Position) string { return "own" }},
}

// After a gap the stream continues with those of the missed events that the log still
// holds, if the hub can know which the client missed, and otherwise where Start says.
func TestGapIsToldAndWhatFollows(t *testing.T) {
	for name, tt := range map[string]struct {
		start    func(h *hub.Hub, eighth hub.Position) hub.Start
		snapshot bool
		from     int // number of the next event that the client gets
	}{
		"Now":       {func(*hub.Hub, hub.Position) hub.Start { return hub.Now }, false, 11},
		"Beginning": {func(*hub.Hub, hub.Position) hub.Start { return hub.Beginning }, false, 6},
		"Latest":    {func(*hub.Hub, hub.Position) hub.Start { return hub.Latest }, false, 10},
		"After":     {func(_ *hub.Hub, eighth hub.Position) hub.Start { return hub.After(eighth) }, false, 9},
		"Snapshot":  {func(*hub.Hub, hub.Position) hub.Start { return hub.Beginning }, true, 11},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				var eighth hub.Position
				snapshots := make(chan hub.Position, 100)
				a := t.start(plan{
					hub: hub.Config{LogEvents: 5},
					serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
						sub.Start = tt.start(h, eighth)
						if tt.snapshot {
							sub.Snapshot = func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
								snapshots <- at
								return at, s.Send(sse.Event{Name: "state", Data: "all"})
							}
						}
						return h.Serve(s, sub)
					},
				})
				first := a.publish("a", sse.Event{Data: "1"})
				a.publishN("a", 2, 7)
				eighth = a.publish("a", sse.Event{Data: "8"})
				a.publishN("a", 9, 10)
				head := a.Position()
				gaps := make(map[hub.GapReason]uint64)
				for _, c := range gapCases {
					id := c.id(a, first)
					s := a.resume("/", id)
					require.Equal(t, []string{string(c.reason)}, s.Header.Values(hub.GapHeader), id)
					b := s.block()
					require.Equal(t, hub.GapEvent, b.Name, "the gap comes first")
					from := tt.from
					if c.reason == hub.GapExpired && !tt.snapshot {
						from = 6
					}
					position := hub.Position{Epoch: head.Epoch, Offset: uint64(from - 1)}
					require.JSONEq(t, `{"reason":"`+string(c.reason)+`","lastEventId":"`+id+`","position":"`+position.String()+`","snapshot":`+strconv.FormatBool(tt.snapshot)+`}`, b.Data)
					if !tt.snapshot {
						require.Equal(t, position.String(), b.ID)
					} else {
						require.Empty(t, b.ID, "the client does not have the state yet")
						require.Equal(t, head, testkit.Receive(t, snapshots))
						require.Equal(t, sse.Event{Name: "state", Data: "all"}, s.event())
						require.Equal(t, head.String(), s.block().ID)
					}
					told := s.id
					s.expectN(from, 10)
					s.leave()

					// A client that has been told of the gap resumes without one.
					s = a.resume("/", told)
					requireNoGap(t, s)
					s.expectN(from, 10)
					a.endOf(s)
					gaps[c.reason]++
				}
				require.Equal(t, gaps, a.Stats().Gaps)
				require.Empty(t, snapshots)
				require.Equal(t, head, a.Position())

				s := a.resume("/", head.String())
				a.publish("a", sse.Event{Data: "11"})
				s.expect("11")
			})
		})
	}
}

// A client has a gap only if its own topics have lost events.
func TestGapOnlyWhereSomethingIsMissing(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{LogEvents: 10}})
		keeper := a.connect("/?topic=quiet&topic=lost")
		before := a.publish("lost", sse.Event{Data: "0"})
		at := a.publish("lost", sse.Event{Data: "1"})
		keeper.expect("0", "1")
		for range 20 {
			a.publish("busy", sse.Event{Data: "x"})
		}
		a.publish("quiet", sse.Event{Data: "2"})
		keeper.expect("2")

		s := a.resume("/?topic=quiet", before.String())
		requireNoGap(t, s)
		s.expect("2")
		s = a.resume("/?topic=lost", at.String())
		requireNoGap(t, s)
		s = a.resume("/?topic=lost&topic=quiet", at.String())
		requireNoGap(t, s)
		s.expect("2")

		s = a.resume("/?topic=lost&topic=quiet", before.String())
		require.Equal(t, "expired", s.Header.Get(hub.GapHeader))
		require.Equal(t, at, s.expectGap().Position)
		s.expect("2")
	})
}

// The hub does not mistake a topic that it has dropped for a new one.
func TestGapOfATopicThatIsForgotten(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{LogEvents: 5}})
		zero := a.Position()
		a.publish("a", sse.Event{Data: "1"})
		for range 10 {
			a.publish("busy", sse.Event{Data: "x"})
		}
		require.Equal(t, 1, a.Stats().Topics)
		s := a.resume("/", zero.String())
		require.Equal(t, "expired", s.Header.Get(hub.GapHeader))
		s.expectGap()
		a.publish("a", sse.Event{Data: "2"})
		s.expect("2")
	})
}

func TestGapByAge(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{LogAge: 20 * time.Millisecond}})
		s := a.connect("/")
		a.publishN("a", 1, 3)
		s.expect("1")
		s.leave()
		testkit.Eventually(t, func() bool { return a.Stats().LogEvents == 0 }, "an empty log, although nothing is published")
		last := a.Position()
		s = a.resume("/", s.id)
		require.Equal(t, "expired", s.Header.Get(hub.GapHeader))
		require.Equal(t, last, s.expectGap().Position)
		requireNoGap(t, a.resume("/", last.String()))
		a.publish("a", sse.Event{Data: "4"})
		s.expect("4")
	})
}

func TestGapBySize(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{LogSize: 100 << 10}, sub: hub.Subscription{Start: hub.Beginning}})
		first := a.publish("a", sse.Event{Data: "1"})
		for range 10 {
			a.publish("a", sse.Event{Data: strings.Repeat("x", 20<<10)})
		}
		st := a.Stats()
		require.LessOrEqual(t, st.LogSize, int64(100<<10))
		require.EqualValues(t, 11, st.Evicted+uint64(st.LogEvents))
		s := a.resume("/", first.String())
		require.Equal(t, "expired", s.Header.Get(hub.GapHeader))
		s.expectGap()
		for range st.LogEvents {
			require.Len(t, s.event().Data, 20<<10)
		}
	})
}

// Unsent events can leave the log while its session opens. The client is told of the gap by
// the event, and by the header if that has not been sent yet.
func TestGapWhileTheSessionOpens(t *testing.T) {
	for name, accepts := range map[string]bool{"before the head": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				const log = 700 // more than the hub collects at a time
				a := t.start(plan{
					hub: hub.Config{LogEvents: log},
					serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
						var once sync.Once
						sub.Start = hub.Beginning
						sub.Filter = func(m *hub.Message) bool {
							once.Do(func() {
								for i := range log + 10 {
									_, err := h.Publish(s.Context(), "a", sse.Event{Name: "new", Data: strconv.Itoa(i)})
									testkit.NoError(t, err)
								}
							})
							return accepts || m.Event.Name == "new"
						}
						return h.Serve(s, sub)
					},
				})
				a.publishN("a", 1, log)
				s := a.connect("/")
				if accepts {
					requireNoGap(t, s)
				} else {
					require.Equal(t, "expired", s.Header.Get(hub.GapHeader))
				}
				for n := 1; ; n++ {
					e := s.event()
					if e.Name == hub.GapEvent {
						require.Equal(t, a.Position().Offset-log, parse(t, e.ID).Offset)
						break
					}
					require.True(t, accepts)
					require.Equal(t, strconv.Itoa(n), e.Data)
				}
				s.expectN(10, log+9)
				require.Equal(t, map[hub.GapReason]uint64{hub.GapExpired: 1}, a.Stats().Gaps)
				require.Zero(t, a.Stats().Ended)
			})
		})
	}
}

func parse(t testing.TB, id string) hub.Position {
	t.Helper()
	pos, err := hub.ParsePosition(id)
	require.NoError(t, err)
	return pos
}

// An id of a megabyte is a gap. It is neither sent back nor logged.
func TestGapOfALongID(t *testing.T) {
	forEach(t, func(t *test) {
		for _, own := range []bool{false, true} {
			for _, query := range []bool{false, true} {
				a := t.start(plan{hub: hub.Config{OwnIDs: own}})
				id := strings.Repeat("x", 500_000)
				path, header := "/", id
				if query {
					path, header = "/?lastEventId="+id, ""
				}
				s := a.resume(path, header)
				require.Equal(t, string(hub.GapMalformed), s.Header.Get(hub.GapHeader))
				ev := s.block()
				require.Equal(t, hub.GapEvent, ev.Name)
				require.Less(t, len(ev.Data), 500)
				require.Contains(t, ev.Data, `"lastEventId":""`)
				require.Contains(t, a.log.String(), "xxx... (500000 bytes)")
				require.Less(t, len(a.log.String()), 5000)
			}
		}
	})
}
