package hub_test

import (
	"context"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// requireNoGap asserts that the stream has no GapHeader.
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
			pos := a.publish([]string{"a", "b"}[i%2], sse.Event{Data: strconv.Itoa(i)})
			ids = append(ids, pos.String())
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

// The hub collects a bounded number of entries of each topic at a time. Those end at
// different offsets.
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

func TestResumeBeforeTheFirstEvent(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		for i := range 3 { // the first time, the log is empty
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

// A new client is sent an id alone only if no event gives it one.
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
						return // it would start with the event that is in the log now
					}
				}
			})
		})
	}
}

// A client of a quiet topic resumes without a gap, however many events of other topics have
// left the log: while it is connected, heartbeats send it the hub's position.
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
		for { // once the client knows the position, the heartbeat is a comment
			b := s.block()
			require.Empty(t, b.ID, "the client knows the position already")
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

		// The first id, without the heartbeats, is good as long as the topic has lost
		// nothing after it. It leads to a gap once the topic has.
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

// The positions that heartbeats send never make a client skip an event.
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
				testkit.NoError(t, err)
				_, err = a.Publish(context.Background(), "busy", sse.Event{Data: "x"})
				testkit.NoError(t, err)
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

// The cursor also moves past events that the filter does not accept.
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

// With NoIDOnly, no event has an id alone: not at the opening, after a snapshot, as a heartbeat,
// nor after a catching up. Without it, each of these has.
func TestNoIDOnly(t *testing.T) {
	forEach(t, func(t *test) {
		for _, off := range []bool{true, false} {
			for _, stage := range []string{"opening", "snapshot", "heartbeat", "catching up"} {
				a := t.start(plan{
					hub: hub.Config{NoIDOnly: off},
					sse: sse.Config{Heartbeat: sse.Heartbeat{Period: 5 * time.Millisecond}},
					serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
						if stage == "snapshot" {
							sub.Snapshot = func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
								return at, s.Send(sse.Event{Name: "state", Data: "all"})
							}
						}
						return h.Serve(s, sub)
					},
				})
				first := a.publish("old", sse.Event{Data: "1"})
				a.publish("old", sse.Event{Data: "2"})
				s := a.connect("/?topic=a")
				if stage == "heartbeat" || stage == "catching up" {
					a.publish("a", sse.Event{Data: "live"})
				}
				alone, heartbeats := 0, 0
				for b := s.block(); ; b = s.block() {
					switch {
					case b.ID != "" && b.Data == "":
						alone++
					case b.Data == "live" && stage == "heartbeat":
						alone = 0
						a.publish("other", sse.Event{Data: "x"}) // moves the position on
					case b.Data == "live":
						alone = 0
						for m := range a.Members("a") {
							require.NoError(t, m.SubscribeFrom(hub.After(first), "old"))
						}
					case b.Comment == "heartbeat":
						heartbeats++
					}
					if !off && alone > 0 || heartbeats > 5 {
						break
					}
				}
				require.Equal(t, !off, alone > 0, "%s, with NoIDOnly %t", stage, off)
				s.leave()
			}
		}
	})
}
