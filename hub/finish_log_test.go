package hub_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// A hub that is opened later knows which topics are finished, wherever its memory begins.
func TestFinishBeforeTheHubIsOpened(t *testing.T) {
	forEach(t, func(t *test) {
		for after := range 6 { // events of another topic after it
			log := logtest.NewMemory(7)
			a := t.start(plan{hub: hub.Config{Log: log}})
			first := a.publish("a", sse.Event{Data: "1"})
			last := a.finish("a")
			a.publishN("b", 1, after)
			step := 3
			if t.protocol.Name != http1.protocol.Name { // the Log does not know of it
				step = 12
			}
			for kept := 1; kept <= 40; kept += step { // the offsets have holes of 7
				b := t.start(plan{hub: hub.Config{Log: log, LogEvents: kept}})
				_, err := b.Publish(t.Context(), "a", sse.Event{})
				require.ErrorIs(t, err, hub.ErrFinished)
				pos, err := b.Finish(t.Context(), "a", sse.Event{})
				require.ErrorIs(t, err, hub.ErrFinished)
				require.Equal(t, last, pos)
				b.resume("/", first.String()).expectLast()
				b.connect("/").expectLast()
				b.expectFinished()
				b.expectFinished()
				c := t.start(plan{hub: hub.Config{Log: log, LogEvents: kept}, sub: hub.Subscription{Filter: func(*hub.Message) bool { return false }}})
				c.connect("/").expectLast()
				b.expectStop("/", last.String())
			}
		}
	})
}

// What another hub publishes at the moment of Finish comes after the last event, and is for
// nobody: not for who is there, nor for who reads it from the Log.
func TestPublicationThatComesAfterTheLast(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(1)
		a := t.start(plan{hub: hub.Config{Log: log, LogEvents: 3}})
		start := a.publish("b", sse.Event{Data: "0"})
		s := a.connect("/?topic=a&topic=b")
		a.joined("b", 1)
		a.publish("a", sse.Event{Data: "1"})
		a.finish("a")
		late := log.Insert(hub.Record{Topic: "a", Event: sse.Event{Data: "late"}})
		log.Insert(hub.Record{Kind: hub.ControlRecord, Event: sse.Event{Name: "finish", Data: "a"}})
		again := log.Insert(hub.Record{Topic: "a", Event: sse.Event{Data: "again"}})
		a.publishN("b", 1, 10)
		require.NoError(t, a.Wait(t.Context(), again))
		s.expect("1", "last")
		s.expectN(1, 10)
		require.Contains(t, a.log.String(), "had just finished")

		b := t.start(plan{hub: hub.Config{Log: log, LogEvents: 3}})
		for _, n := range []*app{a, b} {
			s = n.resume("/?topic=a&topic=b", start.String())
			s.expect("1", "last")
			s.expectN(1, 10)
			n.expectStop("/", late.String())
			n.expectStop("/", again.String())
		}
		a.finish("b")
		s.expectLast()
		b.expectFinished()
	})
}

// A Log with another epoch has other finished topics: a restored backup, for example.
func TestFinishAndAnotherEpoch(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(1)
		a := t.start(plan{hub: hub.Config{Log: log}})
		a.finish("a")
		s := a.connect("/?topic=a&topic=b")
		a.joined("b", 1)
		log.Renew()
		require.Equal(t, hub.GapEpoch, s.expectGap().Reason)
		a.publish("a", sse.Event{Data: "new"})
		s.expect("new")
		a.finish("a")
		s.expect("last")
		a.finish("b")
		s.expectLast()
		a.expectFinished()
	})
}

// The Log may be out of reach when a client comes whose topic was finished long ago.
func TestFinishWhileTheLogIsAway(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory(1)
	a := http1.start(t, plan{hub: hub.Config{Log: log}})
	last := a.finish("a")
	a.publishN("b", 1, 10)
	b := http1.start(t, plan{hub: hub.Config{Log: log, LogEvents: 2}})
	log.Trouble(errors.New("away"))
	statuses := make(chan int, 3)
	for range cap(statuses) {
		go func() {
			s, err := b.try(b.client, "/", "Last-Event-ID", last.String())
			if err == nil {
				statuses <- s.StatusCode
			}
		}()
	}
	testkit.Eventually(t, func() bool { return b.Stats().Members == cap(statuses) }, "clients that wait")
	log.Trouble(nil)
	for range cap(statuses) {
		require.Equal(t, http.StatusNoContent, testkit.Receive(t, statuses))
	}
}

