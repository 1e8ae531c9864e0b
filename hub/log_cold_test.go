// Hubs of a Log: what has left a hub's memory comes from the Log, and what happens to the Log
// is told or does no harm.

package hub_test

import (
	"errors"
	"fmt"
	"strconv"
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

func TestColdEventsComeFromTheLog(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(7)
		a := t.start(plan{hub: hub.Config{Log: log, LogEvents: 10}})
		first := a.publish("a", sse.Event{Data: "0"})
		for i := 1; i <= 1500; i++ {
			a.publish("a", sse.Event{Data: strconv.Itoa(i)})
			if i%3 == 0 {
				a.publish("b", sse.Event{Data: "b" + strconv.Itoa(i)})
			}
		}
		s := a.resume("/?topic=a", first.String())
		s.expectN(1, 1500)
		both := a.resume("/?topic=a&topic=b", first.String())
		for i := 1; i <= 1500; i++ {
			both.expect(strconv.Itoa(i))
			if i%3 == 0 {
				both.expect("b" + strconv.Itoa(i))
			}
		}
		a.joined("a", 2)
		a.publish("a", sse.Event{Data: "live"})
		s.expect("live")
		both.expect("live")
		require.Empty(t, a.Stats().Gaps)
	})
}

// Clients that come back to the same place at once share the pages.
func TestColdPagesAreSharedByManyClients(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	a := http1.start(t, plan{hub: hub.Config{Log: log, LogEvents: 10}})
	first := a.publish("a", sse.Event{Data: "0"})
	a.publishN("a", 1, 2000)
	before := log.Reads()
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			s := a.resume("/", first.String())
			for i := 1; i <= 2000; i++ {
				if !assert.Equal(t, strconv.Itoa(i), s.event().Data) {
					return
				}
			}
		})
	}
	clients.Wait()
	require.LessOrEqual(t, log.Reads()-before, 5, "2,000 events are 4 pages")
}

// A client that falls behind what the hub has in memory is not slow for a hub of a Log.
func TestSlowClientIsCaughtUpFromTheLog(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{Log: logtest.NewMemory(1), LogEvents: 50}, small: true})
		s := a.connectSlow("/")
		a.joined("a", 1)
		big := make([]byte, 20_000)
		for i := range big {
			big[i] = 'x'
		}
		for i := 1; i <= 400; i++ {
			a.publish("a", sse.Event{Data: fmt.Sprint(i, " ", string(big))})
		}
		for i := 1; i <= 400; i++ {
			require.Equal(t, fmt.Sprint(i, " ", string(big)), s.event().Data)
		}
		require.Zero(t, a.Stats().Ended)
	})
}

func TestWhatTheLogHasDroppedIsAGap(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(1)
		a := t.start(plan{hub: hub.Config{Log: log, LogEvents: 10}})
		first := a.publish("a", sse.Event{Data: "0"})
		a.publishN("a", 1, 1000)
		log.Truncate(501)
		s := a.resume("/", first.String())
		require.Equal(t, string(hub.GapExpired), s.Header.Get(hub.GapHeader))
		gap := s.expectGap()
		require.Equal(t, hub.Gap{Reason: hub.GapExpired, LastEventID: first.String(), Position: hub.Position{Epoch: first.Epoch, Offset: 500}}, gap)
		s.expectN(500, 1000)

		b := t.start(plan{hub: hub.Config{Log: log, LogEvents: 10}, sub: hub.Subscription{Start: hub.Beginning}})
		b.connect("/").expectN(500, 1000)
	})
}

