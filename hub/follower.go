package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse"
)

// With Config.Log, a publication only appends to the Log. One goroutine, the follower, reads
// the Log and applies each record to the hub's tail, from where it is delivered as in a hub
// without a Log. So all hubs of a Log have the same events in the same order, and a hub that
// has lost its Log keeps its members and catches up later.

// follower is what a hub with a Log has in addition.
type follower struct {
	hub       *Hub
	ctx       context.Context // done after Shutdown
	stop      context.CancelFunc
	done      chan struct{} // closed when run has returned
	health    atomic.Pointer[Health]
	first     atomic.Uint64 // offset of the first record of the Log, as far as is known
	orders    uint64        // orders up to this offset were given before the hub was opened; the follower's
	newest    atomic.Uint64 // the hub's offset of the newest record that this hub has appended
	cold      pages
	finishing *finish       // the next record is the last event of this topic; the follower's
	finding   chan struct{} // has room for one who looks for a last event

	mu      sync.Mutex
	changed chan struct{} // closed when the head has moved
	appends int           // how many calls of append are under way
	idle    chan struct{} // closed when the last of them has returned; nil until finish is called
}

// change returns a channel that is closed when the head moves next.
func (f *follower) change() chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// announce says that the head has moved, or that the hub is closed.
func (f *follower) announce() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
}

// append appends records to the Log, within Config.PublishTimeout.
func (f *follower) append(ctx context.Context, records []Record) ([]Position, error) {
	h := f.hub
	if !f.beginAppend() {
		return nil, sse.ErrShutdown
	}
	defer f.endAppend()
	ctx, cancel := context.WithTimeout(ctx, h.cfg.PublishTimeout)
	defer cancel()
	positions, err := h.cfg.Log.Append(ctx, records)
	if err != nil {
		return nil, err
	}
	if len(positions) != len(records) {
		return nil, fmt.Errorf("the log has returned %d positions for %d records: %w", len(positions), len(records), ErrUnknown)
	}
	span := h.spans.last()
	if last := positions[len(positions)-1]; last.Epoch == span.epoch {
		storeMax(&f.newest, span.offset(last))
	}
	return positions, nil
}

