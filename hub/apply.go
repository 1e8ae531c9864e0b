package hub

import (
	"errors"
	"time"

	"github.com/chi-sse/sse"
)

// The follower applies each record of the Log to the tail: an event is appended as one that was
// published here, an order is carried out, and what is missing becomes a hole.

// apply applies what Follow has read.
func (f *follower) apply(b Batch) error {
	h := f.hub
	span := h.spans.last()
	whole := len(b.Records)
	hole := b.UpTo
	for b.Hole && whole > 0 && b.Records[whole-1].Offset == hole { // nothing is missing among these
		whole, hole = whole-1, hole-1
	}
	if err := f.applyAll(b.Records[:whole], span); err != nil {
		return err
	}
	if offset := span.base + hole; b.Hole && offset > h.head.Load() {
		f.skipTo(offset, GapLost)
	}
	if err := f.applyAll(b.Records[whole:], span); err != nil {
		return err
	}
	upTo := span.base + b.UpTo
	h.mu.Lock()
	if !h.closed.Load() && upTo > h.head.Load() {
		h.head.Store(upTo)
	}
	h.mu.Unlock()
	f.announce()
	f.setHealth(nil)
	return f.ctx.Err()
}

// applyAll applies records, without those that were applied before.
func (f *follower) applyAll(records []Record, span *span) error {
	for i := range records {
		rec := &records[i]
		if offset := rec.Offset + span.base; offset > f.hub.head.Load() {
			if err := f.applyRecord(rec, span, offset); err != nil {
				return err
			}
		}
	}
	return nil
}

// applyRecord applies a record that has the hub's offset.
func (f *follower) applyRecord(rec *Record, span *span, offset uint64) error {
	h := f.hub
	fin := f.takeFinishing(rec)
	ent := &entry{Message: Message{Topic: rec.Topic, Event: rec.Event, Time: rec.Time, Position: Position{span.epoch, rec.Offset}}, offset: offset}
	switch rec.Kind {
	case EventRecord:
		frame, err := h.encode(rec.Topic, rec.Event)
		if err == nil {
			ent.frame = h.complete(frame, ent.Position)
			break
		}
		f.reportInvalid(rec, err)
		ent.Event = sse.Event{Name: string(GapLost)}
	case ControlRecord:
		f.obey(rec, offset)
		return nil
	default:
		f.reportInvalid(rec, errors.New("it cannot be decoded"))
		ent.Event = sse.Event{Name: string(GapLost)}
	}
	if rec.Topic == "" {
		f.skipTo(offset, GapLost)
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() {
		return sse.ErrShutdown
	}
	if h.finished.byTopic[rec.Topic] != nil {
		h.cfg.Logger.Warn("hub: an event was published to a topic that another hub had just finished; nobody gets it", "topic", rec.Topic, "offset", rec.Offset)
		h.head.Store(offset)
		return nil
	}
	if ent.hole() != "" && h.topics[rec.Topic] == nil && fin == nil {
		h.droppedFloor = max(h.droppedFloor, offset) // nobody follows it; a later member reads the Log
		h.head.Store(offset)
		return nil
	}
	h.appendLocked(ent, fin)
	h.evictLocked(time.Now())
	if fin != nil {
		h.forgetLocked(time.Now())
	}
	h.stats.published.Add(1)
	return nil
}

// reportInvalid counts and logs a record that is skipped.
func (f *follower) reportInvalid(rec *Record, err error) {
	f.hub.stats.invalid.Add(1)
	f.hub.cfg.Logger.Error("hub: a record of the log is invalid; its clients are told of a gap", "topic", rec.Topic, "offset", rec.Offset, "error", err)
}

// obey carries out an order. Orders that are older than the hub have no sessions to concern.
func (f *follower) obey(rec *Record, offset uint64) {
	h := f.hub
	h.mu.Lock()
	if !h.closed.Load() {
		h.head.Store(offset) // sessions that are admitted from now on are not concerned
	}
	h.mu.Unlock()
	switch {
	case rec.Event.Name == orderFinish:
		f.orderedFinish(rec, offset)
	case rec.Offset <= f.orders && offset == rec.Offset:
	case rec.Event.Name == orderKick:
		h.obeyKick(rec, offset)
	default:
		h.cfg.Logger.Warn("hub: an order in the log is unknown to this version", "order", rec.Event.Name, "topic", rec.Topic)
	}
}

// skipTo moves the head to offset, and has all members told that what is before it and has
// not been applied is missing.
func (f *follower) skipTo(offset uint64, reason GapReason) {
	h := f.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() {
		return
	}
	f.finishing = nil
	f.addHolesLocked(offset, reason)
	f.announce()
}

// addHolesLocked adds a hole at offset to each topic, and moves the head there. The head moves
// when all of them are there: a member that has been told of one is not told of another. Hub.mu
// is held.
func (f *follower) addHolesLocked(offset uint64, reason GapReason) {
	h := f.hub
	h.droppedFloor = max(h.droppedFloor, offset)
	now, pos := time.Now(), h.spans.position(offset)
	var ts []*topic
	for name, t := range h.topics {
		if t.users > 0 || t.entries.len() > 0 {
			hole := newHole(name, offset, reason)
			hole.Time, hole.Position = now, pos
			h.log.append(hole)
			t.mu.Lock()
			h.pushLocked(t, hole)
			t.mu.Unlock()
			ts = append(ts, t)
		}
	}
	h.head.Store(offset)
	for _, t := range ts {
		t.mu.Lock()
		t.enqueueParts()
		t.mu.Unlock()
	}
}