func TestNewEpochIsToldToEverybody(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(1)
		a := t.start(plan{hub: hub.Config{Log: log}})
		a.publishN("a", 1, 5)
		s := a.connect("/")
		a.joined("a", 1)
		last := a.publish("a", sse.Event{Data: "old"})
		s.expect("old")
		log.Renew()
		gap := s.expectGap()
		require.Equal(t, hub.GapEpoch, gap.Reason)
		require.Equal(t, last.String(), gap.LastEventID)
		require.Equal(t, last.Epoch+1, gap.Position.Epoch)
		a.publish("a", sse.Event{Data: "new"})
		s.expect("new")
		require.Equal(t, hub.GapEpoch, a.resume("/", last.String()).expectGap().Reason)
		a.publishN("a", 1, 3)
		s.expectN(1, 3)
	})
}

// A hole that all topics have is told once to a member with several topics.
func TestNewEpochIsToldOnceToAMemberWithManyTopics(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(1)
		a := t.start(plan{hub: hub.Config{Log: log}})
		many := "/?topic=a"
		for i := range 40 {
			many += "&topic=t" + strconv.Itoa(i)
		}
		for _, path := range []string{"/?topic=a&topic=b", "/?topic=a&topic=b&topic=c", many} {
			s := a.connect(path)
			a.joined("a", 1)
			a.publish("a", sse.Event{Data: "old"})
			s.expect("old")
			log.Renew()
			require.Equal(t, hub.GapEpoch, s.expectGap().Reason)
			log.Insert(hub.Record{Kind: hub.InvalidRecord})
			require.Equal(t, hub.GapLost, s.expectGap().Reason)
			a.publish("a", sse.Event{Data: "new"})
			s.expect("new")
			s.leave()
			a.joined("a", 0)
		}
	})
}

func TestInvalidRecordIsAGapAndStopsNothing(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(1)
		a := t.start(plan{hub: hub.Config{Log: log}})
		first := a.publish("a", sse.Event{Data: "0"})
		s, other := a.connect("/?topic=a"), a.connect("/?topic=b")
		a.joined("a", 1)
		a.joined("b", 1)
		a.publish("a", sse.Event{Data: "1"})
		for _, rec := range []hub.Record{
			{Topic: "a", Event: sse.Event{Name: "two\nlines"}},
			{Topic: "a", Event: sse.Event{ID: "own"}},
			{Topic: "a", Kind: hub.InvalidRecord},
		} {
			log.Insert(rec)
		}
		a.publish("a", sse.Event{Data: "2"})
		s.expect("1")
		for range 3 {
			require.Equal(t, hub.GapLost, s.expectGap().Reason)
		}
		s.expect("2")
		require.Equal(t, uint64(3), a.Stats().Invalid)

		log.Insert(hub.Record{Kind: hub.InvalidRecord})
		require.Equal(t, hub.GapLost, s.expectGap().Reason)
		require.Equal(t, hub.GapLost, other.expectGap().Reason)
		again := a.resume("/?topic=a", first.String())
		again.expect("1")
		require.Equal(t, hub.GapLost, again.expectGap().Reason)
	})
}

// Two hubs of one Log are one hub to their clients.
func TestTwoHubsOfOneLog(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(3)
		one := t.start(plan{hub: hub.Config{Log: log}})
		two := t.start(plan{hub: hub.Config{Log: log}})
		s := two.connect("/")
		two.joined("a", 1)
		pos := one.publish("a", sse.Event{Data: "1"})
		s.expect("1")
		require.Equal(t, pos.String(), s.id)
		one.resume("/", s.id)
		one.joined("a", 1)
		n, err := one.Hub.Kick(t.Context(), "a", errors.New("out"))
		require.NoError(t, err)
		require.Equal(t, 1, n, "of its own hub")
		s.expectEnd()
		e := two.end()
		require.ErrorIs(t, e.Err, hub.ErrKicked)
		require.ErrorContains(t, e.Err, "out")
		again := two.resume("/", s.id)
		two.joined("a", 1)
		one.publish("a", sse.Event{Data: "2"})
		again.expect("2")
	})
}