func storeMax(v *atomic.Uint64, to uint64) {
	for {
		old := v.Load()
		if old >= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}

// The waits between two attempts to follow the Log.
const (
	minFollowWait = 20 * time.Millisecond
	maxFollowWait = 2 * time.Second
)

// run follows the Log until the hub is shut down.
func (f *follower) run() {
	defer close(f.done)
	wait := minFollowWait
	for {
		began := f.hub.head.Load()
		err := f.checkEnd()
		if err == nil {
			err = f.hub.cfg.Log.Follow(f.ctx, f.hub.Position(), f.apply)
		}
		if f.ctx.Err() != nil || f.hub.closed.Load() {
			return
		}
		if err = f.recover(err); err != nil {
			f.setHealth(err)
		}
		if f.hub.head.Load() != began { // also past a gap
			wait = minFollowWait
		}
		select {
		case <-f.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, maxFollowWait)
	}
}

// checkEnd returns an error if the Log has lost records that the hub has applied, and kept its
// epoch. Its next records would have offsets that the hub takes for repeats.
func (f *follower) checkEnd() error {
	bounds, err := f.hub.cfg.Log.Bounds(f.ctx)
	if err != nil {
		return err
	}
	if pos := f.hub.Position(); bounds.Epoch == pos.Epoch && bounds.Last < pos.Offset {
		return fmt.Errorf("hub: the log ends at offset %d, but has had offset %d; a log that loses records must change its epoch", bounds.Last, pos.Offset)
	}
	return nil
}

// recover does what makes it possible to go on after Follow has ended with err. It returns
// the error that is left.
func (f *follower) recover(err error) error {
	h := f.hub
	switch truncated, ok := errors.AsType[*TruncatedError](err); {
	case ok:
		offset := h.spans.last().offset(Position{Offset: max(1, truncated.First) - 1})
		if offset <= h.head.Load() {
			return fmt.Errorf("hub: after offset %d, %w", h.Position().Offset, err)
		}
		f.first.Store(truncated.First)
		f.skipTo(offset, GapLost)
		return nil
	case errors.Is(err, ErrEpoch):
		bounds, err := h.cfg.Log.Bounds(f.ctx)
		switch {
		case err != nil:
			return err
		case bounds.Epoch == 0:
			return errors.New("hub: the log has the epoch 0")
		case bounds.Epoch == h.spans.last().epoch:
			return nil
		}
		fins, err := f.readOrders(f.ctx, bounds)
		if err == nil {
			f.beginEpoch(bounds, fins)
		}
		return err
	case err == nil:
		return errors.New("hub: the log has ended to be followed")
	}
	return err
}

// setHealth reports that the Log cannot be followed because of err, or that it can.
func (f *follower) setHealth(err error) {
	old := f.health.Load()
	if old.Err == nil && err == nil {
		return
	}
	health := &Health{Err: err, Since: time.Now()}
	if old.Err != nil && err != nil {
		health.Since = old.Since
		f.health.Store(health)
		return
	}
	f.health.Store(health)
	if err != nil {
		f.hub.cfg.Logger.Warn("hub: the log cannot be followed; members stay, and get their events when it is back", "error", err)
	} else {
		f.hub.cfg.Logger.Info("hub: the log is followed again")
	}
	if on := f.hub.cfg.OnHealth; on != nil {
		on(*health)
	}
}

// beginEpoch begins a span with the Log's new epoch. The tail is emptied, and all members are
// told of a gap. They go on after the newest record that the Log has now. fins are the topics
// that it has finished.
func (f *follower) beginEpoch(bounds Bounds, fins []*finish) {
	h := f.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() {
		return
	}
	for h.log.entries.len() > 0 {
		h.evictedLocked(h.log.pop())
	}
	base := h.head.Load() + 1
	h.spans.begin(bounds.Epoch, base)
	h.forgetAllLocked()
	h.finishOrdersLocked(fins, base)
	f.finishing = nil
	f.first.Store(bounds.First)
	f.addHolesLocked(base+bounds.Last, GapEpoch)
	f.announce()
}

// maxAhead is how long a client that is ahead of this hub waits for it, because it has got
// its events from another one, before it is told of a gap.
const maxAhead = 3 * time.Second

// awaitAhead waits until the hub has applied what is before pos, but not long.
func (f *follower) awaitAhead(ctx context.Context, pos Position) {
	span := f.hub.spans.last()
	if pos.Epoch != span.epoch || span.offset(pos) <= f.hub.head.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, maxAhead)
	defer cancel()
	_ = f.hub.Wait(ctx, pos) // placeCursor finds out how it went
}

// beforeFirst returns the hub's offset just before the first record of the Log.
func (f *follower) beforeFirst() uint64 {
	return f.hub.spans.last().offset(Position{Offset: max(1, f.first.Load()) - 1})
}

// beginAppend reports whether the hub still takes publications. If so, the caller calls
// endAppend when it has appended.
func (f *follower) beginAppend() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.idle != nil {
		return false
	}
	f.appends++
	return true
}

func (f *follower) endAppend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.appends--
	if f.idle != nil && f.appends == 0 {
		close(f.idle)
	}
}

// maxFinish is how long Shutdown waits for the publications of this hub: for the Log to take
// those that are under way, and for all of them to come back from it.
const maxFinish = time.Second

// finish refuses publications from now on. It waits until the hub has applied all that it has
// published, but not long: clients get the rest where they connect next.
func (f *follower) finish(ctx context.Context) {
	f.mu.Lock()
	if f.idle == nil {
		f.idle = make(chan struct{})
		if f.appends == 0 {
			close(f.idle)
		}
	}
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, maxFinish)
	defer cancel()
	select {
	case <-f.idle:
	case <-ctx.Done():
	}
	_ = f.hub.Wait(ctx, f.hub.spans.position(f.newest.Load()))
}

// close ends all reads of the Log, and waits until it is not followed any longer, or ctx is
// done.
func (f *follower) close(ctx context.Context) {
	f.stop()
	f.cold.stop()
	select {
	case <-f.done:
	case <-ctx.Done():
	}
}
