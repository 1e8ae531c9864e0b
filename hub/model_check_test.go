package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/chi-sse/sse"
)

// check compares the hub with the model.
func (m *model) check() {
	m.t.Helper()
	m.copyEvents()
	m.mu.Lock()
	faults := m.faults
	m.mu.Unlock()
	if len(faults) > 0 {
		m.failf("%s", strings.Join(faults, "; "))
	}
	if got, want := m.h.Position(), (Position{m.h.spans.last().epoch, m.head()}); got != want {
		m.failf("the hub is at %v, want %v", got, want)
	}
	evicted := m.evicted()
	m.noteDropped(evicted)
	for _, s := range slices.Clone(m.sessions) {
		s.checkSent(evicted)
	}
	m.checkStats(evicted)
	requireConsistent(m)
}

// noteDropped notes which topics the hub may have dropped since the step began: those that
// had neither events nor followers at some time.
func (m *model) noteDropped(evicted uint64) {
	for _, t := range modelTopics {
		alive := false
		for offset := evicted + 1; offset <= m.before.head && !alive; offset++ {
			alive = m.at(offset).topic == t
		}
		for _, s := range m.sessions {
			_, follows := s.follow[t]
			alive = alive || follows && slices.Contains(m.before.follows[s], t) && !s.hasEnded()
		}
		if !alive {
			m.dropped[t] = m.head()
		}
	}
}

func (s *modelSession) failf(format string, args ...any) {
	s.model.t.Helper()
	s.model.failf("%s (follows %v, sent %d, at %d, checked up to %d of %d, %d evicted): %s", s, s.follow, s.sent, s.pos, s.upTo, s.model.head(), s.model.h.Stats().Evicted, fmt.Sprintf(format, args...))
}

// checkSent compares what s has been sent with what it should have been sent.
func (s *modelSession) checkSent(evicted uint64) {
	s.model.t.Helper()
	s.mu.Lock()
	items, ended, opened := s.items, s.ended, s.opened
	s.items = nil
	s.mu.Unlock()
	s.model.totals.Items += len(items)
	for _, item := range items {
		s.accept(item, evicted)
	}
	switch {
	case ended:
		s.checkEnd(evicted)
	case s.gate.Load() != nil:
	case s.isKicked():
		s.failf("has not ended although it was kicked")
	case !opened:
		s.failf("is not opened")
	case s.mustGap:
		s.failf("has a gap that it is not told of")
	case s.snapshot:
		s.failf("is not sent a snapshot")
	case s.vague && !s.begun && !s.model.ownIDs:
		s.failf("is not told where it starts")
	default:
		if s.vague && !s.begun { // it has started by now
			s.follows(s.model.head())
			s.vague = false
		}
		s.requireUpTo(s.model.head())
		if s.owed {
			s.failf("is not sent the snapshot that an earlier session promised")
		}
		if id, _ := s.w.lastID(s.lastEventID(), nil); id == "" && !s.model.ownIDs {
			s.failf("has no id from which to resume")
		}
		if s.model.beaten && s.sent < s.model.head() && !s.model.ownIDs {
			s.failf("is not sent the hub's position by its heartbeat")
		}
		if st := s.member.Load().state.Load(); st != stateIdle {
			s.failf("is in state %d", st)
		}
	}
}

