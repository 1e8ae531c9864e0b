package hub

// expect sets where the session should start, and whether with a gap.
func (m *model) expect(s *modelSession, start Start) {
	evicted, head := m.before.evicted, s.wasHead
	id := s.id
	if id == "" && start.kind == atPosition && s.sub.Snapshot == nil {
		id = start.after.String()
		s.id = id
	}
	if id == "" {
		s.snapshot = s.sub.Snapshot != nil
		m.expectStart(s, start, evicted)
		return
	}
	var offset uint64
	pos, err := ParsePosition(id)
	switch {
	case err == nil && pos.Epoch != m.h.epoch:
		s.gap = GapEpoch
	case err == nil && pos.Offset > head:
		s.gap = GapAhead
	case err == nil:
		offset = pos.Offset
	default:
		if offset = m.offsetOf(id); offset <= evicted {
			s.gap = GapMalformed
		}
	}
	if s.gap != "" {
		s.mustGap, s.snapshot = true, s.sub.Snapshot != nil
		m.expectStart(s, start, evicted)
		return
	}
	s.follows(offset)
	s.vague, s.gap, s.mustGap = false, GapExpired, len(s.wanted(offset, evicted)) > 0
}

// expectStart is expect for a client without an id, or with one from which it cannot
// resume.
func (m *model) expectStart(s *modelSession, start Start, evicted uint64) {
	head := s.wasHead
	switch {
	case s.sub.Snapshot != nil:
		s.follows(head)
	case start.kind == atBeginning:
		s.follows(evicted)
	case start.kind == atLatest:
		s.follows(head)
		for t := range s.follow {
			for offset := head; offset > evicted; offset-- {
				if m.at(offset).topic == t {
					s.follow[t] = offset - 1
					s.pos = min(s.pos, offset-1)
					break
				}
			}
		}
		s.upTo = s.pos
	case start.kind == atPosition && start.after.Offset < head:
		s.follows(start.after.Offset)
	default:
		s.follows(head)
	}
}

// follows sets that s is sent the events after offset, of all its topics.
func (s *modelSession) follows(offset uint64) {
	for t := range s.follow {
		s.follow[t] = offset
	}
	s.pos, s.upTo = offset, offset
	clear(s.got)
}

// wants reports whether s should be sent the event at offset.
func (s *modelSession) wants(offset uint64) bool {
	e := s.model.at(offset)
	behind, ok := s.follow[e.topic]
	return ok && offset > behind && (s.client.filter == nil || s.client.filter(e))
}

// wanted returns the offsets in (from, to] of the events that s should be sent.
func (s *modelSession) wanted(from, to uint64) (offsets []uint64) {
	for offset := from + 1; offset <= to; offset++ {
		if s.wants(offset) {
			offsets = append(offsets, offset)
		}
	}
	return offsets
}

// mayHaveMissed reports whether the log has lost an event after from of a topic that s
// follows. With dropped it also reports whether such a topic may have been dropped, since
// the hub does not know what that one has lost.
func (s *modelSession) mayHaveMissed(from, evicted uint64, dropped bool) bool {
	for offset := from + 1; offset <= evicted; offset++ {
		if behind, ok := s.follow[s.model.at(offset).topic]; ok && offset > behind {
			return true
		}
	}
	if !dropped || from >= evicted {
		return false
	}
	for t := range s.follow {
		if s.model.dropped[t] > from {
			return true
		}
	}
	return false
}

func (s *modelSession) keyOf(e *modelEvent) string {
	if s.client.byKey {
		return e.topic + "/" + e.key
	}
	return e.topic
}
