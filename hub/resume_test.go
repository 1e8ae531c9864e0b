package hub_test

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// requireNoGap expects a stream without a gap, so far.
func requireNoGap(t testing.TB, s *stream) {
	t.Helper()
	require.NotContains(t, s.Header, hub.GapHeader)
}

func TestResumeWhereTheClientWas(t *testing.T) {
	for name, request := range map[string]func(id string) (path string, header []string){
		"by the header":           func(id string) (string, []string) { return "/", []string{"Last-Event-ID", id} },
		"by lastEventId":          func(id string) (string, []string) { return "/?lastEventId=" + url.QueryEscape(id), nil },
		"by Last-Event-ID":        func(id string) (string, []string) { return "/?x=y&Last-Event-ID=" + url.QueryEscape(id), nil },
		"by last_event_id":        func(id string) (string, []string) { return "/?last_event_id=" + url.QueryEscape(id), nil },
		"by evs_last_event_id":    func(id string) (string, []string) { return "/?evs_last_event_id=" + url.QueryEscape(id), nil },
		"by the header, not both": func(id string) (string, []string) { return "/?lastEventId=nonsense", []string{"Last-Event-ID", id} },
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(plan{})
				s := a.connect("/")
				a.publishN("a", 1, 5)
				s.expectN(1, 3)
				s.leave()
				a.publish("other", sse.Event{Data: "not for it"})
				a.publishN("a", 6, 7)
				path, header := request(s.id)
				s = a.connect(path, header...)
				requireNoGap(t, s)
				s.expectN(4, 7)
				a.publishN("a", 8, 9)
				s.expectN(8, 9)
				require.Empty(t, a.Stats().Gaps)
			})
		})
	}
}

func TestResumeFromEachEvent(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		var ids []string
		for i := range 10 {
			e := sse.Event{Data: strconv.Itoa(i)}
			if i%3 == 0 {
				e.ID = "own " + e.Data
			}
			pos := a.publish([]string{"a", "b"}[i%2], e)
			ids = append(ids, pos.String())
			if e.ID != "" {
				ids[i] = e.ID
			}
		}
		for i, id := range ids {
			both, b := a.resume("/?topic=a&topic=b", id), a.resume("/?topic=b", id)
			requireNoGap(t, both)
			requireNoGap(t, b)
			both.expectN(i+1, 9)
			for n := i + 1; n < 10; n++ {
				if n%2 == 1 {
					b.expect(strconv.Itoa(n))
				}
			}
			both.leave()
			b.leave()
		}
		require.Empty(t, a.Stats().Gaps)
	})
}

// What is looked at in one go is bounded for each topic, and does not come to the same
// place in all of them.
func TestResumeFarBehindOnTopicsOfUnlikeTraffic(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{sub: hub.Subscription{Start: hub.Beginning}})
		const n = 3000
		for i := 1; i <= n; i++ {
			topic := "busy"
			if i%4 == 0 || i > 2000 && i%2 == 0 {
				topic = "calm"
			}
			a.publish(topic, sse.Event{Data: strconv.Itoa(i)})
		}
		s := a.connect("/?topic=calm&topic=none&topic=busy")
		s.expectN(1, 2*n/3)
		s = a.reconnect(s)
		requireNoGap(t, s)
		s.expectN(2*n/3+1, n)
	})
}

// The position of an event with an id of its own is as good as that.
func TestResumeFromThePositionOfAnOwnID(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		pos := a.publish("a", sse.Event{ID: "own", Data: "1"})
		a.publishN("a", 2, 3)
		s := a.resume("/", pos.String())
		requireNoGap(t, s)
		s.expectN(2, 3)
	})
}

func TestResumeBeforeTheFirstEvent(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		for i := range 3 { // the log is empty the first time
			s := a.connect("/")
			b := s.block()
			require.True(t, b.silent)
			require.Equal(t, a.Position().String(), b.ID)
			s.leave()
			a.publishN("a", 4*i+1, 4*i+2)
			s = a.resume("/", s.id)
			requireNoGap(t, s)
			a.publishN("a", 4*i+3, 4*i+4)
			s.expectN(4*i+1, 4*i+4)
			s.leave()
		}
	})
}

// A client is told an id once.
func TestResumeIDIsToldOnce(t *testing.T) {
	for name, sub := range map[string]hub.Subscription{
		"Now":       {},
		"Beginning": {Start: hub.Beginning},
		"Latest":    {Start: hub.Latest},
		"Snapshot":  {Snapshot: func(_ *sse.ServerSession, at hub.Position) (hub.Position, error) { return at, nil }},
		"Filter":    {Filter: func(m *hub.Message) bool { return m.Event.Data == "end" }, Start: hub.Beginning},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(plan{sub: sub})
				for range 2 {
					if name == "Filter" {
						a.publish("a", sse.Event{Data: "not for it"})
					}
					s := a.connect("/")
					require.Equal(t, "id: "+a.Position().String()+"\n\n", s.block().text)
					pos := a.publish("a", sse.Event{Data: "end"})
					require.Equal(t, "data: end\nid: "+pos.String()+"\n\n", s.block().text)
					s.leave()
					if name == "Beginning" || name == "Latest" || name == "Filter" {
						return // with an event in the log it begins there
					}
				}
			})
		})
	}
}

