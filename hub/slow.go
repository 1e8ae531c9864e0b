package hub

import (
	"fmt"

	"github.com/chi-sse/sse"
)

// SlowPolicy says what the hub does with a slow client: one that falls so far behind that
// the log loses events before they could be sent to it.
type SlowPolicy uint8

const (
	// SlowEnd ends the session, with a [*SlowError] as the cause. The client reconnects,
	// and continues with what the log holds then.
	SlowEnd SlowPolicy = iota

	// SlowSkip tells the client of the gap, sends the Snapshot if there is one, and
	// continues with the events that are published from then on.
	SlowSkip

	// SlowLatest sends, of the events that a client has not been sent yet, only the newest
	// one for each Key, so that a client that has fallen behind catches up. If the log
	// loses such events all the same, the client is told of the gap; but with neither a Key
	// nor a Filter it is told only if the topic has no event left in the log.
	SlowLatest
)

// SlowError reports that a session has ended because its client was too slow, under
// [SlowEnd]. It matches sse.ErrSlow.
type SlowError struct {
	Topic  string // the topic that lost events; "" with Config.Log, where that is not known
	Missed uint64 // how many of its events left the log before they could be sent; 0 if not known
}

func (e *SlowError) Error() string {
	if e.Topic == "" {
		return "hub: events left the log before they could be sent"
	}
	return fmt.Sprintf("hub: %d events of topic %q left the log before they could be sent", e.Missed, e.Topic)
}

// Unwrap returns sse.ErrSlow.
func (e *SlowError) Unwrap() error { return sse.ErrSlow }

// applySlowPolicy does what m's SlowPolicy says, after a delivery has returned statusGap.
// It returns statusDone if m can be delivered to again, or statusEnded. The caller has
// claimed m. It may wait for the client.
func (m *Member) applySlowPolicy(r *reader) status {
	if m.isKicked() { // it may miss what it has not been sent yet
		m.session.CutShort()
		m.session.End(m.ending.Load().cause)
		return statusEnded
	}
	h := m.hub
	var err error
	switch reason, offset := m.nextHole(); {
	case reason != "":
		err = m.resumeAfterGap(r, reason, offset)
	case h.follower != nil:
		err = m.catchUpCold(r)
	case m.slow == SlowLatest:
		err = m.resumeAfterGap(r, GapSlow, h.beforeOldest())
	case m.slow == SlowSkip:
		err = m.resumeAfterGap(r, GapSlow, h.head.Load())
	default:
		h.stats.ended.Add(1)
		err = m.slowError()
	}
	if err != nil {
		m.session.End(err) // has no effect if a failed write has ended it
		return statusEnded
	}
	return statusDone
}

// slowError returns the error for the first topic that has lost unsent events of m.
func (m *Member) slowError() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		l.topic.mu.Lock()
		missed := l.topic.first - min(l.next, l.topic.first)
		l.topic.mu.Unlock()
		if missed > 0 {
			return &SlowError{Topic: l.topic.name, Missed: missed}
		}
	}
	return sse.ErrSlow // m has just unsubscribed from that topic
}
