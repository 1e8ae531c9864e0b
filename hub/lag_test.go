// A hub that lags behind its Log, which may then drop what the hub has not applied yet.

package hub_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// laggingLog is a Log that can be followed only while the gate is open.
type laggingLog struct {
	*logtest.Memory
	gate chan chan struct{} // has a channel that is closed when the gate is shut
}

func newLaggingLog() *laggingLog {
	l := &laggingLog{Memory: logtest.NewMemory(1), gate: make(chan chan struct{}, 1)}
	l.open()
	return l
}

func (l *laggingLog) open() { l.gate <- make(chan struct{}) }
func (l *laggingLog) shut() { close(<-l.gate) }

func (l *laggingLog) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	select {
	case shut := <-l.gate:
		l.gate <- shut
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-shut:
				cancel()
			case <-ctx.Done():
			}
		}()
		return l.Memory.Follow(ctx, after, apply)
	default:
		return errors.New("away")
	}
}

// A client that needs what the Log has dropped is not moved past the head of its hub. The hub
// tells it of the rest, when it comes to it.
func TestGapGoesNoFurtherThanTheHead(t *testing.T) {
	forEach(t, func(t *test) {
		log := newLaggingLog()
		a := t.start(plan{hub: hub.Config{Log: log, LogEvents: 10}})
		first := a.publish("a", sse.Event{Data: "1"})
		a.publishN("a", 2, 100)
		log.shut()
		testkit.Eventually(t, func() bool { return a.Health().Err != nil }, "a hub that lags")
		for range 100 {
			log.Insert(hub.Record{Topic: "a", Event: sse.Event{Data: "x"}})
		}
		log.Insert(hub.Record{Topic: "a", Event: sse.Event{Data: "last"}})
		log.Truncate(201)
		s := a.resume("/", first.String())
		head := hub.Position{Epoch: first.Epoch, Offset: 100}
		require.Equal(t, hub.Gap{Reason: hub.GapExpired, LastEventID: first.String(), Position: head}, s.expectGap())
		log.open()
		rest := hub.Position{Epoch: first.Epoch, Offset: 200}
		require.Equal(t, hub.Gap{Reason: hub.GapLost, LastEventID: head.String(), Position: rest}, s.expectGap())
		s.expect("last")
	})
}

// droppingLog is a Log that has always dropped what comes next.
type droppingLog struct {
	*logtest.Memory
	drops int
	times []time.Time
}

func (l *droppingLog) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	l.times = append(l.times, time.Now())
	if len(l.times) > l.drops {
		return l.Memory.Follow(ctx, after, apply)
	}
	l.Insert(hub.Record{Topic: "a"})
	last := l.Insert(hub.Record{Topic: "a"})
	l.Truncate(last.Offset)
	return l.Memory.Follow(ctx, after, func(hub.Batch) error { return errors.New("not dropped") })
}

// A hub that goes on after a gap does so at once. If it waited ever longer, the Log could drop
// the next events meanwhile.
func TestFollowerDoesNotWaitLongerAfterAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := &droppingLog{Memory: logtest.NewMemory(1), drops: 8}
		h, err := hub.Open(t.Context(), hub.Config{Log: log})
		require.NoError(t, err)
		defer func() { require.NoError(t, h.Shutdown(t.Context())) }()
		require.NoError(t, h.Wait(t.Context(), hub.Position{Epoch: h.Position().Epoch, Offset: 16}))
		require.Len(t, log.times, 9)
		for i := range log.drops {
			require.Less(t, log.times[i+1].Sub(log.times[i]), 100*time.Millisecond)
		}
	})
}
