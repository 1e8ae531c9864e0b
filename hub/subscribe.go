package hub

import (
	"fmt"
	"slices"
)

// A topic that a member begins to follow later may have older events for it than the
// member's cursor (SubscribeFrom). They are sent before anything newer:
//
//   - link puts the new link's next entry where the topic starts, and sets Member.rewound,
//     since only a claimant may store the cursor. It gives news to a wide member.
//   - The next claimant that gathers looks at every topic, or takes the news, and moves the
//     cursor back to before the oldest entry (rewind). So the heap has the new link first.
//     The other links stay where they are, so nothing is sent twice.
//   - The older events have their own ids, so the client's last event id goes back. When the
//     cursor is where it was (Member.catchUp), the claimant sends the position, so that the
//     client's last event id is up to date again (endCatchUp). With OwnIDs it cannot. If the
//     older events of an only topic happen to be in the frames already, gather sends those,
//     and the position comes later, at the latest with the heartbeat.

// Subscribe makes m follow more topics, from the next event on. Topics that it follows
// already stay as they are. When the client reconnects, it follows the topics of the
// Subscription that Serve is given then, and only those resume after its last event id.
//
// Subscribe returns an error if a topic is empty, and m then follows none of the topics. It
// returns a *TooManyTopicsError when m already follows as many topics as Config.MaxTopics
// allows, and m then follows the topics before the one for which that was so. After the end
// of the session it returns an error that matches sse.ErrClosed.
func (m *Member) Subscribe(topics ...string) error { return m.SubscribeFrom(Now, topics...) }

// SubscribeFrom is [Member.Subscribe], but each topic starts where start says: with
// Beginning, Latest or After, its events from there on are sent before anything newer.
//
// Each of these events moves the client's last event id back to its position, and then an id
// alone moves it to the newest position. A client that loses the connection in between, and
// reconnects, gets the events of its other topics after that position a second time; none is
// lost. A client that loses the connection before it has received the first of these events
// does not get them when it reconnects. With Config.OwnIDs, only the next event moves the
// last event id forward again.
//
// SubscribeFrom returns the errors of Subscribe, and a [*GapError] if a topic's log does not
// hold every event after the position of After, or if that is more than Config.MaxReplay.
// Topics before that one are followed then.
//
// With Config.Log, Beginning and After also send events that the hub no longer has in memory.
// If Config.MaxReplay is set, they do not, since the hub does not know how many there are.
// Latest only looks in memory.
func (m *Member) SubscribeFrom(start Start, topics ...string) (err error) {
	if slices.Contains(topics, "") {
		return fmt.Errorf("hub: subscribe: %w", errTopic)
	}
	links := make([]*link, 0, len(topics))
	if err = m.follow(topics, start, &links); err != nil {
		err = fmt.Errorf("hub: subscribe: %w", err)
	}
	m.endIfFinished()
	older := start != Now || m.hub.lastFinish.Load() > 0 // there may be events to be sent
	if older && m.claim() {                              // otherwise the claimant looks again
		go m.deliverAll(statusDone)
	}
	for _, l := range links {
		m.join(l)
	}
	return err
}

// GapError reports that [Member.SubscribeFrom] has not made a member follow a topic, because
// the topic cannot start after the position without a gap.
type GapError struct {
	Topic  string
	After  Position
	Reason GapReason // GapExpired, GapEpoch, GapAhead or GapReplay
}

func (e *GapError) Error() string {
	return fmt.Sprintf("topic %q cannot start after %v: the gap has the reason %q; start it elsewhere, with Now, Latest or Beginning", e.Topic, e.After, e.Reason)
}

// startOf returns the number of the entry with which t starts for m, or a *GapError. If
// there may be one already, it sets m.rewound. With a Log, the number may be 0, which no entry
// has: t then starts with events that have left the tail. Both m.mu and t.mu are held.
func (m *Member) startOf(t *topic, start Start) (next uint64, err error) {
	h := m.hub
	span, head := h.spans.last(), h.head.Load()
	bounded := h.cfg.MaxReplay > 0 && m.slow != SlowLatest
	oldest := t.floor // the lowest offset after which t can start
	if h.follower != nil && !bounded {
		oldest = min(oldest, h.follower.beforeFirst())
	}
	offset := head
	switch n := t.entries.len(); start.kind {
	case atOpen:
		return t.end(), nil
	case atBeginning:
		offset = oldest
	case atLatest:
		if n > 0 {
			offset = t.entries.at(n-1).offset - 1
		}
	case atPosition:
		offset = span.offset(start.after)
	default:
		if fin := t.fin.Load(); fin != nil {
			offset = fin.before()
		}
	}
	from := t.after(offset)
	next = from
	if bounded {
		next = t.fit(from, h.cfg.MaxReplay)
	}
	if start.kind == atPosition {
		gap := GapError{Topic: t.name, After: start.after}
		switch {
		case start.after.Epoch != span.epoch:
			gap.Reason = GapEpoch
		case offset > head:
			gap.Reason = GapAhead
		case offset < oldest && h.follower != nil && offset >= h.follower.beforeFirst():
			gap.Reason = GapReplay // what has left the tail is not measured
		case offset < oldest:
			gap.Reason = GapExpired
		case from < next:
			gap.Reason = GapReplay
		}
		if gap.Reason != "" {
			return 0, &gap
		}
	}
	if from < next {
		offset = t.entries.at(int(next - 1 - t.first)).offset
	}
	if offset < t.floor {
		next = 0
	}
	older := next < t.end()
	m.rewound = m.rewound || older
	if m.logged != nil {
		m.startLocked(t, offset, older)
	}
	return next, nil
}

// rewind moves m's cursor back to before the oldest unread entry, the first in hs, if it is
// not there. upTo is up to where the caller is going to read. It leaves the cursor if that
// entry has left the log: there is a gap, after which the stream continues at the cursor. The
// caller has claimed m and delivers.
func (m *Member) rewind(hs heads, upTo uint64) {
	cursor := m.cursor.Load()
	if m.hub.sendsIDOnly() {
		m.catchUp = max(cursor, upTo)
	}
	if len(hs) == 0 || hs[0].l.lost() {
		return
	}
	m.cursor.Store(min(cursor, hs.first()-1))
	if m.logged != nil {
		m.logged.behind = nil // nothing of these topics has left the tail
	}
}

// lost reports whether entries that l has not read have left the log. Only the claimant of
// l.m calls it.
func (l *link) lost() bool {
	l.topic.mu.Lock()
	defer l.topic.mu.Unlock()
	return l.next < l.topic.first
}

// endCatchUp appends the position at cut to the frames, which hold everything up to there,
// and returns cut, which is then the last id in the frames.
func (r *reader) endCatchUp(m *Member, cut uint64) uint64 {
	m.catchUp = 0
	r.frames.Append(m.hub.appendPosition(nil, cut))
	return cut
}
