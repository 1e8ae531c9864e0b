// What the goroutine that follows the Log does at its beginning, in trouble, and at its end.

package hub_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// watchedLog is a Log that counts its calls of Follow, and can say that it has lost records.
type watchedLog struct {
	*logtest.Memory
	following atomic.Int32
	lost      atomic.Uint64 // how many of its newest records
	appending func()        // is called before records are appended
}

func (l *watchedLog) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	l.following.Add(1)
	defer l.following.Add(-1)
	err := l.Memory.Follow(ctx, after, apply)
	if ctx.Err() != nil {
		time.Sleep(20 * time.Millisecond) // it has connections to close
	}
	return err
}

func (l *watchedLog) Bounds(ctx context.Context) (hub.Bounds, error) {
	b, err := l.Memory.Bounds(ctx)
	b.Last -= l.lost.Load()
	return b, err
}

func (l *watchedLog) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	if l.appending != nil {
		l.appending()
	}
	return l.Memory.Append(ctx, records)
}

// When Shutdown has returned, nothing uses the Log, so that it can be closed.
func TestShutdownEndsTheFollower(t *testing.T) {
	t.Parallel()
	log := &watchedLog{Memory: logtest.NewMemory(1)}
	h, err := hub.Open(t.Context(), hub.Config{Log: log})
	require.NoError(t, err)
	testkit.Eventually(t, func() bool { return log.following.Load() == 1 }, "a log that is followed")
	require.NoError(t, h.Shutdown(context.Background()))
	require.Zero(t, log.following.Load())
	_, err = h.Publish(t.Context(), "a", sse.Event{Data: "x"})
	require.ErrorIs(t, err, sse.ErrShutdown)
}

// An event that Publish has accepted is sent, also if Shutdown is called while the Log takes it.
func TestShutdownWaitsForPublications(t *testing.T) {
	forEach(t, func(t *test) {
		appended, goOn := make(chan struct{}), make(chan struct{})
		log := &watchedLog{Memory: logtest.NewMemory(1)}
		a := t.start(plan{hub: hub.Config{Log: log}})
		s := a.connect("/")
		a.joined("a", 1)
		var first atomic.Bool
		log.appending = func() {
			if !first.Swap(true) {
				close(appended)
				<-goOn
			}
		}
		published, ended := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := a.Publish(context.Background(), "a", sse.Event{Data: "last"})
			published <- err
		}()
		testkit.Receive(t, appended)
		go func() { ended <- a.Shutdown(context.Background()) }()
		testkit.Eventually(t, func() bool {
			_, err := a.Publish(context.Background(), "b", sse.Event{Data: "x"})
			return errors.Is(err, sse.ErrShutdown)
		}, "a hub that refuses")
		close(goOn)
		require.NoError(t, testkit.Receive(t, published))
		s.expect("last")
		require.NoError(t, testkit.Receive(t, ended))
	})
}

// A Log that has lost records, but keeps its epoch, breaks its contract. The hub says so: it
// cannot tell new records from repeats.
func TestLogThatGoesBackIsTrouble(t *testing.T) {
	t.Parallel()
	log := &watchedLog{Memory: logtest.NewMemory(1)}
	a := http1.start(t, plan{hub: hub.Config{Log: log}})
	a.publishN("a", 1, 3)
	log.lost.Store(1)
	log.Trouble(errors.New("away"))
	testkit.Eventually(t, func() bool { return a.Health().Err != nil }, "trouble")
	log.Trouble(nil)
	testkit.Eventually(t, func() bool {
		err := a.Health().Err
		return err != nil && err.Error() == "hub: the log ends at offset 2, but has had offset 3; a log that loses records must change its epoch"
	}, "another trouble")
	log.lost.Store(0)
	testkit.Eventually(t, func() bool { return a.Health().Err == nil }, "no trouble")
}