// A client of a quiet topic has not missed anything when it comes back, however far
// the log has moved on: while it is connected, heartbeats bring its id along.
func TestResumeAfterHeartbeatsOfAQuietTopic(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{
			hub: hub.Config{LogEvents: 10},
			sse: sse.Config{Heartbeat: sse.Heartbeat{Period: 3 * time.Millisecond}},
		})
		a.publish("quiet", sse.Event{Data: "1"})
		s := a.connect("/?topic=quiet&topic=silent")
		first := s.block()
		require.NotEmpty(t, first.ID)
		for range 3 {
			for range 20 {
				a.publish("busy", sse.Event{Data: "x"})
			}
			for s.id != a.Position().String() {
				b := s.block()
				require.True(t, b.silent, "%q", b.text)
			}
		}
		for { // once it knows the position a comment will do
			b := s.block()
			require.Empty(t, b.ID, "it is told what it knows")
			if b.Comment == "heartbeat" {
				break
			}
		}
		s.leave()
		a.publish("quiet", sse.Event{Data: "2"})
		s = a.resume("/?topic=quiet&topic=silent", s.id)
		requireNoGap(t, s)
		s.expect("2")
		a.publish("silent", sse.Event{Data: "3"})
		s.expect("3")
		s.leave()

		// An id that is not brought along is not good enough, which the above would
		// not show if it were.
		s = a.resume("/?topic=quiet", first.ID)
		requireNoGap(t, s)
		s.expect("2")
		s.leave()
		for range 20 {
			a.publish("quiet", sse.Event{Data: "x"})
		}
		require.Equal(t, string(hub.GapExpired), a.resume("/?topic=quiet", first.ID).Header.Get(hub.GapHeader))
	})
}

// What heartbeats say of the position, and when, must lose nothing.
func TestResumeLosesNothingBesideHeartbeats(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{sse: sse.Config{Heartbeat: sse.Heartbeat{Period: time.Microsecond}}})
		const rounds, each = 30, 20
		s := a.connect("/")
		require.NotEmpty(t, s.block().ID)
		var publisher sync.WaitGroup
		defer publisher.Wait()
		publisher.Go(func() {
			for i := range rounds * each {
				_, err := a.Publish(context.Background(), "a", sse.Event{Data: strconv.Itoa(i)})
				noError(t, err)
				_, err = a.Publish(context.Background(), "busy", sse.Event{Data: "x"})
				noError(t, err)
				time.Sleep(time.Duration(i%3) * 50 * time.Microsecond)
			}
		})
		next := 0
		for blocks := 0; next < rounds*each; blocks++ {
			b := s.block()
			if !b.silent {
				require.Equal(t, strconv.Itoa(next), b.Data)
				next++
			}
			if blocks%each == each-1 {
				s = a.reconnect(s)
				requireNoGap(t, s)
			}
		}
	})
}

// An event that a filter keeps back is behind the client all the same.
func TestResumeBehindWhatIsFiltered(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{
			hub: hub.Config{LogEvents: 10},
			sse: sse.Config{Heartbeat: sse.Heartbeat{Period: 3 * time.Millisecond}},
			sub: hub.Subscription{Filter: func(m *hub.Message) bool { return m.Event.Data == "yes" }},
		})
		s := a.connect("/")
		for range 5 {
			for range 5 {
				a.publish("a", sse.Event{Data: "no"})
			}
			for s.id != a.Position().String() {
				require.True(t, s.block().silent)
			}
		}
		s.leave()
		a.publish("a", sse.Event{Data: "yes"})
		s = a.resume("/", s.id)
		requireNoGap(t, s)
		s.expect("yes")
	})
}

