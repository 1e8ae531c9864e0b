package hub

import "fmt"

// SnapshotError reports that a Subscription's Snapshot has returned an invalid position:
// its epoch is not the hub's, or it is after the hub's newest event.
type SnapshotError struct{ Position Position }

func (e *SnapshotError) Error() string {
	return fmt.Sprintf("hub: Snapshot returned %v; it must return a position of this hub that is not after its newest event", e.Position)
}

// sendSnapshot calls Snapshot, which sends the state, and moves the cursor to the position
// that it returns. It then sends that position, so that the client can resume from there,
// unless the hub sends no ids alone. If the tails no longer hold everything after it, or that is
// more than a replay may be, it tells the client of the gap instead, and the stream
// continues later. The caller has claimed m, and delivers afterwards.
//
// If m is kicked meanwhile, it gets no position: the sends of Snapshot may have failed.
func (m *Member) sendSnapshot(r *reader) error {
	if m.isKicked() {
		return m.ending.Load().cause
	}
	pos, err := m.snapshot(m.server, m.position())
	if err != nil {
		return err
	}
	if m.isKicked() {
		return m.ending.Load().cause
	}
	if m.hub.follower != nil { // the state may be of another node, which is ahead of this one
		m.hub.follower.awaitAhead(m.server.Context(), pos)
	}
	span := m.hub.spans.last()
	if pos.Epoch != span.epoch || span.offset(pos) > m.hub.head.Load() {
		return &SnapshotError{pos}
	}
	if reason := m.seekReplay(span.offset(pos)); reason != "" { // the state was old
		return m.sendGap(r, Gap{Reason: reason, LastEventID: m.hub.ID(pos), Position: m.position()})
	}
	if m.logged != nil {
		m.logged.old = m.logged.cold
	}
	if err := m.resumeAtLast(); err != nil || !m.hub.sendsIDOnly() {
		return err
	}
	return m.sendPosition(r)
}
