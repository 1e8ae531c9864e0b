package hub

// A member with several topics gets their events in the hub's order. Each topic's entries
// are in that order, so the reader merges them: it keeps the links with unread entries in a
// heap, by the offset of the entry to read next, and reads from the first link until
// another one is first. So it reads no more than it sends, and never looks at a topic that
// has nothing new.

// head is a link with unread entries, and the offset of the first of them. If the offset is
// not known it is lowest, and read corrects it.
type head struct {
	offset uint64
	l      *link
}

// heads is a heap of links with unread entries: hs[0] has the lowest offset.
type heads []head

// first returns the offset of the first entry to read, or none.
func (hs heads) first() uint64 {
	if len(hs) == 0 {
		return none
	}
	return hs[0].offset
}

const (
	lowest = 1         // of the offsets of entries
	none   = 1<<64 - 1 // the offset of an entry that does not exist
)

// push adds l, whose next entry has offset.
func (hs *heads) push(offset uint64, l *link) {
	*hs = append(*hs, head{offset, l})
	h := *hs
	i := len(h) - 1
	for i > 0 && h[(i-1)/2].offset > offset {
		h[i] = h[(i-1)/2]
		i = (i - 1) / 2
	}
	h[i] = head{offset, l}
}

// update puts the first link where it belongs, after offset, its next entry's, has changed.
// It removes the link if offset is none.
func (hs *heads) update(offset uint64) {
	h := *hs
	l := h[0].l
	if offset == none {
		l.unread = false
		last := len(h) - 1
		moved := h[last]
		h[last] = head{}
		*hs, h = h[:last], h[:last]
		if last == 0 {
			return
		}
		offset, l = moved.offset, moved.l
	}
	i := 0
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1].offset < h[c].offset {
			c++
		}
		if h[c].offset >= offset {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = head{offset, l}
}

// turn returns the offset up to which the first link is the one to read from, which is
// upTo or less. Holes of several topics may have the same offset, so it is at least the first
// link's own.
func (hs heads) turn(upTo uint64) uint64 {
	second := uint64(none)
	switch {
	case len(hs) > 2:
		second = min(hs[1].offset, hs[2].offset)
	case len(hs) == 2:
		second = hs[1].offset
	}
	return min(upTo, max(hs[0].offset, second-1))
}

// read appends to r.entries m's unread entries up to the offset upTo, in the hub's order,
// from the links in hs, and moves the links past them. It stops when there are batchEvents
// of them. Unless m has SlowLatest, it also stops before an entry that does not fit into
// r.frames together with the entries before it.
//
// full reports whether there is an entry that does not fit. lost reports whether read stopped
// at entries that have left the log. r.runs says, for SlowLatest, where the entries are.
func (r *reader) read(m *Member, hs *heads, upTo uint64) (full, lost bool) {
	clear(r.entries)
	clear(r.runs)
	r.entries, r.runs = r.entries[:0], r.runs[:0]
	size, some := r.frames.Len(), r.frames.Events > 0
	latest := m.slow == SlowLatest
	for hs.first() <= upTo && !full && !lost && len(r.entries) < batchEvents {
		l := (*hs)[0].l
		turn := hs.turn(upTo)
		t := l.topic
		t.mu.Lock()
		if l.dropped {
			t.mu.Unlock()
			hs.update(none)
			continue
		}
		if l.next < t.first {
			if !m.mayLose() || t.entries.len() == 0 {
				t.mu.Unlock()
				return false, true
			}
			l.next = t.first // a newer event of the topic replaces those that are lost
		}
		if m.mayLose() { // the newest event replaces the others, and nobody is asked
			if n := t.after(upTo); n > l.next {
				l.next = n - 1
			}
		}
		number, offset := l.next, uint64(none)
		for i := int(l.next - t.first); i < t.entries.len(); i++ {
			e := t.entries.at(i)
			offset = e.offset
			if offset > turn || len(r.entries) == batchEvents {
				break
			}
			if e.hole() != "" {
				lost = true
				break
			}
			size += len(e.frame)
			if size > batchSize && some && !latest {
				full = true
				break
			}
			some = true
			r.entries = append(r.entries, e.entry)
			l.next++
			offset = none
		}
		t.mu.Unlock()
		r.looked += 1 + l.next - number
		if latest {
			r.runs = append(r.runs, run{l, number, len(r.entries)})
		}
		hs.update(offset)
	}
	return full, lost
}

// run is what was read from one link at a time: entries[…:to] of the reader.
type run struct {
	l      *link
	number uint64 // of the first entry, in the topic
	to     int
}

// nextOffset returns the offset of the entry that l reads next; none if it has read all; or
// 0 if entries that it has not read have left the log. Only the claimant of l.m calls it.
func (l *link) nextOffset() uint64 {
	l.topic.mu.Lock()
	defer l.topic.mu.Unlock()
	return l.nextOffsetLocked()
}

// nextOffsetLocked is nextOffset with l.topic.mu held.
func (l *link) nextOffsetLocked() uint64 {
	t := l.topic
	switch {
	case l.dropped || l.next == t.end():
		return none
	case l.next < t.first:
		return lowest
	}
	return t.entries.at(int(l.next - t.first)).offset
}
