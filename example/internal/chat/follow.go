package chat

import (
	"context"
	"errors"

	"github.com/chi-sse/sse/hub"
)

// followed is a log whose records are applied to the room's state just before the hub gets
// them. So a snapshot is never behind the hub, and Hub.Wait waits for the state too.
type followed struct {
	hub.Log
	room *Room
}

// Follow implements hub.Log.
func (f followed) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	if err := f.room.restore(ctx, f.Log, after); err != nil {
		return err
	}
	return f.Log.Follow(ctx, after, func(b hub.Batch) error {
		f.room.mu.Lock()
		f.room.state.applyAll(b)
		f.room.mu.Unlock()
		return apply(b)
	})
}

// restore brings the state to a position, from which the hub is about to follow the log. It
// reads the log if the log is another one than before, and at the start.
func (r *Room) restore(ctx context.Context, log hub.Log, upTo hub.Position) error {
	r.mu.Lock()
	same := r.state.at.Epoch == upTo.Epoch
	if same { // what the hub has skipped is no longer in the log
		r.state.at.Offset = max(r.state.at.Offset, upTo.Offset)
	}
	r.mu.Unlock()
	if same {
		return nil
	}
	s := newState(hub.Position{Epoch: upTo.Epoch})
	for s.at.Offset < upTo.Offset {
		batch, err := log.Read(ctx, []string{topic}, s.at, upTo, 1000)
		if truncated, ok := errors.AsType[*hub.TruncatedError](err); ok {
			batch, err = hub.Batch{UpTo: truncated.First - 1}, nil // the log has dropped old events
		}
		if err != nil {
			return err
		}
		s.applyAll(batch)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = s
	return nil
}
