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
// The event's id is that position (see [Hub.ID]), and e must not have an ID. With Config.OwnIDs, e must
// have an ID, which must be no other event's of the topic. An event that has only a Retry or
// a Comment is sent and moves the client's last event id, but no client shows it.
//
// Publish returns an *event.FieldError if e cannot be encoded, if it has an ID without
// Config.OwnIDs or no ID with it, or if ResetID is set; a [*DuplicateIDError] if its ID is
// in use; an *event.TooLargeError if it is larger than Config.LogSize; the error of ctx; an
// error for an empty topic; or, after Shutdown, an error that matches sse.ErrShutdown. In
// each case the event is not in the log.
//
// With Config.Log, Publish returns when the Log has the event. The hub's own members are sent
// it a moment later; [Hub.Wait] waits for that. The error also matches [ErrUnknown] if the
// event may be in the Log, and [ErrReadOnly] if the Log takes no events. With Config.OwnIDs,
// the ID is the event's key too.
func (h *Hub) Publish(ctx context.Context, topic string, e sse.Event) (Position, error) {
	if err := ctx.Err(); err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	f, err := h.encode(topic, e)
	if err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	pos, err := h.appendEvent(ctx, topic, e, f)
	if err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	return pos, nil
}

// Publication is an event to be published.
type Publication struct {
	Topic string
	Event sse.Event

	// Key makes a publication safe to repeat: an event with the same Topic and Key that is
	// still in the log is not published again, and the position of the earlier one is
	// returned. How long Config.Log remembers keys, it says itself. "" is no key.
	Key string
}

// PublishAll publishes several events, in their order and without others between them. It
// returns their positions, or an error as [Hub.Publish] does, and then none of the events is
// in the log. If an event is refused for what it is by itself, the error wraps an
// [*sse.IndexError]. A Log needs about as long for many events as for one.
func (h *Hub) PublishAll(ctx context.Context, ps []Publication) ([]Position, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("hub: publish: %w", err)
	}
	frames := make([]frame, len(ps))
	for i, p := range ps {
		f, err := h.encode(p.Topic, p.Event)
		if err != nil {
			return nil, fmt.Errorf("hub: publish: %w", &sse.IndexError{Index: i, Err: err})
		}
		frames[i] = f
	}
	positions, err := h.appendAll(ctx, ps, frames)
	if err != nil {
		return nil, fmt.Errorf("hub: publish: %w", err)
	}
	return positions, nil
}

// appendAll appends what encode has encoded. With a Log it needs no frames.
func (h *Hub) appendAll(ctx context.Context, ps []Publication, frames []frame) ([]Position, error) {
	switch {
	case len(ps) == 0:
		return nil, nil
	case h.follower != nil:
		records := make([]Record, len(ps))
		for i, p := range ps {
			if h.finishOf(p.Topic) != nil {
				return nil, finishedError(p.Topic)
			}
			records[i] = Record{Topic: p.Topic, Key: p.Key, Event: p.Event}
			if h.cfg.OwnIDs && p.Key == "" {
				records[i].Key = p.Event.ID
			}
		}
		return h.follower.append(ctx, records)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() {
		return nil, sse.ErrShutdown
	}
	for _, p := range ps {
		if h.finished.of(p.Topic) != nil {
			return nil, finishedError(p.Topic)
		}
	}
	if err := h.checkDuplicatesLocked(ps); err != nil {
		return nil, err
	}
	positions := make([]Position, len(ps))
	for i, p := range ps {
		if pos, ok := h.keys.find(key{p.Topic, p.Key}); ok {
			positions[i] = pos
			continue
		}
		positions[i] = h.appendEventLocked(&entry{Message: Message{Topic: p.Topic, Event: p.Event, Time: time.Now()}}, frames[i], nil)
		if p.Key != "" {
			h.keys.add(key{p.Topic, p.Key}, positions[i])
		}
	}
	return positions, nil
}

// frame is the wire form of an event that is about to be appended. The event's offset
// belongs between prefix and suffix, or with Config.IDKey its id. With Config.OwnIDs, prefix is
// the whole frame.
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
		lead.ID = h.spans.last().prefix
		if h.idKey != nil {
			lead.ID = idPlace
		}
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
	if h.idKey != nil {
		f.prefix = f.prefix[:len(f.prefix)-len(idPlace)]
	}
	f.suffix = lineAndBlock
	if trail != (sse.Event{}) {
		if f.suffix, err = trail.AppendText([]byte("\n")); err != nil {
			return f, err
		}
	}
	return f, h.checkSize(f, nil)
}

