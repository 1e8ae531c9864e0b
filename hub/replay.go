package hub

import "sort"

// Config.MaxReplay bounds what a client is sent to catch up. Each entry has the sum of the
// frames of its topic so far, so the length of a replay is a difference for each topic.

// limitReplay moves the cursor, and the links, to the lowest offset after which m's unsent
// events are no more than Config.MaxReplay. It reports whether it has moved them. The caller
// has claimed m.
func (m *Member) limitReplay() bool {
	most := m.hub.cfg.MaxReplay
	if most == 0 || m.slow == SlowLatest { // SlowLatest sends only the newest event for each key
		return false
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
		return false
	}
	offset := from + uint64(sort.Search(int(head-from), func(i int) bool {
		sum := int64(0)
		for _, l := range unsent {
			sum += l.unsentBytes(from + uint64(i))
		}
		return sum <= most
	}))
	for _, l := range unsent {
		l.topic.mu.Lock()
		l.next = max(l.next, l.topic.after(offset))
		l.topic.mu.Unlock()
	}
	m.findUnread()
	m.cursor.Store(offset)
	return true
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