// accept checks the next item, and moves what is expected past it.
func (s *modelSession) accept(item modelItem, evicted uint64) {
	s.model.t.Helper()
	if item.kind == modelIsGap {
		s.acceptGap(item, evicted)
		s.begun = true
		return
	}
	if s.mustGap {
		s.failf("is sent %+v instead of a gap", item)
	}
	if s.snapshot != (item.kind == modelIsSnapshot) {
		s.failf("is sent %+v, want a snapshot: %t", item, s.snapshot)
	}
	s.gap, s.old = "", false
	switch item.kind {
	case modelIsEvent:
		s.acceptEvent(item)
	case modelIsSnapshot:
		s.snapshot, s.vague = false, false
		s.follows(item.pos.Offset)
		s.sent, s.owed = s.pos, false
		s.old, s.gap, s.mustGap = true, GapExpired, len(s.wanted(s.pos, s.model.before.evicted)) > 0
		s.mustGap = s.mustGap || !s.begun && s.isOver(s.pos, s.wasHead)
		s.id = s.model.h.ID(item.pos)
	default:
		if s.model.ownIDs {
			s.failf("is sent an id of the hub's: %+v", item)
		}
		p, _ := s.model.h.ParseID(item.id)
		if p.Epoch != s.model.h.spans.last().epoch || p.Offset < s.sent || p.Offset > s.model.head() {
			s.failf("is sent the id %q", item.id)
		}
		if s.vague {
			s.follows(p.Offset)
			s.vague = false
		}
		s.requireUpTo(p.Offset)
		s.sent = p.Offset
	}
	s.begun = true
}

func (s *modelSession) acceptEvent(item modelItem) {
	s.model.t.Helper()
	offset, ok := s.model.ids[item.id]
	if !ok {
		s.failf("is sent %+v, which was not published", item)
	}
	e := s.model.at(offset)
	switch {
	case e.key != item.key || e.data != item.data:
		s.failf("is sent %+v, want %+v", item, e)
	case len(s.catchUp) > 0 && offset == s.catchUp[0]:
		s.catchUp, s.sent = s.catchUp[1:], offset
		return
	case offset <= s.pos:
		s.failf("is sent %d after %d", offset, s.pos)
	case s.isKicked() && offset > s.limit:
		s.failf("is sent %d, although it was kicked at %d", offset, s.limit)
	case !s.wants(offset):
		s.failf("is sent %d, which it should not be sent: %+v", offset, e)
	}
	if s.client.slow == SlowLatest {
		s.got[s.keyOf(e)] = offset
	} else if missing := s.wanted(s.pos, offset-1); len(missing) > 0 && !s.vague {
		s.failf("is sent %d, but not %d", offset, missing)
	}
	if s.vague {
		s.upTo, s.vague = offset-1, false
	}
	s.pos, s.sent = offset, offset
}

