// Package logkit has what the tests of several logs need. Only tests import it.
package logkit

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// Follower follows a Log in a goroutine. See [Follow].
type Follower struct {
	t    testing.TB
	stop context.CancelFunc
	done chan error

	mu      sync.Mutex
	batches []hub.Batch
	records []hub.Record
}

// Follow starts to follow l after the position. The end of the test stops it.
func Follow(t testing.TB, l hub.Log, after hub.Position) *Follower {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	f := &Follower{t: t, stop: stop, done: make(chan error, 1)}
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

// Await waits until there were a batch and n records, and returns the records.
func (f *Follower) Await(n int) []hub.Record {
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

// Holes returns where holes end.
func (f *Follower) Holes() (upTo []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.batches {
		if b.Hole {
			upTo = append(upTo, b.UpTo)
		}
	}
	return upTo
}

// UpTo returns up to where everything is applied.
func (f *Follower) UpTo() (offset uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.batches {
		offset = max(offset, b.UpTo)
	}
	return offset
}

// End waits until Follow has returned, and returns its error.
func (f *Follower) End() error {
	f.t.Helper()
	select {
	case err := <-f.done:
		return err
	case <-time.After(30 * time.Second):
		require.Fail(f.t, "Follow has not returned")
		return nil
	}
}