// A client that is ahead of a hub, because another one was faster, waits for it.
func TestClientThatIsAheadWaits(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	one, two := http1.start(t, plan{hub: hub.Config{Log: log}}), http1.start(t, plan{hub: hub.Config{Log: log}})
	log.Trouble(errors.New("away"))
	testkit.Eventually(t, func() bool { return one.Health().Err != nil && two.Health().Err != nil }, "trouble")
	_, err := one.Publish(t.Context(), "a", sse.Event{Data: "x"})
	require.ErrorContains(t, err, "away")
	pos := log.Insert(hub.Record{Topic: "a", Event: sse.Event{Data: "1"}})
	time.AfterFunc(300*time.Millisecond, func() { log.Trouble(nil) })
	s := two.resume("/", pos.String())
	require.Empty(t, s.Header.Get(hub.GapHeader))
	two.joined("a", 1)
	one.publish("a", sse.Event{Data: "2"})
	s.expect("2")
	require.NoError(t, two.Health().Err)
}

// A hub that has lost its Log keeps its members, and they miss nothing.
func TestTroubleOfTheLogLosesNothing(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(1)
		var mu sync.Mutex
		var told []error
		a := t.start(plan{hub: hub.Config{Log: log, OnHealth: func(h hub.Health) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, h.Err)
		}}})
		s := a.connect("/")
		a.joined("a", 1)
		a.publishN("a", 1, 3)
		s.expectN(1, 3)
		log.Trouble(errors.New("away"))
		testkit.Eventually(t, func() bool { return a.Health().Err != nil }, "trouble")
		for i := 4; i <= 6; i++ {
			log.Insert(hub.Record{Topic: "a", Event: sse.Event{Data: strconv.Itoa(i)}})
		}
		log.Trouble(nil)
		s.expectN(4, 6)
		testkit.Eventually(t, func() bool { return a.Health().Err == nil }, "the end of the trouble")
		testkit.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(told) == 2
		}, "both calls of OnHealth")
	})
}

func TestReopenedHubContinues(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(1)
		a := t.start(plan{hub: hub.Config{Log: log}})
		first := a.publish("a", sse.Event{Data: "0"})
		a.publishN("a", 1, 20)
		require.NoError(t, a.Shutdown(t.Context()))
		_, err := a.Publish(t.Context(), "a", sse.Event{})
		require.ErrorIs(t, err, sse.ErrShutdown)
		for _, kept := range []int{5, 100} {
			b := t.start(plan{hub: hub.Config{Log: log, LogEvents: kept}})
			s := b.resume("/", first.String())
			s.expectN(1, 20)
			require.Empty(t, s.Header.Get(hub.GapHeader))
		}
	})
}

func TestKeyIsPublishedOnce(t *testing.T) {
	for name, log := range map[string]hub.Log{"without a Log": nil, "with a Log": logtest.NewMemory(2)} {
		t.Run(name, func(t *testing.T) {
			a := http1.start(t, plan{hub: hub.Config{Log: log}})
			s := a.connect("/")
			a.joined("a", 1)
			batch := []hub.Publication{
				{Topic: "a", Event: sse.Event{Data: "1"}, Key: "k1"},
				{Topic: "a", Event: sse.Event{Data: "2"}},
				{Topic: "b", Event: sse.Event{Data: "b"}, Key: "k1"},
			}
			first, err := a.PublishAll(t.Context(), batch)
			require.NoError(t, err)
			second, err := a.PublishAll(t.Context(), batch)
			require.NoError(t, err)
			require.Equal(t, first[0], second[0])
			require.NotEqual(t, first[1], second[1])
			require.Equal(t, first[2], second[2])
			s.expect("1", "2", "2")
			_, err = a.PublishAll(t.Context(), []hub.Publication{{Topic: "a", Event: sse.Event{Data: "x"}}, {Topic: ""}})
			require.Error(t, err)
			a.publish("a", sse.Event{Data: "3"})
			s.expect("3")
		})
	}
}
