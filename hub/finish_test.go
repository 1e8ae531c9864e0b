package hub_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// finish finishes topic with the data "last", from the test's goroutine.
func (a *app) finish(topic string) hub.Position {
	a.t.Helper()
	pos, err := a.Finish(a.t.Context(), topic, sse.Event{Name: "done", Data: "last"})
	require.NoError(a.t, err)
	if a.usesLog {
		require.NoError(a.t, a.Wait(a.t.Context(), pos))
	}
	return pos
}

// expectLast asserts that the stream has these events, the last event, and an orderly end.
func (s *stream) expectLast(data ...string) {
	s.t.Helper()
	s.expect(data...)
	e := s.event()
	require.Equal(s.t, "done", e.Name)
	require.Equal(s.t, "last", e.Data)
	s.expectEnd()
}

// expectStop asserts that a client with the id is told not to come back.
func (a *app) expectStop(path, id string) {
	a.t.Helper()
	require.Equal(a.t, http.StatusNoContent, a.dial(path, "Last-Event-ID", id).StatusCode)
	require.Equal(a.t, sse.EndStatus, a.end().Reason)
}

func (a *app) expectFinished() {
	a.t.Helper()
	e := a.end()
	require.Equal(a.t, sse.EndFinished, e.Reason)
	require.NoError(a.t, e.Err)
	require.True(a.t, e.Opened)
}

func TestFinish(t *testing.T) {
	forEach(t, func(t *test) {
		causes := make(chan error, 10)
		a := t.start(plan{hub: hub.Config{OnLeave: func(_ *hub.Member, _ string, cause error) { causes <- cause }}})
		live := a.connect("/")
		a.joined("a", 1)
		first := a.publish("a", sse.Event{Data: "1"})
		second := a.publish("a", sse.Event{Data: "2"})
		last := a.finish("a")
		live.expectLast("1", "2")
		a.expectFinished()
		require.ErrorIs(t, testkit.Receive(t, causes), hub.ErrFinished)
		require.Equal(t, last.String(), live.id)

		_, err := a.Publish(t.Context(), "a", sse.Event{Data: "late"})
		require.ErrorIs(t, err, hub.ErrFinished)
		require.ErrorContains(t, err, `"a"`)
		_, err = a.PublishAll(t.Context(), []hub.Publication{{Topic: "b"}, {Topic: "a"}})
		require.ErrorIs(t, err, hub.ErrFinished)
		require.Equal(t, last, a.Position(), "none is published")
		again, err := a.Finish(t.Context(), "a", sse.Event{Data: "again"})
		require.ErrorIs(t, err, hub.ErrFinished)
		require.Equal(t, last, again)
		newest := a.publish("b", sse.Event{Data: "other"})

		for id, want := range map[string][]string{"": nil, first.String(): {"2"}, second.String(): nil} {
			s := a.resume("/", id)
			s.expectLast(want...)
			a.expectFinished()
			require.Equal(t, last.String(), s.id)
		}
		for _, id := range []hub.Position{last, newest} {
			a.expectStop("/", id.String())
		}
		s := a.resume("/", "no position")
		require.Equal(t, hub.GapMalformed, s.expectGap().Reason)
		s.expectLast()
		a.expectFinished()
		require.Zero(t, a.Count("a"))
	})
}

func TestFinishOfSeveralTopics(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		const path = "/?topic=a&topic=b&topic=c"
		live := a.connect(path)
		a.joined("c", 1)
		a.finish("b")
		require.Equal(t, "last", live.event().Data)
		a.publish("a", sse.Event{Data: "on"})
		live.expect("on")
		early := a.connect(path)
		a.joined("c", 2)
		lastA := a.finish("a")
		lastC := a.finish("c")
		live.expect("last")
		live.expectLast()
		early.expect("last")
		early.expectLast()
		a.expectFinished()
		a.expectFinished()

		s := a.resume(path, lastA.String())
		s.expectLast()
		a.expectFinished()
		s = a.connect(path)
		s.expectLast()
		a.expectFinished()
		a.expectStop(path, lastC.String())

		// Another topic goes on.
		s = a.resume(path+"&topic=d", lastC.String())
		a.joined("d", 1)
		a.publish("d", sse.Event{Data: "on"})
		s.expect("on")
		a.finish("d")
		s.expectLast()
		a.expectFinished()
	})
}

