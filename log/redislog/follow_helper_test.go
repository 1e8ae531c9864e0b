package redislog

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// follower follows a Log in a goroutine.
type follower struct {
	t    testing.TB
	stop context.CancelFunc
	done chan error

	mu      sync.Mutex
	batches []hub.Batch
	records []hub.Record
}

// followLog starts to follow l after the position. The end of the test stops it.
func followLog(t testing.TB, l *Log, after hub.Position) *follower {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	f := &follower{t: t, stop: stop, done: make(chan error, 1)}
	go func() {
		f.done <- l.Follow(ctx, after, func(b hub.Batch) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.batches, f.records = append(f.batches, b), append(f.records, b.Records...)
			return nil
		})
	}()
	t.Cleanup(stop)
	return f
}

// await waits until there were a batch and n records, and returns the records.
func (f *follower) await(n int) []hub.Record {
	f.t.Helper()
	var records []hub.Record
	testkit.Eventually(f.t, func() bool {
		select {
		case err := <-f.done:
			require.Fail(f.t, "Follow has returned", "%v", err)
		default:
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		records = f.records
		return len(f.batches) > 0 && len(records) >= n
	}, "records")
	return records
}

// holes returns where holes end.
func (f *follower) holes() (upTo []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.batches {
		if b.Hole {
			upTo = append(upTo, b.UpTo)
		}
	}
	return upTo
}

// upTo returns up to where everything is applied.
func (f *follower) upTo() (offset uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.batches {
		offset = max(offset, b.UpTo)
	}
	return offset
}

// end waits until Follow has returned, and returns its error.
func (f *follower) end() error {
	f.t.Helper()
	select {
	case err := <-f.done:
		return err
	case <-time.After(30 * time.Second):
		require.Fail(f.t, "Follow has not returned")
		return nil
	}
}