func (s *modelSession) acceptGap(item modelItem, evicted uint64) {
	s.model.t.Helper()
	m, head := s.model, s.model.head()
	var g Gap
	if err := json.Unmarshal([]byte(item.data), &g); err != nil {
		s.failf("is told of a gap %s: %v", item.data, err)
	}
	m.totals.Gaps[g.Reason]++
	to := g.Position.Offset
	if m.opaque {
		if !g.Position.IsZero() {
			s.failf("is told of a gap %s, with a position", item.data)
		}
		g.Position = item.pos
		if item.id != "" { // it says where the stream continues, while item.pos is where the member was a moment later
			var err error
			if g.Position, err = m.h.ParseID(item.id); err != nil {
				s.failf("is told of a gap with id %q: %v", item.id, err)
			}
		}
		to = g.Position.Offset
	}
	if m.ownIDs {
		if item.id != "" || !g.Position.IsZero() {
			s.failf("is told of a gap %s, with id %q", item.data, item.id)
		}
		to = item.pos.Offset
		g.Position, item.id = item.pos, m.idOf(item.pos)
		if g.Snapshot {
			item.id = ""
		}
		if g.Snapshot && s.old { // no position has told that the last snapshot was new
			s.old, s.gap, s.mustGap = false, "", false
		}
	}
	if g.Position.Epoch != m.h.spans.last().epoch || m.idOf(g.Position) != item.id && (item.id != "" || !g.Snapshot) || to > head {
		s.failf("is told of a gap up to %v, with id %s", g.Position, item.id)
	}
	if g.Snapshot != (s.client.snapshot && !s.old) {
		s.failf("is told of a gap %s", item.data)
	}
	if (item.id == "") != g.Snapshot {
		s.failf("is told of a gap with id %q: %s", item.id, item.data) // without the snapshot, the client must not resume after it
	}
	if item.id != "" {
		defer func() { s.sent = to }()
	}
	if again := g.Reason == GapExpired && !item.late && (s.gap == "" || g.LastEventID != s.id); again || g.Reason == GapSlow {
		s.acceptSlow(g, evicted, item.late)
		return
	}
	if g.Reason == GapMalformed && s.gap == GapExpired && m.ownIDs && m.find(s.id, s.follow, evicted) == 0 {
		s.gap = GapMalformed // the event with that id left the log just before the client connected
		s.follows(s.wasHead)
		s.vague = true
	}
	if g.Reason == GapReplay && s.gap == GapExpired && s.isOver(s.pos, head) && !s.mayHaveMissed(s.pos, m.before.evicted, false) {
		s.gap = GapReplay
	}
	if g.Reason != s.gap || g.LastEventID != s.id {
		s.failf("is told of a gap %s, want reason %q, id %q", item.data, s.gap, s.id)
	}
	header := cmp.Or(s.w.header.Get(GapHeader), s.server.Header().Get(GapHeader)) // the latter until the write that opens the session may pass
	if !s.old && header != string(g.Reason) {
		s.failf("has %s: %s, want %s", GapHeader, header, g.Reason)
	}
	switch {
	case g.Reason == GapExpired:
		if !s.mayHaveMissed(s.pos, evicted, true) {
			s.failf("is told of a gap %s, but nothing it could miss has left the log", item.data)
		}
		switch snapshot := s.client.snapshot && !s.old; {
		case snapshot && to < s.wasHead, !snapshot && (to <= s.pos || to > evicted && !s.isOver(to-1, head) || s.isOver(max(to, evicted), s.wasHead)): // what has left the log meanwhile does not count
			s.failf("is told of a gap %s up to %d, evicted %d, head %d, wasHead %d", item.data, to, evicted, head, s.wasHead)
		}
		s.follows(to)
	case g.Reason == GapReplay:
		switch snapshot := s.client.snapshot && !s.old; {
		case snapshot && to < s.wasHead, !snapshot && (to <= s.pos || !s.isOver(to-1, head) || s.isOver(max(to, evicted), s.wasHead)):
			s.failf("is told of a gap %s up to %d, evicted %d, head %d, wasHead %d", item.data, to, evicted, head, s.wasHead)
		}
		s.follows(to)
	case s.vague:
		if to < s.pos {
			s.failf("is told of a gap %s up to %d, evicted %d, head %d, wasHead %d", item.data, to, evicted, head, s.wasHead)
		}
		s.follows(to)
	case to < s.pos || to > max(s.pos, evicted) && !s.isOver(to-1, head): // or a later offset, up to which events have left the log
		s.failf("is told of a gap %s, want it up to %d", item.data, s.pos)
	case to > s.pos:
		s.follows(to)
	}
	s.snapshot = s.client.snapshot && !s.old
	s.gap, s.mustGap, s.vague, s.old = "", false, false, false
}