// A member whose topics change ends when only finished ones are left.
func TestFinishAndTopicsThatChange(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		s := a.connect("/?topic=a&topic=b")
		m := receiveMember(t, a, "b")
		a.finish("a")
		require.Equal(t, "last", s.event().Data)
		m.Unsubscribe("b")
		s.expectEnd()
		a.expectFinished()

		s = a.connect("/?topic=b")
		m = receiveMember(t, a, "b")
		require.NoError(t, m.Subscribe("a"))
		require.Equal(t, "last", s.event().Data, "who follows a finished topic gets its last event")
		a.publish("b", sse.Event{Data: "on"})
		s.expect("on")
		m.Unsubscribe("b")
		s.expectEnd()
		a.expectFinished()

		s = a.connect("/?topic=b")
		m = receiveMember(t, a, "b")
		m.Unsubscribe("b")
		require.NoError(t, m.Subscribe("a"))
		s.expectLast()
		a.expectFinished()
	})
}

func TestFinishOfManyTopics(t *testing.T) {
	forEach(t, func(t *test) {
		var topics []string
		for i := range 60 {
			topics = append(topics, fmt.Sprint("t", i))
		}
		a := t.start(plan{sub: hub.Subscription{Topics: topics}})
		live := a.connect("/")
		a.joined("t59", 1)
		rand.Shuffle(len(topics), func(i, j int) { topics[i], topics[j] = topics[j], topics[i] })
		var last hub.Position
		for i, topic := range topics {
			last = a.finish(topic)
			if i < len(topics)-1 {
				require.Equal(t, "last", live.event().Data)
			}
		}
		live.expectLast()
		a.expectFinished()
		a.connect("/").expectLast()
		a.expectFinished()
		a.expectStop("/", last.String())
	})
}

// Nothing keeps the last event from anybody: not a Filter, not SlowLatest, not MaxReplay, not a
// Snapshot.
func TestFinishReachesEverybody(t *testing.T) {
	for name, p := range map[string]plan{
		"filter":     {sub: hub.Subscription{Filter: func(*hub.Message) bool { return false }}},
		"latest":     {sub: hub.Subscription{Slow: hub.SlowLatest, Key: func(*hub.Message) string { return "" }, Filter: func(*hub.Message) bool { return false }}},
		"max replay": {hub: hub.Config{MaxReplay: 1}},
		"no id only": {hub: hub.Config{NoIDOnly: true}},
		"snapshot": {serve: func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error {
			sub.Snapshot = func(*sse.ServerSession, hub.Position) (hub.Position, error) { return h.Position(), nil }
			return h.Serve(s, sub)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				a := t.start(p)
				live := a.connect("/")
				a.joined("a", 1)
				last := a.finish("a")
				live.expectLast()
				a.expectFinished()
				a.publish("b", sse.Event{Data: "other"})
				for _, id := range []string{"", "unknown"} {
					late := a.resume("/", id)
					if id != "" {
						gap := late.expectGap()
						require.True(t, gap.Snapshot || gap.Position.Offset < last.Offset, "a client that gets no more must not have the last event's id")
					}
					late.expectLast()
					a.expectFinished()
					a.expectStop("/", late.id)
				}
			})
		})
	}
}

func TestFinishWithOwnIDs(t *testing.T) {
	forEach(t, func(t *test) {
		p := plan{hub: hub.Config{OwnIDs: true}}
		if os.Getenv("SSE_HUB_LOG") == "" { // a Log keeps no event that it drops
			p.hub.LogEvents = 4
		}
		a := t.start(p)
		live := a.connect("/")
		a.joined("a", 1)
		a.publish("a", sse.Event{ID: "one", Data: "1"})
		_, err := a.Finish(t.Context(), "a", sse.Event{Name: "done", Data: "last"})
		require.ErrorContains(t, err, "ID")
		_, err = a.Finish(t.Context(), "a", sse.Event{ID: "end", Name: "done", Data: "last"})
		require.NoError(t, err)
		live.expectLast("1")
		a.expectFinished()
		a.resume("/", "one").expectLast()
		a.expectFinished()
		a.expectStop("/", "end")
		for i := range 10 {
			a.publish("b", sse.Event{ID: fmt.Sprint(i), Data: "other"})
		}
		a.connect("/").expectLast()
		a.expectFinished()
		a.expectStop("/", "end")
	})
}

// The last event stays, though the log is full of others.
func TestLastEventThatHasLeftTheLog(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{LogEvents: 3}})
		first := a.publish("a", sse.Event{Data: "1"})
		a.publishN("a", 2, 3)
		last := a.finish("a")
		a.publishN("b", 1, 10)
		s := a.resume("/", first.String())
		if !a.usesLog {
			require.Equal(t, hub.GapExpired, s.expectGap().Reason)
		} else if b := s.event(); b.Name != hub.GapEvent { // this one has dropped it
			require.Equal(t, "2", b.Data)
			s.expect("3")
		}
		if !a.usesLog {
			s.expectLast()
		}
		a.expectFinished()
		a.expectStop("/", last.String())
		if !a.usesLog {
			a.connect("/").expectLast()
			a.expectFinished()
		}
	})
}

