package hub

import (
	"context"
	"fmt"

	"github.com/chi-sse/sse/event"
)

// With Config.OwnIDs, a client's last event id is the id of an event of one of its topics.
// Each topic has an index of the ids of its entries. An id is looked up only in the topics
// that the client follows, so nobody can learn which ids other topics have.
//
// A topic also remembers the id that it has evicted last: a client that has exactly this
// one has missed nothing that is not in the tail. The hub goes on remembering it for a
// topic that it drops.

// DuplicateIDError reports that an event was not published because its ID belongs to
// another event of the topic, which is in the log, or is the last one of the topic that has
// left it. The same ID in another topic is no error.
type DuplicateIDError struct {
	Topic    string
	ID       string
	Position Position // of the event that has the ID
}

func (e *DuplicateIDError) Error() string {
	return fmt.Sprintf("event %v of topic %q has the ID %q; the ID must be no other event's of the topic", e.Position, e.Topic, e.ID)
}

// maxOwnID is the length of the longest ID that an event may have, in bytes. A client sends
// it back in a header.
const maxOwnID = 1024

// checkOwnID returns an *event.FieldError if a published event must not have id.
func (h *Hub) checkOwnID(id string) error {
	var reason string
	switch {
	case !h.cfg.OwnIDs && id != "":
		reason = "must be empty in a published event unless hub.Config.OwnIDs is set"
	case h.cfg.OwnIDs && id == "":
		reason = "must not be empty in a published event, since hub.Config.OwnIDs is set"
	case len(id) > maxOwnID:
		reason = fmt.Sprintf("must not be longer than %d bytes in a published event", maxOwnID)
	default:
		return nil
	}
	return &event.FieldError{Field: "ID", Offset: -1, Reason: reason}
}

// ownIDs is a topic's index of its entries' ids. topic.mu guards it.
type ownIDs struct {
	offsets map[string]uint64 // by id; nil if the topic has no entries
	evicted string            // id of the entry at the topic's floor; "" if there is none
}

// add adds e, which has been appended to the topic.
func (o *ownIDs) add(e *entry) {
	if o.offsets == nil {
		o.offsets = make(map[string]uint64)
	}
	o.offsets[e.Event.ID] = e.offset
}

// evict removes e, which has been evicted from the topic.
func (o *ownIDs) evict(e *entry) {
	o.evicted = e.Event.ID
	delete(o.offsets, e.Event.ID)
	if len(o.offsets) == 0 {
		o.offsets = nil // a map keeps its memory
	}
}

// findID returns the offset of the event with the own id. ok is false if the topic has none.
// mu is held.
func (t *topic) findID(id string) (offset uint64, ok bool) {
	if offset, ok = t.own.offsets[id]; !ok && id != "" && id == t.own.evicted {
		return t.floor, true
	}
	return offset, ok
}

// checkDuplicateLocked returns a *DuplicateIDError if topic has an event with id. mu is held.
func (h *Hub) checkDuplicateLocked(topic, id string) error {
	var offset uint64
	used := false
	if t := h.topics[topic]; t != nil {
		t.mu.Lock()
		offset, used = t.findID(id)
		t.mu.Unlock()
	} else if d := h.dropped.byTopic[topic]; d != nil {
		offset, used = d.floor, d.id == id
	}
	if used {
		return &DuplicateIDError{Topic: topic, ID: id, Position: h.spans.position(offset)}
	}
	return nil
}

// checkDuplicatesLocked returns a *DuplicateIDError if one of ps has an ID that is in use, or
// that another of them has. mu is held.
func (h *Hub) checkDuplicatesLocked(ps []Publication) error {
	if !h.cfg.OwnIDs {
		return nil
	}
	ids := make(map[key]bool, len(ps))
	for _, p := range ps {
		id := key{p.Topic, p.Event.ID}
		if ids[id] {
			return &DuplicateIDError{Topic: p.Topic, ID: p.Event.ID, Position: h.Position()}
		}
		ids[id] = true
		if _, known := h.keys.find(key{p.Topic, p.Key}); known {
			continue // it is not published again
		}
		if err := h.checkDuplicateLocked(p.Topic, p.Event.ID); err != nil {
			return err
		}
	}
	return nil
}

// findID returns the lowest offset of the events with the own id in m's topics. With a
// higher one, events of another topic could be missing. ok is false if there is none.
func (m *Member) findID(id string) (lowest uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		l.topic.mu.Lock()
		offset, found := l.topic.findID(id)
		l.topic.mu.Unlock()
		if found && (!ok || offset < lowest) {
			lowest, ok = offset, true
		}
	}
	return lowest, ok
}

// findInLog is findID for the Log, if that is a Finder.
func (m *Member) findInLog(id string) (lowest uint64, ok bool) {
	h := m.hub
	finder, can := h.cfg.Log.(Finder)
	if !can {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(m.server.Context(), h.cfg.PublishTimeout)
	defer cancel()
	for _, topic := range m.sortedTopics() {
		pos, found, err := finder.Find(ctx, topic, id)
		if err != nil {
			h.cfg.Logger.Warn("hub: the log could not look up a last event id", "topic", topic, "error", err)
			continue
		}
		if span := h.spans.last(); found && pos.Epoch == span.epoch && (!ok || span.offset(pos) < lowest) {
			lowest, ok = span.offset(pos), true
		}
	}
	return lowest, ok
}

// droppedIDs remembers the ids that dropped topics have evicted last. Hub.mu guards it.
type droppedIDs struct {
	byTopic map[string]*droppedID
	order   deque[*droppedID] // all of them, the oldest first
}

// droppedID is the id that a dropped topic has evicted last, and the topic's floor, which is
// its offset.
type droppedID struct {
	topic, id string
	floor     uint64
}

// maxDroppedIDs is of how many dropped topics the hub remembers the id.
const maxDroppedIDs = DefaultLogEvents

// remember remembers id. It forgets the oldest, if there are too many.
func (d *droppedIDs) remember(topic, id string, floor uint64) {
	if known := d.byTopic[topic]; known != nil {
		known.id, known.floor = id, floor
		return
	}
	if d.byTopic == nil {
		d.byTopic = make(map[string]*droppedID)
	}
	if d.order.len() == maxDroppedIDs {
		delete(d.byTopic, d.order.pop().topic)
	}
	v := &droppedID{topic, id, floor}
	d.byTopic[topic] = v
	d.order.push(v)
}
