package hub

import (
	"errors"
	"slices"
)

// What has left a hub's tail is cold, not lost, as long as the Log has it. A member that needs
// it is caught up by pages that are read from the Log, in a goroutine of the member's, until
// the tail takes over. After an outage many clients come back to the same place at once. So
// pages are shared: each is read and encoded once for all members with the same topics, and
// kept for a moment.

// seekLog is seekReplay for a hub with a Log: what the tails do not hold is cold. A Log that
// has dropped it too is noticed when it is read.
func (m *Member) seekLog(offset uint64) (gap GapReason) {
	for {
		if _, _, ok := m.seek(offset); !ok {
			m.setCold(true)
			return ""
		}
		if limited := m.limitReplay(); limited != GapExpired { // what has left the tail meanwhile is cold
			return limited
		}
	}
}

// resumeAt moves the cursor to offset, or, if events after it are missing, to the lowest later
// offset after which none are.
func (m *Member) resumeAt(offset uint64) {
	if m.hub.follower == nil {
		m.seekFrom(offset)
		return
	}
	_, _, ok := m.seek(offset)
	m.setCold(!ok)
}

// nextHole returns the reason and the offset of the hole that m has come to; or "" if it has
// come to none, and events have left the tail. The caller has claimed m.
func (m *Member) nextHole() (reason GapReason, offset uint64) {
	if m.hub.follower == nil || m.logged.cold {
		return "", 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		t := l.topic
		t.mu.Lock()
		lost := l.next < t.first
		if !lost && l.next < t.end() && !l.dropped {
			if e := t.entries.at(int(l.next - t.first)); e.hole() != "" && (reason == "" || e.offset < offset) {
				reason, offset = e.hole(), e.offset
			}
		}
		t.mu.Unlock()
		if lost && !l.dropped {
			return "", 0
		}
	}
	return reason, offset
}

// catchUpCold sends m the events after its cursor that the tails do not hold, from the Log. It
// may tell the client of a gap. It waits for the client, and for the Log as long as the
// session lives. The caller has claimed m, and delivers afterwards.
func (m *Member) catchUpCold(r *reader) error {
	h := m.hub
	if r.opening != nil {
		if fits, err := m.coldFits(); err != nil || !fits {
			if err == nil {
				err = m.skipCold(r, GapReplay)
			}
			return err
		}
	}
	for {
		if m.isKicked() && m.cursor.Load() >= m.ending.Load().limit {
			m.setCold(false)
			return nil
		}
		m.rewindToLog()
		floor, _, ok := m.seek(m.cursor.Load())
		if ok {
			m.setCold(false)
			return nil
		}
		m.setCold(true)
		// m may follow another topic by now. It follows it from an offset on that is not
		// before floor, and the page is used only up to there.
		topics := m.sortedTopics()
		if len(topics) == 0 {
			continue // m has unsubscribed; without topics, Read would return those of all
		}
		p, err := h.follower.cold.read(m.server.Context(), topics, m.cursor.Load(), floor)
		if err != nil {
			truncated, ok := errors.AsType[*TruncatedError](err)
			switch {
			case ok && r.opening == nil && !m.logged.starting:
				return m.missTruncated(r, truncated.First)
			case ok:
				return m.resumeTruncated(r, truncated.First)
			case errors.Is(err, ErrEpoch):
				return m.skipCold(r, GapEpoch)
			}
			return err
		}
		if err := m.sendPage(r, p, topics, floor); err != nil {
			return err
		}
	}
}

// missTruncated does what m's SlowPolicy says when the Log has dropped events before they
// could be sent to m, whose session is open.
func (m *Member) missTruncated(r *reader, first uint64) error {
	storeMax(&m.hub.follower.first, first)
	switch m.slow {
	case SlowLatest:
		return m.resumeAfterGap(r, GapSlow, m.afterTruncation(first))
	case SlowSkip:
		return m.resumeAfterGap(r, GapSlow, m.hub.head.Load())
	}
	m.hub.stats.ended.Add(1)
	return &SlowError{}
}

// afterTruncation returns the offset where m can continue when first is the first record that
// the Log has. That is the head if the hub has not come to first yet: it will find a hole there.
func (m *Member) afterTruncation(first uint64) uint64 {
	start := m.hub.spans.last().offset(Position{Offset: max(1, first) - 1})
	return max(m.cursor.Load(), min(start, m.hub.head.Load()))
}

// resumeTruncated continues with the first record that the Log has.
func (m *Member) resumeTruncated(r *reader, first uint64) error {
	offset, cursor := m.afterTruncation(first), m.cursor.Load()
	storeMax(&m.hub.follower.first, first)
	if m.isNew() {
		m.resumeAt(offset)
		m.limitReplay()
		return nil
	}
	if _, _, ok := m.seek(offset); ok {
		m.setCold(false)
		m.limitReplay()
		offset = m.cursor.Load()
	}
	m.cursor.Store(cursor) // the client is told where it was
	return m.resumeAfterGap(r, GapExpired, offset)
}

// isNew reports whether the client came without a last event id, and has been sent none. It
// misses nothing.
func (m *Member) isNew() bool { return m.logged.noID && m.lastID.Load() == 0 }