// acceptSlow checks a gap of a client that was too slow and is not cut off. While a session
// opens, none is cut off, whatever its SlowPolicy.
func (s *modelSession) acceptSlow(g Gap, evicted uint64, late bool) {
	s.model.t.Helper()
	to := g.Position.Offset
	switch {
	case late != (g.Reason == GapSlow), late && s.client.slow == SlowEnd, s.mustGap:
		s.failf("is told of the gap %+v", g)
	case !s.mayHaveMissed(max(s.pos, s.upTo), evicted, false):
		s.failf("is told of the gap %+v, but nothing it could miss has left the log", g)
	case (g.Snapshot || late && s.client.slow == SlowSkip) && to < s.model.before.head: // it continues with the present
		s.failf("is told of the gap %+v, want it up to %d", g, s.model.before.head)
	case to <= s.pos, !g.Snapshot && (!late || s.client.slow == SlowLatest) && to > evicted:
		s.failf("is told of the gap %+v", g)
	}
	if p, err := s.model.h.ParseID(g.LastEventID); s.model.ownIDs && g.LastEventID != "" && (late || g.LastEventID != s.came) || !s.model.ownIDs && (err != nil || p.Epoch != s.model.h.spans.last().epoch || p.Offset < s.sent || p.Offset >= to) {
		s.failf("is told of the gap %+v", g)
	}
	s.follows(to)
	s.snapshot, s.old = s.client.snapshot, false
	s.gap, s.mustGap, s.vague = "", false, false
}

// requireUpTo checks that s has been sent every event up to the offset to. Later events
// start after it.
func (s *modelSession) requireUpTo(to uint64) {
	s.model.t.Helper()
	if len(s.catchUp) > 0 {
		s.failf("is not sent the older events %d", s.catchUp)
	}
	if s.client.slow != SlowLatest {
		if missing := s.wanted(s.pos, to); len(missing) > 0 {
			s.failf("is not sent %d", missing)
		}
	} else {
		newest := make(map[string]uint64)
		for _, offset := range s.wanted(s.upTo, to) {
			newest[s.keyOf(s.model.at(offset))] = offset
		}
		for key, offset := range newest {
			if s.got[key] < offset {
				s.failf("is not sent %d, the latest of %s", offset, key)
			}
		}
	}
	s.pos, s.upTo = max(s.pos, to), max(s.upTo, to)
}

// checkEnd checks the end of a session, and removes it from the model.
func (s *modelSession) checkEnd(evicted uint64) {
	s.model.t.Helper()
	m, cause := s.model, context.Cause(s.server.Context())
	if s.opened && !s.detached && s.err != cause {
		s.failf("Serve returned %v, want %v", s.err, cause)
	}
	slow, isSlow := errors.AsType[*SlowError](cause)
	switch {
	case isSlow:
		missed := uint64(0)
		behind, follows := s.follow[slow.Topic]
		for offset := max(s.pos, s.upTo, behind) + 1; offset <= evicted; offset++ {
			if m.at(offset).topic == slow.Topic {
				missed++
			}
		}
		if s.client.slow != SlowEnd || !follows || slow.Missed == 0 || slow.Missed > missed {
			s.failf("has ended with %v, want %d missed", cause, missed)
		}
		m.totals.Slow++
	case m.closed && errors.Is(cause, sse.ErrShutdown):
		if s.gate.Load() == nil {
			s.requireUpTo(m.head())
		}
	case !s.mayEnd:
		s.failf("has ended: %v, %v", cause, s.err)
	}
	cut := s.inFlight
	if len(cut) > 0 { // how much of the last write the client has received: nothing, all or a part
		cut = cut[:[]int{0, len(cut), m.src.intn(len(cut) + 1)}[m.src.intn(3)]]
		m.totals.Cut++
	}
	c := s.client
	var owed bool
	c.seen, owed = s.w.lastID(s.lastEventID(), cut)
	c.session, c.blocked, c.owed = nil, false, nil
	if owed {
		c.owed = slices.Collect(maps.Keys(s.follow))
	}
	m.tracef("%s has ended (%v) and knows of %q", s, cause, c.seen)
	m.sessions = slices.DeleteFunc(m.sessions, func(o *modelSession) bool { return o == s })
	s.cancel()
}

