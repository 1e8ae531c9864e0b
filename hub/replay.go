package hub

import "sort"

// Config.MaxReplay bounds what a client is sent to catch up. Each entry has the sum of the
// frames of its topic so far, so the length of a replay is a difference for each topic.

// limitReplay moves the cursor, and the links, to the lowest offset after which m's unsent
// events are no more than Config.MaxReplay. It returns GapReplay if it has moved them. It returns
// GapExpired, and leaves them where they are, if so many unsent events have left the log while it
// looked that the others are not too many. Otherwise it returns "". The caller has claimed m.
func (m *Member) limitReplay() GapReason {
	most := m.hub.cfg.MaxReplay
	if most == 0 || m.isCold() || m.slow == SlowLatest { // SlowLatest sends only the newest event for each key
		return ""
	}
	from, head := m.cursor.Load(), m.hub.head.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	var unsent []*link
	sum := int64(0)
	for _, l := range m.links {
		if n := l.unsentBytes(from); n > 0 {
			sum, unsent = sum+n, append(unsent, l)
		}
	}
	if sum <= most || head <= from {
		return ""
	}
	offset := replayStart(unsent, from, most)
	if offset == from {
		return GapExpired
	}
	for _, l := range m.links { // also those whose unsent events have left the log: the gap covers them
		l.skipTo(offset)
	}
	m.findUnread()
	m.cursor.Store(offset)
	return GapReplay
}

// skipTo moves l past the entries up to offset. If later ones have left the log meanwhile, it
// leaves l where it is, so that the next reader notices that they are lost.
func (l *link) skipTo(offset uint64) {
	t := l.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.next >= t.first || t.floor <= offset {
		l.next = max(l.next, t.after(offset))
	}
}

// replayStart returns the lowest offset, from or higher, after which the unsent entries of links
// take no more than most bytes. It goes back from the newest entry, so it looks at no more
// entries than will be sent, and one. The m.mu of their member is held.
func replayStart(links []*link, from uint64, most int64) uint64 {
	var back heads // each offset is inverted, so that the newest entry is first
	for _, l := range links {
		if offset, _ := l.newest(from, none); offset > from {
			back.push(^offset, l)
		}
	}
	for len(back) > 0 {
		l := back[0].l
		offset, size := l.newest(from, ^back[0].offset)
		if most -= size; most < 0 {
			return offset
		}
		next := uint64(none)
		if before, _ := l.newest(from, offset-1); before > from {
			next = ^before
		}
		back.update(next)
	}
	return from
}

// newest returns the offset and the length of the frame of l's newest unsent entry after the
// offset from, up to the offset upTo. It returns from if there is none.
func (l *link) newest(from, upTo uint64) (offset uint64, size int64) {
	t := l.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.after(upTo)
	if n <= max(l.next, t.after(from)) {
		return from, 0
	}
	e := t.entries.at(int(n - 1 - t.first))
	return e.offset, int64(len(e.frame))
}

// fit returns the number of the first entry, from the one with the number n on, from which
// no more than most bytes of frames are left. mu is held.
func (t *topic) fit(n uint64, most int64) uint64 {
	return n + uint64(sort.Search(int(t.end()-n), func(i int) bool { return t.bytesFrom(n+uint64(i)) <= most }))
}

// unsentBytes returns the length of the frames that are unsent on l and after offset. l.m.mu
// is held.
func (l *link) unsentBytes(offset uint64) int64 {
	t := l.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytesFrom(max(l.next, t.after(offset)))
}
