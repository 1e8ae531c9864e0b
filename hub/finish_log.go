package hub

import (
	"context"
	"errors"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
)

// With Config.Log, a topic is finished by an order, and the event that follows it: one append,
// so nothing is between them. Orders of this kind are in the topic "", which no event has. So a
// hub that is opened later can read them all, without reading the events.

// orderFinish is in Event.Name of the order. Event.Data is the topic.
const orderFinish = "finish"

func (h *Hub) finishInLog(ctx context.Context, topic string, last sse.Event) (Position, error) {
	if fin := h.finishOf(topic); fin != nil {
		offset := fin.last.Load()
		if offset == 0 {
			var err error
			if offset, err = h.follower.findLast(ctx, fin); err != nil {
				return Position{}, err
			}
		}
		return h.spans.position(offset), finishedError(topic)
	}
	positions, err := h.follower.append(ctx, []Record{
		{Kind: ControlRecord, Event: event.Event{Name: orderFinish, Data: topic}},
		{Topic: topic, Event: last}, // without a key: an earlier event must not take its place
	})
	if err != nil {
		return Position{}, err
	}
	return positions[1], h.Wait(ctx, positions[1]) // from now on it must refuse publications
}

// orderedFinish takes note of an order, which has the hub's offset: the next record is the
// last event of a topic.
func (f *follower) orderedFinish(rec *Record, offset uint64) {
	f.finishing = newOrder(rec, offset)
}

func newOrder(rec *Record, offset uint64) *finish {
	return &finish{topic: rec.Event.Data, time: rec.Time, order: offset, size: 256 + int64(len(rec.Event.Data))}
}

// takeFinishing returns what makes rec the last event of its topic, or nil.
func (f *follower) takeFinishing(rec *Record) *finish {
	fin := f.finishing
	f.finishing = nil
	if fin == nil || rec.Kind == ControlRecord || rec.Topic != fin.topic {
		return nil
	}
	fin.missing.Store(rec.Kind != EventRecord)
	return fin
}

// readOrders returns the orders in bounds that have finished topics, each with the Log's offset,
// without those that are too old.
func (f *follower) readOrders(ctx context.Context, bounds Bounds) (fins []*finish, err error) {
	now := time.Now()
	for after := max(1, bounds.First) - 1; after < bounds.Last; {
		b, err := f.hub.cfg.Log.Read(ctx, []string{""}, Position{bounds.Epoch, after}, Position{bounds.Epoch, bounds.Last}, pageEvents)
		switch truncated, ok := errors.AsType[*TruncatedError](err); {
		case ok && truncated.First > after+1:
			after = truncated.First - 1
			continue
		case err != nil:
			return nil, err
		case b.UpTo <= after:
			return nil, errors.New("the log has returned a page that does not go on")
		}
		for i := range b.Records {
			rec := &b.Records[i]
			if rec.Kind == ControlRecord && rec.Event.Name == orderFinish && now.Sub(rec.Time) < f.hub.cfg.FinishAge {
				fins = append(fins, newOrder(rec, rec.Offset))
			}
		}
		after = b.UpTo
	}
	return fins, nil
}

// finishedBefore returns the topics whose orders are before the offset after, from which on the
// follower is about to read. It also returns that offset, which is a lower one if an order and its
// event are on its two sides.
func (f *follower) finishedBefore(ctx context.Context, bounds Bounds, after uint64) (uint64, []*finish, error) {
	fins, err := f.readOrders(ctx, bounds)
	if err != nil {
		return 0, nil, err
	}
	for len(fins) > 0 && fins[len(fins)-1].order > after {
		fins = fins[:len(fins)-1] // the follower comes to them
	}
	if len(fins) > 0 {
		newest := fins[len(fins)-1].order
		b, err := f.hub.cfg.Log.Read(ctx, nil, Position{bounds.Epoch, newest}, Position{bounds.Epoch, after}, 1)
		if err != nil {
			return 0, nil, err
		}
		if len(b.Records) == 0 && b.UpTo >= after {
			after = newest - 1
			fins = fins[:len(fins)-1]
		}
	}
	return after, fins, nil
}

// finishOrdersLocked makes the topics of fins finished, whose last events only the Log knows.
// base is that of the span. mu is held.
func (h *Hub) finishOrdersLocked(fins []*finish, base uint64) {
	for _, fin := range fins {
		fin.order += base
		if h.finished.byTopic[fin.topic] != nil {
			continue // the first order counts
		}
		h.rememberLocked(fin)
		if t := h.topics[fin.topic]; t != nil {
			t.fin.Store(fin)
		}
		storeMax(&h.lastFinish, fin.order) // and the last event, when it is known
	}
	h.forgetLocked(time.Now())
}

// forgetAllLocked forgets all finished topics: the Log has another epoch. mu is held.
func (h *Hub) forgetAllLocked() {
	for h.finished.order.len() > 0 {
		h.forgetOldestLocked()
	}
}

// findLast finds the last event of a topic whose order the hub has read when it was opened. It
// returns its offset, or 0 if the Log has dropped the event: the topic is then forgotten. It
// waits while the Log is out of reach.
func (f *follower) findLast(ctx context.Context, fin *finish) (uint64, error) {
	select {
	case f.finding <- struct{}{}: // many clients may ask at once
		defer func() { <-f.finding }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	for wait := minFollowWait; ; wait = min(2*wait, maxFollowWait) {
		if last := fin.last.Load(); last > 0 {
			return last, nil
		}
		found, err := f.readLast(ctx, fin)
		if _, truncated := errors.AsType[*TruncatedError](err); truncated || errors.Is(err, ErrEpoch) || err == nil && !found {
			f.hub.forget(fin)
			return 0, nil
		}
		if found {
			continue
		}
		select {
		case <-time.After(wait):
		case <-f.ctx.Done():
			return 0, sse.ErrShutdown
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// readLast reads the last event of a topic. It reports whether it has set fin.last.
func (f *follower) readLast(ctx context.Context, fin *finish) (found bool, err error) {
	h := f.hub
	s := h.spans.last()
	if fin.order < s.from {
		return false, ErrEpoch
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.PublishTimeout)
	defer cancel()
	at, upTo := fin.order-s.base, Position{s.epoch, h.head.Load() - s.base}
	for at < upTo.Offset {
		b, err := h.cfg.Log.Read(ctx, []string{fin.topic}, Position{s.epoch, at}, upTo, 1)
		switch {
		case err != nil:
			return false, err
		case b.UpTo <= at:
			return false, errors.New("the log has returned a page that does not go on")
		}
		for i := range b.Records {
			if rec := &b.Records[i]; rec.Kind != ControlRecord {
				fin.missing.Store(rec.Kind != EventRecord)
				storeMax(&h.lastFinish, rec.Offset+s.base)
				fin.last.Store(rec.Offset + s.base)
				return true, nil
			}
		}
		at = b.UpTo
	}
	return false, nil
}

// forget forgets that a topic is finished.
func (h *Hub) forget(fin *finish) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.finished.byTopic[fin.topic] == fin {
		h.unfinishLocked(fin)
	}
}

// isAfterLast reports whether an event of topic at the hub's offset comes after its last one.
func (f *follower) isAfterLast(ctx context.Context, topic string, offset uint64) (bool, error) {
	fin := f.hub.finishOf(topic)
	if fin == nil || offset < fin.order {
		return false, nil
	}
	last := fin.last.Load()
	if last == 0 {
		found, err := f.readLast(ctx, fin)
		if err != nil || !found {
			return false, err
		}
		last = fin.last.Load()
	}
	return offset > last, nil
}
