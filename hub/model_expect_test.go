package hub

// expect sets where the session should start, and whether with a gap.
func (m *model) expect(s *modelSession, start Start) {
	evicted, head := m.before.evicted, s.wasHead
	pos, err := m.h.ParseID(s.id)
	switch {
	case s.id == "" && (start.kind != atPosition || s.sub.Snapshot != nil):
		s.snapshot = s.sub.Snapshot != nil
		m.expectStart(s, start, evicted)
		return
	case s.id == "":
		pos, err, s.id = start.after, nil, m.h.ID(start.after)
	case m.ownIDs:
		pos = Position{m.h.spans.last().epoch, m.find(s.id, s.follow, evicted)}
		if err = nil; pos.Offset == 0 {
			s.gap = GapMalformed
		}
	}
	offset := pos.Offset
	switch {
	case s.gap != "":
	case err != nil:
		s.gap = GapMalformed
	case pos.Epoch != m.h.spans.last().epoch:
		s.gap = GapEpoch
	case offset > head:
		s.gap = GapAhead
	}
	if s.gap != "" {
		s.mustGap, s.snapshot = true, s.sub.Snapshot != nil
		m.expectStart(s, start, evicted)
		return
	}
	s.follows(offset)
	s.vague, s.gap, s.mustGap = false, GapExpired, len(s.wanted(offset, evicted)) > 0 || s.isOver(offset, m.before.head) // the events of this step may be published later
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
	if s.isOver(s.pos, head) {
		s.pos = m.fits(s.follow, s.pos, head)
		for t, behind := range s.follow {
			s.follow[t] = max(behind, s.pos)
		}
		s.upTo = s.pos
	}
}

// fits returns the lowest offset, not before from, after which the events up to the offset
// to are no more than one replay may be.
func (m *model) fits(follow map[string]uint64, from, to uint64) uint64 {
	sum := int64(0)
	for offset := to; offset > from; offset-- {
		if behind, ok := follow[m.at(offset).topic]; ok && offset > behind {
			sum += m.at(offset).size
		}
		if sum > m.maxReplay {
			return offset
		}
	}
	return from
}

// bytes returns the size of the events in (from, to] that are after follow's offset for
// their topic.
func (m *model) bytes(follow map[string]uint64, from, to uint64) (sum int64) {
	for offset := from + 1; offset <= to; offset++ {
		if behind, ok := follow[m.at(offset).topic]; ok && offset > behind {
			sum += m.at(offset).size
		}
	}
	return sum
}

// isOver reports whether the events of s in (from, to] are more than one replay may be.
func (s *modelSession) isOver(from, to uint64) bool {
	return s.model.maxReplay > 0 && s.client.slow != SlowLatest && s.model.bytes(s.follow, from, to) > s.model.maxReplay
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
