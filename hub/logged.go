package hub

import "maps"

// With a Log, a member may be where only the Log has the events, and its topics may start at
// different offsets.

// logged is what a member of a hub with a Log has in addition. The claimant uses it, except as
// the fields say.
type logged struct {
	admitted uint64 // Hub.head when the member was admitted; it does not change
	measured bool   // what is to be read from the Log is no more than a replay may be
	cold     bool   // the tails do not hold every event after the cursor, but the Log does
	noID     bool   // the client came without a last event id
	old      bool   // the cursor is where an old snapshot was taken

	// since has, for topics that the member does not follow from the cursor on, the offset
	// after which it does. starts has those of them that start before the cursor, until the
	// claimant takes note of it in behind. Member.mu guards since and starts.
	since, starts map[*topic]uint64
	behind        map[*topic]uint64 // topics that start before the cursor
	starting      bool              // the member is being sent what such topics start with, from the Log
}

// isCold reports whether the tails do not hold every event after the cursor, but the Log does.
func (m *Member) isCold() bool { return m.logged != nil && m.logged.cold }

func (m *Member) setCold(cold bool) {
	m.logged.cold = cold
	m.logged.starting = m.logged.starting && cold
}

// admittedBefore reports whether m was admitted before the head was at offset. In a hub without
// a Log nobody asks for a limit.
func (m *Member) admittedBefore(offset uint64) bool {
	return m.logged == nil || m.logged.admitted < offset
}

// sinceLocked returns the offset after which m follows t, if that is not the cursor, or 0. mu is
// held.
func (m *Member) sinceLocked(t *topic) uint64 {
	if m.logged == nil {
		return 0
	}
	return m.logged.since[t]
}

// startLocked says that m follows t, to which it has no link yet, after offset. With older, there
// may be events of t before the cursor. mu is held.
func (m *Member) startLocked(t *topic, offset uint64, older bool) {
	g := m.logged
	if g.since == nil {
		g.since, g.starts = make(map[*topic]uint64), make(map[*topic]uint64)
	}
	g.since[t] = offset
	if older {
		g.starts[t] = offset
	}
}

// takeStartsLocked is for the claimant that has found m.rewound. mu is held.
func (g *logged) takeStartsLocked() {
	if len(g.starts) == 0 {
		return
	}
	if g.behind == nil {
		g.behind = make(map[*topic]uint64)
	}
	maps.Copy(g.behind, g.starts)
	clear(g.starts)
}

// rewindToLog moves the cursor back to where topics start that m has begun to follow, if the
// tails do not hold everything from there on. All topics continue where they are. The caller
// has claimed m.
func (m *Member) rewindToLog() {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.logged
	g.takeStartsLocked()
	if len(g.behind) == 0 {
		return
	}
	cursor := m.cursor.Load()
	from := cursor
	for _, l := range m.links {
		upTo, lost := cursor, true // of all links, as long as m reads from the Log
		if !g.cold {
			upTo, lost = l.readUpTo(cursor)
		}
		if start, ok := g.behind[l.topic]; ok && lost {
			upTo = start
		}
		g.since[l.topic] = max(g.since[l.topic], upTo)
		from = min(from, g.since[l.topic])
	}
	g.behind, g.starting = nil, true
	if m.hub.sendsIDOnly() {
		m.catchUp = max(m.catchUp, cursor)
	}
	m.cursor.Store(from)
}

// readUpTo returns the offset up to which l has read everything. If what it has not read has left
// the tail, it returns lost, and cursor, which is its member's. Only the claimant of l.m calls
// it.
func (l *link) readUpTo(cursor uint64) (offset uint64, lost bool) {
	t := l.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case l.dropped || l.next == t.end():
		return max(cursor, t.last.Load()), false
	case l.next < t.first:
		return cursor, true
	}
	return t.entries.at(int(l.next-t.first)).offset - 1, false
}