// A topic that was finished long ago can be used again, and takes no memory.
func TestFinishIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, err := hub.New(hub.Config{FinishAge: time.Minute, LogAge: time.Second})
		require.NoError(t, err)
		for _, topic := range []string{"a", "b"} {
			_, err = h.Finish(t.Context(), topic, sse.Event{Data: "last"})
			require.NoError(t, err)
			time.Sleep(30 * time.Second)
		}
		time.Sleep(-time.Nanosecond)
		synctest.Wait()
		require.Equal(t, 1, h.Stats().Topics, "one is over")
		_, err = h.Publish(t.Context(), "b", sse.Event{})
		require.ErrorIs(t, err, hub.ErrFinished)
		_, err = h.Publish(t.Context(), "a", sse.Event{})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Zero(t, h.Stats().Topics)
		require.Zero(t, h.Stats().LogEvents)

		few, err := hub.New(hub.Config{LogEvents: 2})
		require.NoError(t, err)
		for i := range 10 {
			_, err = few.Finish(t.Context(), fmt.Sprint(i), sse.Event{Data: "last"})
			require.NoError(t, err)
		}
		require.Equal(t, 2, few.Stats().Topics)
		require.NoError(t, few.Shutdown(t.Context()))
		require.NoError(t, h.Shutdown(t.Context()))
	})
}

// Whenever a topic is finished, each client gets all of it once, and then the end, and is told
// not to come back.
func TestFinishBesideOpenings(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{})
		for round := range 8 {
			topic := fmt.Sprint("job", round)
			var all sync.WaitGroup
			for range 6 {
				all.Go(func() {
					var data []string
					id := ""
					for tries := 0; ; tries++ {
						if !assert.Less(t, tries, 100) {
							return
						}
						s, err := a.try(a.client, "/?topic="+topic, "Last-Event-ID", id)
						if err != nil {
							assert.Fail(t, "a client cannot connect", err.Error())
							return
						}
						if s.StatusCode == http.StatusNoContent {
							break
						}
						n := rand.IntN(4)
						for b, err := s.tryBlock(); err == nil; b, err = s.tryBlock() {
							if !b.silent {
								data = append(data, b.Data)
							}
							if n--; n == 0 {
								s.leave() // and comes back
								break
							}
						}
						id = s.id
						s.leave()
					}
					// A client begins with the next event, so it may miss the first ones.
					want := []string{"0", "1", "2", "3", "4", "last"}
					assert.Equal(t, want[len(want)-len(data):], data, topic)
					assert.NotEmpty(t, data)
				})
			}
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
			for i := range 5 {
				a.publish(topic, sse.Event{Data: fmt.Sprint(i)})
				time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
			}
			a.finish(topic)
			all.Wait()
		}
	})
}

// A finish beside a kick, and beside a shutdown: each session ends, by one of them.
func TestFinishBesideOtherEnds(t *testing.T) {
	forEach(t, func(t *test) {
		for range 5 {
			a := t.start(plan{})
			for range 3 {
				a.connect("/")
			}
			a.joined("a", 3)
			var all sync.WaitGroup
			all.Go(func() { _, _ = a.Finish(context.Background(), "a", sse.Event{Data: "last"}) })
			all.Go(func() { a.kick("a", errOwn) })
			all.Go(func() { assert.NoError(t, a.Shutdown(t.Context())) })
			all.Wait()
			for range 3 {
				require.Contains(t, []sse.EndReason{sse.EndFinished, sse.EndKicked, sse.EndShutdown}, a.end().Reason)
			}
		}
	})
}

// A client that stalls in the middle gets the last event when it reads on, also from the Log.
func TestFinishOfAStalledClient(t *testing.T) {
	for name, p := range map[string]plan{
		"skip": {sub: hub.Subscription{Slow: hub.SlowSkip}},
		"log":  {hub: hub.Config{Log: logtest.NewMemory(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			forEach(t, func(t *test) {
				p := p
				p.small, p.hub.LogEvents = true, 20
				if p.hub.Log != nil {
					p.hub.Log = logtest.NewMemory(1)
				}
				a := t.start(p)
				s := a.connectSlow("/")
				a.joined("a", 1)
				for range 60 {
					a.publish("a", sse.Event{Data: strings.Repeat("x", 100_000)})
				}
				a.finish("a")
				if p.hub.Log != nil || !a.usesLog { // a Log keeps no event that it drops
					a.publishN("b", 1, 30)
				}
				e := s.event()
				for e.Name != "done" {
					e = s.event()
				}
				s.expectEnd()
				a.expectFinished()
			})
		})
	}
}
