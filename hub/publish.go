package hub

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
)

// A publication encodes the event without a lock (encode). Then, under Hub.mu, it gives the
// event the next offset, appends it to the log's tail and to its topic's, enqueues the
// topic's followers (appendLocked), and evicts old events (evictLocked). It does not wait
// for a delivery.

// Publish appends e to the log and has it sent to the followers of topic. It returns the
// event's position as soon as the event is in the log, however many followers there are and
// however slow they are.
//
// The event's id is that position, and e must not have an ID. With Config.OwnIDs, e must
// have an ID, which must be no other event's of the topic. An event that has only a Retry or
// a Comment is sent and moves the client's last event id, but no client shows it.
//
// Publish returns an *event.FieldError if e cannot be encoded, if it has an ID without
// Config.OwnIDs or no ID with it, or if ResetID is set; a [*DuplicateIDError] if its ID is
// in use; an *event.TooLargeError if it is larger than Config.LogSize; the error of ctx; an
// error for an empty topic; or, after Shutdown, an error that matches sse.ErrShutdown. In
// each case the event is not in the log.
func (h *Hub) Publish(ctx context.Context, topic string, e sse.Event) (Position, error) {
	if err := ctx.Err(); err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	f, err := h.encode(topic, e)
	if err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	pos, err := h.appendEvent(topic, e, f)
	if err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	return pos, nil
}

// frame is the wire form of an event that is about to be appended. The event's offset
// belongs between prefix and suffix. With Config.OwnIDs, prefix is the whole frame.
type frame struct {
	prefix, suffix []byte
}

var errTopic = errors.New("the topic must not be empty")

// encode does all the work that needs no lock: everything but writing the offset.
func (h *Hub) encode(topic string, e sse.Event) (f frame, err error) {
	switch {
	case topic == "":
		return f, errTopic
	case e.ResetID:
		return f, &event.FieldError{Field: "ResetID", Offset: -1, Reason: "must be false in a published event: clients would lose their place"}
	}
	if err := h.checkOwnID(e.ID); err != nil {
		return f, err
	}
	lead, trail := e, sse.Event{Retry: e.Retry, Comment: e.Comment}
	size := len(e.Data) + len(e.Name) + len(e.Comment) + 96 // enough unless there are many lines
	f.prefix = make([]byte, 0, size)
	if !h.cfg.OwnIDs {
		lead.Retry, lead.Comment = 0, ""
		lead.ID = h.idPrefix
	}
	if e == (sse.Event{}) { // it has empty data; with only an id, clients would not show it
		f.prefix, err = event.AppendWith(f.prefix, lead, func(frame []byte) ([]byte, error) { return frame, nil })
	} else {
		f.prefix, err = lead.AppendText(f.prefix)
	}
	if err != nil || h.cfg.OwnIDs {
		return f, h.checkSize(f, err)
	}
	f.prefix = f.prefix[:len(f.prefix)-len("\n\n")]
	f.suffix = lineAndBlock
	if trail != (sse.Event{}) {
		if f.suffix, err = trail.AppendText([]byte("\n")); err != nil {
			return f, err
		}
	}
	return f, h.checkSize(f, nil)
}

// lineAndBlock ends the line of the id, and the event.
var lineAndBlock = []byte("\n\n")

// checkSize returns err, or an error if f is too large.
func (h *Hub) checkSize(f frame, err error) error {
	if err == nil && int64(len(f.prefix)+len(f.suffix)) > h.cfg.LogSize {
		err = &event.TooLargeError{What: "event", Limit: int(h.cfg.LogSize)}
	}
	return err
}

// appendEvent gives the event the next position, appends it to the log, and evicts what is
// then beyond the log's bounds. It returns sse.ErrShutdown if the hub is closed, or a
// *DuplicateIDError.
func (h *Hub) appendEvent(topic string, e sse.Event, f frame) (Position, error) {
	ent := &entry{Message: Message{Topic: topic, Event: e, Time: time.Now()}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() {
		return Position{}, sse.ErrShutdown
	}
	ent.Position = Position{h.epoch, h.head.Load() + 1}
	if h.cfg.OwnIDs {
		if err := h.checkDuplicateLocked(topic, e.ID); err != nil {
			return Position{}, err
		}
	} else {
		f.prefix = strconv.AppendUint(f.prefix, ent.Position.Offset, 10)
		f.prefix = append(f.prefix, f.suffix...)
	}
	ent.frame = f.prefix
	h.appendLocked(ent)
	h.evictLocked(ent.Time)
	h.stats.published.Add(1)
	return ent.Position, nil
}

// appendLocked makes e the newest entry, and enqueues the followers of its topic. mu is
// held. The order of its stores matters: readers rely on it without a lock (see doc.go).
func (h *Hub) appendLocked(e *entry) {
	t := h.topicLocked(e.Topic)
	e.topic = t
	h.log.append(e)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bytes += int64(len(e.frame))
	e.bytes = t.bytes
	t.entries.push(placed{e, e.Position.Offset})
	if h.cfg.OwnIDs {
		t.own.add(e)
	}
	t.toAnnounce()
	t.last.Store(e.Position.Offset)
	h.head.Store(e.Position.Offset)
	for _, p := range t.parts {
		if !p.queued && len(p.links) > 0 {
			p.queued = true
			p.shard.enqueue(p)
		}
	}
}

// evictLocked removes from the tails, the log's and the topics', what is beyond the log's
// bounds. It sets the timer for the oldest event that is left. mu is held.
func (h *Hub) evictLocked(now time.Time) {
	for {
		e, ok := h.log.evict(now)
		if !ok {
			break
		}
		t := e.topic
		t.mu.Lock()
		t.entries.pop() // it is e: the topic has the same order
		t.first++
		t.floor = e.Position.Offset
		if h.cfg.OwnIDs {
			t.own.evict(e)
		}
		t.mu.Unlock()
		h.dropUnusedLocked(t)
	}
	if h.log.entries.len() == 0 || h.log.maxAge == 1<<63-1 || h.closed.Load() {
		return
	}
	if h.expiry == nil {
		h.expiry = time.AfterFunc(h.log.entries.at(0).Time.Add(h.log.maxAge).Sub(now), h.expire)
	}
}

// expire is what the timer calls. It evicts events that are too old even if nothing is
// published any longer.
func (h *Hub) expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expiry = nil
	h.evictLocked(time.Now())
}