// A last event that the Log has dropped, or that cannot be decoded.
func TestLastEventThatCannotBeHad(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(1)
		a := t.start(plan{hub: hub.Config{Log: log}})
		last := a.finish("a")
		a.publishN("b", 1, 10)
		b := t.start(plan{hub: hub.Config{Log: log, LogEvents: 2}})
		log.Truncate(last.Offset + 1)
		s := b.connect("/")
		b.joined("a", 1)
		b.publish("a", sse.Event{Data: "the topic is used again"})
		s.expect("the topic is used again")

		log = logtest.NewMemory(1)
		a = t.start(plan{hub: hub.Config{Log: log, LogEvents: 2}})
		first := a.publish("a", sse.Event{Data: "1"})
		last = a.finish("a")
		a.publishN("b", 1, 10)
		log.Truncate(last.Offset + 1)
		s = a.resume("/", first.String())
		require.Equal(t, hub.GapExpired, s.expectGap().Reason)
		s.expectEnd()

		log = logtest.NewMemory(1)
		order := hub.Record{Kind: hub.ControlRecord, Event: sse.Event{Name: "finish", Data: "a"}}
		log.Insert(order)
		for range 10 {
			log.Insert(hub.Record{Topic: "b", Event: sse.Event{Data: "x"}})
		}
		a = t.start(plan{hub: hub.Config{Log: log, LogEvents: 2}})
		s = a.connect("/")
		a.joined("a", 1)
		a.publish("a", sse.Event{Data: "an order alone finishes nothing"})
		s.expect("an order alone finishes nothing")

		log = logtest.NewMemory(1)
		c := t.start(plan{hub: hub.Config{Log: log}})
		s = c.connect("/")
		c.joined("a", 1)
		log.Insert(order)
		log.Insert(hub.Record{Kind: hub.InvalidRecord, Topic: "a"})
		require.Equal(t, hub.GapLost, s.expectGap().Reason)
		s.expectEnd()
		c.expectFinished()
		s = c.connect("/")
		s.expectEnd()
		c.expectFinished()
		c.publishN("b", 1, 10)
		d := t.start(plan{hub: hub.Config{Log: log, LogEvents: 2}})
		s = d.connect("/")
		s.expectEnd()
		d.expectFinished()
	})
}

// Each hub forgets by the Log's time.
func TestFinishInALogIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := logtest.NewMemory(1)
		open := func() *hub.Hub {
			h, err := hub.Open(t.Context(), hub.Config{Log: log, FinishAge: time.Minute, LogEvents: 2})
			require.NoError(t, err)
			return h
		}
		one := open()
		for i := range 4 {
			_, err := one.Finish(t.Context(), fmt.Sprint(i), sse.Event{Data: "last"})
			require.NoError(t, err)
		}
		time.Sleep(50 * time.Second)
		two := open()
		_, err := two.Publish(t.Context(), "3", sse.Event{})
		require.ErrorIs(t, err, hub.ErrFinished)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		three := open()
		for _, h := range []*hub.Hub{one, two, three} {
			pos, err := h.Publish(t.Context(), "3", sse.Event{})
			require.NoError(t, err)
			require.NoError(t, h.Wait(t.Context(), pos))
		}
		for _, h := range []*hub.Hub{one, two, three} {
			require.NoError(t, h.Shutdown(t.Context()))
		}
	})
}

// unreadLog is a Log that cannot be read for the first times.
type unreadLog struct {
	*logtest.Memory
	fails int
}

func (l *unreadLog) Read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
	if l.fails--; l.fails >= 0 {
		return hub.Batch{}, errors.New("an election")
	}
	return l.Memory.Read(ctx, topics, after, upTo, limit)
}

// A Log that cannot be read for a moment delays the opening of a hub, and does not fail it.
func TestOpenWaitsForTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &unreadLog{Memory: logtest.NewMemory(1), fails: 5}
		log.Insert(hub.Record{Topic: "a", Event: sse.Event{Data: "x"}})
		h, err := hub.Open(t.Context(), hub.Config{Log: log})
		require.NoError(t, err)
		require.NoError(t, h.Health().Err)
		require.NoError(t, h.Shutdown(t.Context()))

		log.fails = 1000
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = hub.Open(ctx, hub.Config{Log: log})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "an election")
	})
}

// lateLog tells its hubs of a record a second late.
type lateLog struct{ hub.Log }

func (l lateLog) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	return l.Log.Follow(ctx, after, func(b hub.Batch) error {
		time.Sleep(time.Second)
		return apply(b)
	})
}

// When Finish has returned, its hub refuses publications, however late the Log is.
func TestFinishWaitsForTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := hub.Open(t.Context(), hub.Config{Log: lateLog{logtest.NewMemory(1)}})
		require.NoError(t, err)
		defer func() { require.NoError(t, h.Shutdown(context.Background())) }()
		last, err := h.Finish(t.Context(), "a", sse.Event{Data: "last"})
		require.NoError(t, err)
		_, err = h.Publish(t.Context(), "a", sse.Event{Data: "late"})
		require.ErrorIs(t, err, hub.ErrFinished)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		pos, err := h.Finish(ctx, "b", sse.Event{Data: "last"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Greater(t, pos.Offset, last.Offset, "it is in the Log")
		require.NoError(t, h.Wait(t.Context(), pos))
		_, err = h.Finish(t.Context(), "b", sse.Event{})
		require.ErrorIs(t, err, hub.ErrFinished)
	})
}