func TestStartOfAFirstConnection(t *testing.T) {
	forEach(t, func(t *test) {
		var after hub.Position
		a := t.start(plan{serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			sub.Start = map[string]hub.Start{
				"":          {},
				"now":       hub.Now,
				"beginning": hub.Beginning,
				"latest":    hub.Latest,
				"after":     hub.After(after),
			}[s.Call().URL.Query().Get("start")]
			return h.Serve(s, sub)
		}})
		publish := func(topic string, data ...string) (pos hub.Position) {
			for _, d := range data {
				pos = a.publish(topic, sse.Event{Data: d})
			}
			return pos
		}
		a.publish("other", sse.Event{Data: "other"})
		publish("a", "a1", "a2")
		after = publish("b", "b1")
		publish("a", "a3")
		publish("b", "b2")
		publish("a", "a4", "a5")
		for _, tt := range []struct {
			query string
			want  string
		}{
			{"?", ""},
			{"?start=now", ""},
			{"?start=beginning", "a1 a2 a3 a4 a5"},
			{"?start=beginning&topic=a&topic=b", "a1 a2 b1 a3 b2 a4 a5"},
			{"?start=beginning&topic=none", ""},
			{"?start=latest", "a5"},
			{"?start=latest&topic=a&topic=b", "b2 a5"},
			{"?start=latest&topic=b", "b2"},
			{"?start=latest&topic=none", ""},
			{"?start=latest&topic=none&topic=b", "b2"},
			{"?start=after", "a3 a4 a5"},
			{"?start=after&topic=a&topic=b", "a3 b2 a4 a5"},
			{"?start=after&topic=none", ""},
		} {
			s := a.connect("/" + tt.query)
			requireNoGap(t, s)
			for data := range strings.FieldsSeq(tt.want) {
				require.Equal(t, data, s.event().Data, tt.query)
			}
			a.endOf(s)
		}
		// Whoever has an id begins there.
		for _, start := range []string{"", "now", "beginning", "latest", "after"} {
			s := a.resume("/?start="+start, after.String())
			requireNoGap(t, s)
			s.expect("a3", "a4", "a5")
			s.leave()
		}
		require.Empty(t, a.Stats().Gaps)
	})
}

func TestStartAtTheBeginningOfWhatIsLeft(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{LogEvents: 5}, sub: hub.Subscription{Start: hub.Beginning}})
		a.publish("b", sse.Event{Data: "lost"})
		a.publishN("a", 1, 20)
		s, b := a.connect("/"), a.connect("/?topic=b")
		requireNoGap(t, s)
		requireNoGap(t, b)
		s.expectN(16, 20)
		a.publish("b", sse.Event{Data: "b"})
		b.expect("b")
	})
}

func TestStartAfterAPositionThatHasExpiredIsAGap(t *testing.T) {
	forEach(t, func(t *test) {
		var after hub.Position
		a := t.start(plan{
			hub: hub.Config{LogEvents: 5},
			serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
				sub.Start = hub.After(after)
				return h.Serve(s, sub)
			},
		})
		after = a.publish("a", sse.Event{Data: "1"})
		a.publishN("a", 2, 10)
		s := a.connect("/")
		require.Equal(t, "expired", s.Header.Get(hub.GapHeader))
		gap := s.expectGap()
		require.Equal(t, hub.Gap{Reason: hub.GapExpired, LastEventID: after.String(), Position: gap.Position}, gap)
		s.expectN(6, 10)
	})
}

// gapCase is a way to come with an id that is of no use.
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

// After a gap the stream goes on with what is left of what the client has missed, if
// that is known, else where Start says.
func TestGapIsToldAndWhatFollows(t *testing.T) {
	for name, tt := range map[string]struct {
		start    func(h *hub.Hub, eighth hub.Position) hub.Start
		snapshot bool
		from     int // which event is the next
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
				first := a.publish("a", sse.Event{ID: "own", Data: "1"})
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
					require.Equal(t, hub.GapEvent, b.Name, "it comes first")
					from := tt.from
					if c.reason == hub.GapExpired && !tt.snapshot {
						from = 6
					}
					position := hub.Position{Epoch: head.Epoch, Offset: uint64(from - 1)}
					require.JSONEq(t, `{"reason":"`+string(c.reason)+`","lastEventId":"`+id+`","position":"`+position.String()+`","snapshot":`+strconv.FormatBool(tt.snapshot)+`}`, b.Data)
					if !tt.snapshot {
						require.Equal(t, position.String(), b.ID)
					} else {
						require.Empty(t, b.ID, "the client has not got the state yet")
						require.Equal(t, head, receive(t, snapshots))
						require.Equal(t, sse.Event{Name: "state", Data: "all"}, s.event())
						require.Equal(t, head.String(), s.block().ID)
					}
					told := s.id
					s.expectN(from, 10)
					s.leave()

					// The gap is over for a client that has been told of it.
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

// A gap is one of the client's topics, not of the log.
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

// A topic that has been forgotten does not pass for one that never was.
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
		eventually(t, func() bool { return a.Stats().LogEvents == 0 }, "an empty log, though nothing is published")
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

// What is due to a client may leave the log while the session opens. Whether it is in
// time for the header, or not, the client is told.
func TestGapWhileTheSessionOpens(t *testing.T) {
	for name, passes := range map[string]bool{"before the head": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				const log = 700 // more than is looked at in one go
				a := t.start(plan{
					hub: hub.Config{LogEvents: log},
					serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
						var once sync.Once
						sub.Start = hub.Beginning
						sub.Filter = func(m *hub.Message) bool {
							once.Do(func() {
								for i := range log + 10 {
									_, err := h.Publish(s.Context(), "a", sse.Event{Name: "new", Data: strconv.Itoa(i)})
									noError(t, err)
								}
							})
							return passes || m.Event.Name == "new"
						}
						return h.Serve(s, sub)
					},
				})
				a.publishN("a", 1, log)
				s := a.connect("/")
				if passes {
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
					require.True(t, passes)
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
