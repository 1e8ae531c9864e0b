package hub

// owner is a member as its session sees it. It implements engine.Owner.
type owner Member

// Ended ends the membership, when a detached session has ended with cause.
func (o *owner) Ended(cause error) { (*Member)(o).leave(cause) }

// Serializer implements engine.Owner.
func (o *owner) Serializer() any { return o.hub.cfg.Serializer }

// BeginHeartbeat appends the member's position, which is sent in place of a comment. It
// reports whether it has: not if the client knows the position, or if the member is
// claimed, since other bytes are then on their way, and not with Config.OwnIDs or NoIDOnly.
//
// The position moves on with the whole hub, not only with the member's topics. So a client
// of a quiet topic that reconnects after a long time is not behind the log.
//
// If ok, the caller has the claim until it calls EndHeartbeat. Nothing else is sent
// meanwhile, which could have an older or a newer id.
func (o *owner) BeginHeartbeat(dst []byte) (frame []byte, ok bool) {
	m := (*Member)(o)
	if !m.hub.sendsIDOnly() || !m.claim() {
		return dst, false
	}
	m.skipOtherTopics()
	cursor := m.cursor.Load()
	if cursor <= m.lastID.Load() {
		m.releaseOrDeliver()
		return dst, false
	}
	m.lastID.Store(cursor)
	return m.hub.appendPosition(dst, cursor), true
}

// EndHeartbeat implements engine.Owner: it releases the claim.
func (o *owner) EndHeartbeat() { (*Member)(o).releaseOrDeliver() }

// skipOtherTopics moves the cursor to the head, past the events of topics that m does not
// follow, unless m has unsent events. The caller has claimed m.
func (m *Member) skipOtherTopics() {
	head := m.hub.head.Load() // before the topics, which then hold everything up to it
	m.mu.Lock()
	if w := m.wide; w != nil {
		m.mu.Unlock()
		if !m.unsent(w, head) {
			m.cursor.Store(head)
		}
		return
	}
	defer m.mu.Unlock()
	for _, l := range m.links {
		l.topic.mu.Lock()
		due := l.next < l.topic.end()
		l.topic.mu.Unlock()
		if due {
			return // a delivery is going to send it
		}
	}
	m.cursor.Store(head)
}

// sendsIDOnly reports whether the hub sends events that have only an id.
func (h *Hub) sendsIDOnly() bool { return !h.cfg.OwnIDs && !h.cfg.NoIDOnly }

// appendPosition appends an event that has only an id, that of the position at offset.
func (h *Hub) appendPosition(dst []byte, offset uint64) []byte {
	dst = append(dst, "id: "...)
	dst = h.appendID(dst, h.spans.position(offset))
	return append(dst, "\n\n"...)
}
