package hub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chi-sse/sse"
)

// Open returns a hub of cfg.Log. The hub begins with what the Log has at that time, and the
// newest cfg.LogEvents of it in memory if the Log's offsets have no holes; older events are
// read from the Log when a client needs them. Open returns when it has them, or with the error
// of ctx or of the Log, or an error about cfg as [New] does.
//
// The hub follows the Log until [Hub.Shutdown] is called. It does not close the Log.
func Open(ctx context.Context, cfg Config) (*Hub, error) {
	if cfg.Log == nil {
		return nil, errors.New("hub: Config.Log must be set for Open; a hub without a Log is made by New")
	}
	if cfg.PublishTimeout < 0 {
		return nil, errors.New("hub: Config.PublishTimeout must be positive, or zero for its default")
	}
	h, err := newHub(cfg)
	if err != nil {
		return nil, err
	}
	f := &follower{hub: h, changed: make(chan struct{}), done: make(chan struct{}), finding: make(chan struct{}, 1)}
	f.ctx, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	f.health.Store(&Health{Since: time.Now()})
	f.cold.init(h, f)
	h.follower = f
	bounds, after, fins, err := f.beginning(ctx)
	if err != nil {
		f.stop()
		return nil, fmt.Errorf("hub: open: %w", err)
	}
	h.spans = spans{}
	h.spans.begin(bounds.Epoch, 0)
	h.mu.Lock()
	h.finishOrdersLocked(fins, 0)
	h.mu.Unlock()
	f.first.Store(bounds.First)
	h.head.Store(after)
	h.droppedFloor = after
	f.orders = bounds.Last
	go f.run()
	if err := h.Wait(ctx, Position{bounds.Epoch, bounds.Last}); err != nil {
		h.close()
		f.close(context.Background())
		if health := h.Health(); health.Err != nil {
			err = fmt.Errorf("%w: %w", err, health.Err)
		}
		return nil, fmt.Errorf("hub: open: %w", err)
	}
	return h, nil
}

// beginning returns the bounds of the Log, the offset after which the hub begins to follow it, and
// the topics that were finished before. If the Log has no bounds, that is an error. Other trouble,
// such as an election, may end by itself: beginning tries again until ctx ends.
func (f *follower) beginning(ctx context.Context) (bounds Bounds, after uint64, fins []*finish, err error) {
	for wait := minFollowWait; ; wait = min(2*wait, maxFollowWait) {
		if bounds, err = f.hub.cfg.Log.Bounds(ctx); err != nil {
			return bounds, 0, nil, err
		}
		if bounds.Epoch == 0 || bounds.First > bounds.Last+1 {
			return bounds, 0, nil, fmt.Errorf("the log has the bounds %+v; its epoch must not be 0, and First must be at most Last+1", bounds)
		}
		after = max(bounds.First, bounds.Last-min(bounds.Last, uint64(f.hub.cfg.LogEvents))+1) - 1
		if after, fins, err = f.finishedBefore(ctx, bounds, after); err == nil {
			return bounds, after, fins, nil
		}
		f.setHealth(err)
		select {
		case <-ctx.Done():
			return bounds, 0, nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// Health says how a hub stands to its Log.
type Health struct {
	Err   error     // why the hub cannot follow its Log, or nil if it can
	Since time.Time // since when that has been so
}

// Health returns how the hub stands to Config.Log. A hub without a Log is always well.
func (h *Hub) Health() Health {
	if h.follower == nil {
		return Health{}
	}
	return *h.follower.health.Load()
}

// Wait returns when the hub has applied the event at pos, so that its members are sent it and
// a Snapshot can name it: a Log is shared, and a hub may lag. It returns an error that matches
// [ErrEpoch] if pos has another epoch than the hub, that matches sse.ErrShutdown after
// Shutdown, or the error of ctx.
func (h *Hub) Wait(ctx context.Context, pos Position) error {
	for {
		var changed chan struct{}
		if h.follower != nil {
			changed = h.follower.change()
		}
		span := h.spans.last()
		switch {
		case pos.Epoch != span.epoch:
			return fmt.Errorf("hub: wait for %v: %w", pos, ErrEpoch)
		case span.offset(pos) <= h.head.Load():
			return nil
		case h.closed.Load():
			return fmt.Errorf("hub: wait for %v: %w", pos, sse.ErrShutdown)
		}
		select {
		case <-changed: // nil without a Log: nothing is ahead of such a hub
		case <-ctx.Done():
			return fmt.Errorf("hub: wait for %v: %w", pos, ctx.Err())
		}
	}
}
