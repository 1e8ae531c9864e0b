package hub

import (
	"cmp"
	"slices"
)

// A member with SlowLatest gets only the newest of its unsent events for each key. So the
// reader reads all of them and asks Filter and Key once for each. It keeps the selection, the
// events that are to be sent, until the client has taken them, which may need many writes.
// What is published meanwhile joins the selection, and replaces events with the same key.
//
// The selection consists of references into the topics' tails. It does not keep an event that
// has left the log, and it is no larger than the tails.

// latest is what a member with SlowLatest has in addition. It is the claimant's.
type latest struct {
	key func(*Message) string // nil: the topic
	selection
}

// selection is a list of events in the hub's order, each the newest with its key.
type selection struct {
	events []selected     // events[:first] have been taken; some others have been replaced
	first  int            // index of the first event
	byKey  map[string]int // index of the event with that key; nil before the first use

	newest    uint64 // the highest offset that was added
	unordered bool   // older events were added after newer ones, and sort is due
}

// selected is an event in a selection; or, if l is nil, one that was replaced.
type selected struct {
	l      *link
	number uint64 // in the topic
	offset uint64
	key    string
}

// add appends an event, which replaces an earlier one with the same key. An event of a topic
// that the member has followed later (SubscribeFrom) may be older than those that are there:
// sort must then be called.
func (s *selection) add(ev selected) {
	if i, ok := s.byKey[ev.key]; ok {
		if s.events[i].offset > ev.offset {
			return
		}
		s.events[i] = selected{}
	}
	s.unordered = s.unordered || ev.offset < s.newest
	s.newest = max(s.newest, ev.offset)
	if len(s.events) >= 2*len(s.byKey)+64 {
		s.compact()
	}
	s.byKey[ev.key] = len(s.events)
	s.events = append(s.events, ev)
}

// compact removes what has been taken or replaced.
func (s *selection) compact() {
	kept := s.events[:0]
	for _, ev := range s.events[s.first:] {
		if ev.l != nil {
			s.byKey[ev.key] = len(kept)
			kept = append(kept, ev)
		}
	}
	clear(s.events[len(kept):])
	s.events, s.first = kept, 0
}

// sort restores the hub's order.
func (s *selection) sort() {
	if !s.unordered {
		return
	}
	s.unordered = false
	s.compact()
	slices.SortFunc(s.events, func(a, b selected) int { return cmp.Compare(a.offset, b.offset) })
	for i, ev := range s.events {
		s.byKey[ev.key] = i
	}
}

// peek returns the first event, or nil.
func (s *selection) peek() *selected {
	for ; s.first < len(s.events); s.first++ {
		if ev := &s.events[s.first]; ev.l != nil {
			return ev
		}
	}
	return nil
}

// take removes the first event, which peek has returned.
func (s *selection) take() {
	delete(s.byKey, s.events[s.first].key)
	s.events[s.first] = selected{}
	s.first++
}

// skipTo removes the events up to offset, where the member's cursor is going to be. It
// removes all events if that is before cursor, where it has been, because the tails must then
// be read again. It reports whether there were events to keep.
func (s *selection) skipTo(offset, cursor uint64) bool {
	if offset < cursor || s.peek() == nil {
		*s = selection{}
		return false
	}
	for ev := s.peek(); ev != nil && ev.offset <= offset; ev = s.peek() {
		s.take()
	}
	return true
}

// load returns the entry of ev. It returns nil if none is to be sent any longer: the member
// has left the topic, or, if mayLose, a newer event of the topic replaces it. lost is true
// if the entry has left the log.
func (ev *selected) load(mayLose bool) (e *entry, lost bool) {
	t := ev.l.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case ev.l.dropped:
		return nil, false
	case ev.number < t.first:
		return nil, !mayLose || t.entries.len() == 0
	}
	return t.entries.at(int(ev.number - t.first)).entry, false
}

// mayLose reports whether the log may lose unsent events of m without a gap, if it holds a
// newer event of the topic.
func (m *Member) mayLose() bool {
	return m.latest != nil && m.latest.key == nil && m.filter == nil
}

// gatherLatest is gather for SlowLatest: it reads all unsent events up to upTo into the
// selection, and then puts events from there into r.frames.
func (r *reader) gatherLatest(m *Member, hs *heads, upTo uint64) (cut, last uint64, ok bool) {
	s := &m.latest.selection
	if s.byKey == nil {
		*s, r.spare = r.spare, selection{}
	}
	if s.byKey == nil {
		s.byKey = make(map[string]int)
	}
	for hs.first() <= upTo {
		_, lost := r.read(m, hs, upTo)
		r.selectLatest(m)
		if lost {
			s.sort()
			return 0, 0, false
		}
	}
	s.sort()
	for ev := s.peek(); ev != nil; ev = s.peek() {
		e, lost := ev.load(m.mayLose())
		if lost && r.frames.Events == 0 {
			return 0, 0, false
		}
		if lost || e != nil && r.frames.Events > 0 && r.frames.Len()+len(e.frame) > batchSize {
			return ev.offset - 1, last, true
		}
		if e != nil {
			r.frames.Append(e.frame)
			last = ev.offset
		}
		s.take()
	}
	if cap(s.events) <= 4*batchEvents { // otherwise too large to keep
		r.spare = selection{events: s.events[:0], byKey: s.byKey}
	}
	*s = selection{}
	return upTo, last, true
}

// selectLatest adds to m's selection those of r.entries that m's filter accepts. No lock is
// held, since it calls Filter and Key.
func (r *reader) selectLatest(m *Member) {
	i := 0
	for _, run := range r.runs {
		for number := run.number; i < run.to; i, number = i+1, number+1 {
			e := r.entries[i]
			if m.filter != nil && !m.filter(&e.Message) && !m.hub.isLast(e) {
				continue
			}
			key := e.Topic
			if m.latest.key != nil {
				key = m.latest.key(&e.Message)
			}
			m.latest.add(selected{run.l, number, e.offset, key})
		}
	}
}