// skipCold tells the client of a gap, and continues with what the tails hold.
func (m *Member) skipCold(r *reader, reason GapReason) error {
	m.setCold(false)
	if reason == GapEpoch {
		return m.resumeAfterGap(r, reason, m.hub.head.Load())
	}
	cursor := m.cursor.Load()
	m.seekFrom(cursor)
	m.limitReplay()
	if m.isNew() {
		return nil
	}
	offset := m.cursor.Swap(cursor) // the client is told where it was
	return m.resumeAfterGap(r, reason, offset)
}

// limitCold is limitReplay for a member that starts with cold events: if they are too many, it
// starts with what the tails hold. It is told of no gap, unless it has come with an id.
func (m *Member) limitCold() {
	if !m.isCold() {
		return
	}
	if fits, err := m.coldFits(); err == nil && !fits { // after an error, catchUpCold looks again
		m.setCold(false)
		m.seekFrom(m.cursor.Load())
	}
}

// coldFits reports whether all that m is to be sent, cold or not, is at most Config.MaxReplay.
func (m *Member) coldFits() (bool, error) {
	most := m.hub.cfg.MaxReplay
	if most == 0 || m.slow == SlowLatest || m.logged.measured {
		return true, nil
	}
	cursor, topics := m.cursor.Load(), m.sortedTopics()
	floor, _, _ := m.seek(cursor)
	sum := int64(0)
	m.mu.Lock()
	for _, l := range m.links {
		sum += l.unsentBytes(floor)
	}
	m.mu.Unlock()
	for at := cursor; at < floor && (sum <= most || at == cursor) && len(topics) > 0; {
		p, err := m.hub.follower.cold.read(m.server.Context(), topics, at, floor)
		if err != nil {
			if _, ok := errors.AsType[*TruncatedError](err); ok || errors.Is(err, ErrEpoch) {
				return true, nil // catchUpCold tells of it
			}
			return false, err
		}
		for _, e := range p.entries {
			if e.offset <= floor { // what is after it is counted already
				sum += int64(len(e.frame))
			}
		}
		at = p.upTo
	}
	m.logged.measured = sum <= most
	return sum <= most, nil
}

// sendPage sends those events of p up to the offset upTo that are for m, which follows topics,
// and moves the cursor to where it has come.
func (m *Member) sendPage(r *reader, p *page, topics []string, upTo uint64) error {
	r.cached = cache{}
	r.frames.Reset(keptSize)
	limit := min(upTo, p.upTo)
	if e := m.ending.Load(); e != nil && e.kind == endKick {
		limit = min(limit, e.limit)
	}
	entries, hole := m.selectFrom(p, topics, limit)
	for _, e := range entries {
		if r.frames.Events > 0 && r.frames.Len()+len(e.frame) > batchSize {
			if err := m.flushPage(r, m.last); err != nil {
				return err
			}
		}
		r.frames.Append(e.frame)
		m.last = e.offset
	}
	if hole != nil {
		if err := m.flushPage(r, hole.offset); err != nil {
			return err
		}
		return m.resumeAfterGap(r, hole.hole(), hole.offset)
	}
	return m.flushPage(r, limit)
}

// selectFrom returns the entries of p up to the offset limit that m is to be sent, and the
// hole that ends them, if there is one. With SlowLatest they are the newest with their keys.
func (m *Member) selectFrom(p *page, topics []string, limit uint64) (entries []*entry, hole *entry) {
	cursor, since := m.cursor.Load(), m.sinceByTopic()
	byKey := make(map[string]int)
	for _, e := range p.entries {
		if e.offset <= cursor || e.offset > limit || e.offset <= since[e.Topic] {
			continue
		}
		if _, ok := slices.BinarySearch(topics, e.Topic); !ok && e.Topic != "" {
			continue
		}
		if e.hole() != "" {
			hole = e
			break
		}
		if m.filter != nil && !m.filter(&e.Message) && !m.hub.isLast(e) {
			continue
		}
		if m.latest != nil {
			key := e.Topic
			if m.latest.key != nil {
				key = m.latest.key(&e.Message)
			}
			if i, ok := byKey[key]; ok {
				entries[i] = nil
			}
			byKey[key] = len(entries)
		}
		entries = append(entries, e)
	}
	return slices.DeleteFunc(entries, func(e *entry) bool { return e == nil }), hole
}

// flushPage writes the frames, and moves the cursor to offset.
func (m *Member) flushPage(r *reader, offset uint64) error {
	if r.frames.Events > 0 {
		pending, err := m.session.TryWrite(&r.frames)
		if err == nil && pending {
			err = m.session.Finish()
		}
		if err != nil {
			return err
		}
		m.shard.delivered.Add(uint64(r.frames.Events))
		m.lastID.Store(m.last)
		m.logged.old = false
		r.frames.Reset(keptSize)
	}
	m.cursor.Store(max(offset, m.cursor.Load()))
	return nil
}

// sortedTopics returns the names of m's topics.
func (m *Member) sortedTopics() []string {
	m.mu.Lock()
	names := make([]string, 0, len(m.links))
	for _, l := range m.links {
		names = append(names, l.topic.name)
	}
	m.mu.Unlock()
	slices.Sort(names)
	return names
}

// sinceByTopic returns from where on m follows those topics that it does not follow from the
// cursor on.
func (m *Member) sinceByTopic() map[string]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	since := make(map[string]uint64, len(m.logged.since))
	for t, offset := range m.logged.since {
		since[t.name] = offset
	}
	for t := range m.logged.starts { // rewindToLog comes first
		since[t.name] = none
	}
	return since
}