// checkStats compares Stats, Count and Members with the model, while nothing happens.
func (m *model) checkStats(evicted uint64) {
	m.t.Helper()
	topics := make(map[string]bool)
	for offset := evicted + 1; offset <= m.head(); offset++ {
		topics[m.at(offset).topic] = true
	}
	present := make(map[string]int)
	for at := range m.present {
		present[at.topic]++
	}
	for _, s := range m.sessions {
		for t := range s.follow {
			topics[t] = true
			if at := (modelPresence{s.member.Load(), t}); !m.present[at] && s.isOpened() && !s.isKicked() {
				s.failf("has not joined %s", t)
			}
		}
	}
	st := m.h.Stats()
	if st.Topics != len(topics) || st.Members != len(m.sessions) || st.LogEvents != int(m.head()-evicted) || st.Published != m.head() {
		m.failf("the hub has %+v, want %d topics, %d members, %d of %d events", st, len(topics), len(m.sessions), m.head()-evicted, m.head())
	}
	for _, r := range gapReasons {
		if got := st.Gaps[r]; got < uint64(m.totals.Gaps[r]) {
			m.failf("the hub has told of %v gaps, want %v", st.Gaps, m.totals.Gaps)
		}
	}
	for _, t := range modelTopics {
		if got := m.h.Count(t); got != present[t] {
			m.failf("Count(%s) is %d, want %d", t, got, present[t])
		}
		if got := len(slices.Collect(m.h.Members(t))); got != present[t] {
			m.failf("%d Members(%s), want %d", got, t, present[t])
		}
	}
	for _, sh := range m.h.shards {
		if sh.worker != nil || sh.queue.len() > 0 {
			m.failf("a shard has a worker or a queue")
		}
	}
}

// requireConsistent asserts that the hub's log and topics agree, and that no pass is in
// progress.
func requireConsistent(m *model) {
	m.t.Helper()
	h := m.h
	h.mu.Lock()
	defer h.mu.Unlock()
	var size int64
	inTopics := 0
	for i := range h.log.entries.len() {
		e := h.log.entries.at(i)
		size += e.size()
		if h.topics[e.Topic] != e.topic {
			m.failf("entry %v is of a topic that has been dropped", e.Position)
		}
	}
	if size != h.log.size {
		m.failf("the log has the size %d, want %d", h.log.size, size)
	}
	if n := h.log.entries.len(); n > h.log.maxEvents || n > 1 && size > h.log.maxSize {
		m.failf("the log has %d events, %d bytes", n, size)
	}
	for _, t := range h.topics {
		inTopics += m.requireConsistentTopic(t)
	}
	if inTopics != h.log.entries.len() {
		m.failf("the topics have %d entries, the log %d", inTopics, h.log.entries.len())
	}
}

// requireConsistentTopic is requireConsistent for one topic, of which it returns the number
// of entries. Hub.mu is held.
func (m *model) requireConsistentTopic(t *topic) int {
	m.t.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	own, sum, evictedID := 0, int64(0), ""
	if offset := m.lastEvicted(t.name, m.h.log.evicted); offset > 0 {
		evictedID = m.at(offset).id
	}
	for i := range t.entries.len() {
		e := t.entries.at(i)
		sum += int64(len(e.frame))
		if e.Event.ID != "" {
			own++
		}
		if offset, ok := t.findID(e.Event.ID); ok != m.ownIDs || ok && offset != e.Position.Offset {
			m.failf("topic %s finds %q at %d, want %d", t.name, e.Event.ID, offset, e.Position.Offset)
		}
	}
	if own != len(t.own.offsets) || sum != t.bytesFrom(0) || m.ownIDs && t.own.evicted != evictedID {
		m.failf("topic %s has %d own ids, %d bytes, and has evicted %q, want %d, %d and %q", t.name, len(t.own.offsets), t.bytesFrom(0), t.own.evicted, own, sum, evictedID)
	}
	for _, p := range t.parts {
		if p.queued || p.visited != 0 {
			m.failf("topic %s has a pass in progress", t.name)
		}
		for i, l := range p.links {
			if int(l.i) != i || l.topic != t {
				m.failf("topic %s: link %d is at %d", t.name, l.i, i)
			}
		}
	}
	return t.entries.len()
}
