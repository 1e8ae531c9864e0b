package hub

import (
	"cmp"

	"github.com/chi-sse/sse/internal/lasteventid"
)

// To seek is to move a member's cursor to an offset, and its links to the first entries
// after it. The caller of each of these functions has claimed the member, except for
// beforeOldest, which only looks at the log.

// placeCursor moves the cursor to where the client is: after the event with id, or where
// start says if the client has no id. If it cannot, or not without a gap, it moves the
// cursor to where the stream can continue, and returns the gap. Otherwise it returns nil.
func (m *Member) placeCursor(id string, start Start) *Gap {
	h := m.hub
	gap := Gap{LastEventID: id, Snapshot: m.snapshot != nil}
	pos, known := Position{}, false
	if len(id) <= lasteventid.Max {
		pos, known = m.resolveID(id)
	}
	if h.follower != nil {
		ahead := pos
		if id == "" && start.kind == atPosition {
			ahead = start.after
		}
		h.follower.awaitAhead(m.server.Context(), ahead)
	}
	span, head := h.spans.last(), h.head.Load()
	switch {
	case id == "" && (start.kind != atPosition || m.snapshot != nil):
		m.seekStart(start, head)
		return nil
	case id == "":
		pos, gap.LastEventID = start.after, h.ID(start.after)
	case !known:
		gap.Reason = GapMalformed
	}
	switch {
	case gap.Reason != "":
	case pos.Epoch != span.epoch:
		gap.Reason = GapEpoch
	case span.offset(pos) > head:
		gap.Reason = GapAhead
	default:
		if gap.Reason = m.seekReplay(span.offset(pos)); gap.Reason == "" {
			return nil
		}
		if m.snapshot == nil {
			gap.Position = m.position()
			return &gap
		}
	}
	gap.Position = h.spans.position(m.seekStart(start, head))
	return &gap
}

// seekStart moves the cursor to where start says, or to head if there is a snapshot, but to
// no more than a replay may be. It returns where the cursor is.
func (m *Member) seekStart(start Start, head uint64) uint64 {
	span := m.hub.spans.last()
	switch {
	case m.snapshot != nil:
		m.seekFrom(head)
	case start.kind == atBeginning:
		m.resumeAt(m.hub.beforeOldest())
	case start.kind == atLatest:
		m.seekLatest(head)
	case start.kind == atPosition && start.after.Epoch == span.epoch && span.offset(start.after) < head:
		m.resumeAt(span.offset(start.after))
	default:
		m.seekFrom(head)
	}
	m.limitCold()
	m.limitReplay()
	return m.cursor.Load()
}

// seekReplay moves the cursor to offset, so that the events after it are sent again. If they
// are not all in the tails, or are more than a replay may be, it moves the cursor to the
// first later offset from which the stream can continue, and returns the reason for the gap.
func (m *Member) seekReplay(offset uint64) (gap GapReason) {
	if m.hub.follower != nil {
		return m.seekLog(offset)
	}
	for {
		at := m.seekFrom(offset)
		if at > offset {
			gap = GapExpired
		}
		limited := m.limitReplay()
		if limited != GapExpired {
			return cmp.Or(gap, limited)
		}
		offset, gap = at, GapExpired
	}
}

// seek moves the cursor to offset, and m's links, of which it returns the number. ok is false
// if the tail of one of m's topics does not hold every event after offset. floor is then the
// lowest offset after which, as far as seek has seen, all of them do; otherwise it is offset.
func (m *Member) seek(offset uint64) (floor uint64, links int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	floor = offset
	selected := m.latest != nil && m.latest.skipTo(offset, m.cursor.Load())
	w := m.wide
	if w != nil {
		w.dropUnread()
	}
	for _, l := range m.links {
		t := l.topic
		start := max(offset, m.sinceLocked(t))
		t.mu.Lock()
		if t.floor > start {
			floor = max(floor, t.floor)
		}
		next := t.after(start)
		if selected {
			next = max(next, l.next) // what is before is in the selection
		}
		l.next = next
		if w != nil {
			w.addHead(l.nextOffsetLocked(), l)
		}
		t.mu.Unlock()
	}
	m.cursor.Store(offset)
	return floor, len(m.links), floor == offset
}

// seekFrom moves the cursor to offset, or to the lowest later offset after which every
// topic's tail is complete. It returns where the cursor is.
//
// The floors may rise while it looks. With many topics, that may be so each time. So after it
// has looked twice, and at exactLinks links in all, it moves the cursor ahead of the floors, by
// as much as they rise while it looks twice. It may then skip events that the log still holds.
func (m *Member) seekFrom(offset uint64) uint64 {
	ahead := uint64(0)
	for looks := 1; ; looks++ {
		floor, links, ok := m.seek(offset)
		if ok {
			return offset
		}
		if looks > 2 && looks*links > exactLinks {
			ahead += 2 * (floor - offset)
		}
		offset = max(floor, min(floor+ahead, m.hub.head.Load()))
	}
}

// exactLinks is at how many links seekFrom looks before it gives up to find the lowest offset.
// That takes less than a millisecond.
const exactLinks = 4096

// seekLatest moves each of m's links to the newest event of its topic, so that this one is
// unsent, and the cursor to just before the oldest of those events. It returns where the
// cursor is; that is head if the topics have no events in the log.
func (m *Member) seekLatest(head uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	offset := head
	for _, l := range m.links {
		t := l.topic
		t.mu.Lock()
		l.next = t.end()
		if n := t.entries.len(); n > 0 {
			l.next--
			offset = min(offset, t.entries.at(n-1).offset-1)
		}
		t.mu.Unlock()
	}
	m.findUnread()
	m.cursor.Store(offset)
	return offset
}

// beforeOldest returns the offset just before the oldest event in the log, or the head if
// the log is empty.
func (h *Hub) beforeOldest() uint64 {
	if h.follower != nil {
		return h.follower.beforeFirst()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.log.entries.len() == 0 {
		return h.head.Load()
	}
	return h.log.entries.at(0).offset - 1
}

// resolveID returns the position of the event with id. With OwnIDs it looks for the event in
// m's topics. Otherwise the id is itself a position, which may be encrypted.
func (m *Member) resolveID(id string) (pos Position, known bool) {
	if m.hub.cfg.OwnIDs {
		offset, ok := m.findID(id)
		if !ok && id != "" {
			offset, ok = m.findInLog(id)
		}
		return m.hub.spans.position(offset), ok
	}
	pos, err := m.hub.ParseID(id)
	return pos, err == nil
}
