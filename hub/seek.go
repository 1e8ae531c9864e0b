package hub

// To seek is to move a member's cursor to an offset, and its links to the first entries
// after it. The caller of each of these functions has claimed the member, except for
// beforeOldest and resolveID, which only look at the log.

// placeCursor moves the cursor to where the client is: after the event with id, or where
// start says if the client has no id. If it cannot, or not without a gap, it moves the
// cursor to where the stream can continue, and returns the gap. Otherwise it returns nil.
func (m *Member) placeCursor(id string, start Start) *Gap {
	h := m.hub
	head := h.head.Load()
	gap := Gap{LastEventID: id, Snapshot: m.snapshot != nil}
	pos, known := h.resolveID(id)
	switch {
	case id == "" && (start.kind != atPosition || m.snapshot != nil):
		m.seekStart(start, head)
		return nil
	case id == "":
		pos, gap.LastEventID = start.after, start.after.String()
	case !known:
		gap.Reason = GapMalformed
	}
	switch {
	case gap.Reason != "":
	case pos.Epoch != h.epoch:
		gap.Reason = GapEpoch
	case pos.Offset > head:
		gap.Reason = GapAhead
	default:
		if _, ok := m.seek(pos.Offset); ok {
			return nil
		}
		gap.Reason = GapExpired
		if m.snapshot == nil { // continue with what the log still holds
			gap.Position = Position{h.epoch, m.seekFrom(pos.Offset)}
			return &gap
		}
	}
	gap.Position = Position{h.epoch, m.seekStart(start, head)}
	return &gap
}

// seekStart moves the cursor to where start says, or to head if there is a snapshot, and
// returns that offset.
func (m *Member) seekStart(start Start, head uint64) uint64 {
	switch {
	case m.snapshot != nil:
	case start.kind == atBeginning:
		return m.seekFrom(m.hub.beforeOldest())
	case start.kind == atLatest:
		return m.seekLatest(head)
	case start.kind == atPosition && start.after.Epoch == m.hub.epoch && start.after.Offset < head:
		head = start.after.Offset
	}
	return m.seekFrom(head)
}

// seek moves the cursor to offset. ok is false if the tail of one of m's topics does not
// hold every event after it. floor is then the lowest offset after which, as far as seek
// has seen, all of them do; otherwise it is offset.
func (m *Member) seek(offset uint64) (floor uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	floor = offset
	selected := m.latest != nil && m.latest.skipTo(offset, m.cursor.Load())
	for _, l := range m.links {
		t := l.topic
		t.mu.Lock()
		floor = max(floor, t.floor)
		next := t.after(offset)
		if selected {
			next = max(next, l.next) // what is before is in the selection
		}
		l.next = next
		t.mu.Unlock()
	}
	m.findUnread()
	m.cursor.Store(offset)
	return floor, floor == offset
}

// seekFrom moves the cursor to offset, or to the lowest later offset after which every
// topic's tail is complete. It returns where the cursor is.
func (m *Member) seekFrom(offset uint64) uint64 {
	for { // the floors may rise meanwhile
		floor, ok := m.seek(offset)
		if ok {
			return offset
		}
		offset = floor
	}
}

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
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.log.entries.len() == 0 {
		return h.head.Load()
	}
	return h.log.entries.at(0).Position.Offset - 1
}

// resolveID returns the position that the event id stands for. An own id is known only
// while its event is in the log.
func (h *Hub) resolveID(id string) (pos Position, known bool) {
	h.mu.Lock()
	e, own := h.log.own[id]
	h.mu.Unlock()
	if own {
		return e.Position, true
	}
	pos, err := ParsePosition(id)
	return pos, err == nil
}