// idPlace is the id of an event whose id is not known yet.
const idPlace = "?"

// lineAndBlock ends the line of the id, and the event.
var lineAndBlock = []byte("\n\n")

// checkSize returns err, or an error if f is too large.
func (h *Hub) checkSize(f frame, err error) error {
	if err == nil && int64(len(f.prefix)+len(f.suffix)) > h.cfg.LogSize {
		err = &event.TooLargeError{What: "event", Limit: int(h.cfg.LogSize)}
	}
	return err
}

// appendEvent appends an event that encode has encoded. It returns sse.ErrShutdown if the hub
// is closed, a *DuplicateIDError, or an error of the Log.
func (h *Hub) appendEvent(ctx context.Context, topic string, e sse.Event, f frame) (Position, error) {
	if h.follower != nil {
		positions, err := h.appendAll(ctx, []Publication{{Topic: topic, Event: e}}, nil)
		if err != nil {
			return Position{}, err
		}
		return positions[0], nil
	}
	ent := &entry{Message: Message{Topic: topic, Event: e, Time: time.Now()}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() {
		return Position{}, sse.ErrShutdown
	}
	if h.finished.of(topic) != nil {
		return Position{}, finishedError(topic)
	}
	if h.cfg.OwnIDs {
		if err := h.checkDuplicateLocked(topic, e.ID); err != nil {
			return Position{}, err
		}
	}
	return h.appendEventLocked(ent, f, nil), nil
}

// appendEventLocked gives ent the next position, appends it to the log, and evicts what is
// then beyond the log's bounds. With fin, it is the last event of its topic. mu is held.
func (h *Hub) appendEventLocked(ent *entry, f frame, fin *finish) Position {
	ent.offset = h.head.Load() + 1
	ent.Position = h.spans.position(ent.offset)
	ent.frame = h.complete(f, ent.Position)
	h.appendLocked(ent, fin)
	h.evictLocked(ent.Time)
	if fin != nil {
		h.forgetLocked(ent.Time)
	}
	h.stats.published.Add(1)
	return ent.Position
}

// complete returns f with the id of an event at pos.
func (h *Hub) complete(f frame, pos Position) []byte {
	if h.cfg.OwnIDs {
		return f.prefix
	}
	if h.idKey != nil {
		return append(h.appendID(f.prefix, pos), f.suffix...)
	}
	return append(strconv.AppendUint(f.prefix, pos.Offset, 10), f.suffix...)
}

// appendLocked makes e the newest entry, and enqueues the followers of its topic. mu is
// held. The order of its stores matters: readers rely on it without a lock (see doc.go). With
// fin, which is not nil then, e finishes its topic.
func (h *Hub) appendLocked(e *entry, fin *finish) {
	t := h.topicLocked(e.Topic)
	h.log.append(e)
	t.mu.Lock()
	defer t.mu.Unlock()
	h.pushLocked(t, e)
	if fin != nil {
		h.finishLocked(t, fin, e.offset)
	}
	h.head.Store(e.offset)
	t.enqueueParts()
}

// pushLocked makes e the newest entry of t's tail. Hub.mu and t.mu are held.
func (h *Hub) pushLocked(t *topic, e *entry) {
	e.topic = t
	t.bytes += int64(len(e.frame))
	t.entries.push(placed{e, e.offset, t.bytes})
	if h.cfg.OwnIDs && e.hole() == "" {
		t.own.add(e)
	}
	t.toAnnounce()
	t.last.Store(e.offset)
}

// enqueueParts has the followers of t visited. mu is held.
func (t *topic) enqueueParts() {
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
		h.evictedLocked(e)
	}
	if h.log.entries.len() == 0 || h.log.maxAge == forever || h.closed.Load() {
		return
	}
	if h.expiry == nil {
		h.expiry = time.AfterFunc(h.log.entries.at(0).Time.Add(h.log.maxAge).Sub(now), h.expire)
	}
}

// evictedLocked removes e, which the log has evicted, from its topic. mu is held.
func (h *Hub) evictedLocked(e *entry) {
	t := e.topic
	if h.keepsLast(e) {
		return
	}
	t.mu.Lock()
	t.entries.pop() // it is e: the topic has the same order
	t.first++
	t.floor = e.offset
	if h.cfg.OwnIDs && e.hole() == "" {
		t.own.evict(e)
	}
	h.keys.evict(e.offset)
	t.mu.Unlock()
	h.dropUnusedLocked(t)
}

// expire is what the timer calls. It evicts events that are too old even if nothing is
// published any longer.
func (h *Hub) expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expiry = nil
	h.evictLocked(time.Now())
}
