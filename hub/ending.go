package hub

import (
	"context"
	"sync"
	"time"
)

// An end in order: a kick or a shutdown does not end a session at once. It sets the member's
// ending. Every delivery that begins later stops at the ending's limit and then ends the
// session (deliver). A client that does not take its events in time is cut off by a timer.
//
// A kick does more before it returns: the session refuses the application's sends (Seal), and
// the member departs from its topics. Its links remain, so that the delivery can read what
// was published before.

// ending is an end that has been asked for, or, once the member has left, its cause. Its
// fields do not change. Only the claimant writes to the session, as ever.
//
//	Member.ending | the member                             | it becomes
//	--------------|----------------------------------------|--------------------------------
//	nil           | is served                              | any of these
//	endFinish     | likewise, and has only finished topics | endShutdown, endKick, endLeft
//	endShutdown   | is sent what is unsent up to limit     | endShutdown with another limit,
//	              |                                        | endKick, endLeft
//	endKick       | likewise, and has departed: a kick, or |
//	              | the session has expired                |
//	endLeft       | has left                               |
type ending struct {
	kind  endKind
	limit uint64 // offset of the last event that may be sent
	cause error

	hooks sync.WaitGroup // a kick's calls of OnLeave

	frame []byte // an event that a kick sends at the end, or nil
	told  bool   // the frame has been sent; the claimant's
}

type endKind uint8

const (
	endShutdown endKind = iota
	endFinish
	endKick
	endLeft
)

// kick is Kick, with the offset up to which m may be sent events, and what it is sent then. It
// reports whether it has kicked m: not if m has left, or was kicked before.
func (m *Member) kick(cause error, frame []byte, limit uint64) bool {
	return m.expel(&kickError{cause}, frame, limit)
}

// expel is kick for any end that takes effect at once: the session ends with cause.
func (m *Member) expel(cause error, frame []byte, limit uint64) bool {
	e := &ending{kind: endKick, limit: limit, cause: cause, frame: frame}
	if err := context.Cause(m.server.Context()); err != nil {
		e.cause = err // the session has ended already, but m has not left yet
	}
	e.hooks.Add(1)
	for {
		old := m.ending.Load()
		if old != nil && old.kind > endFinish {
			return false
		}
		if old != nil {
			e.limit = old.limit
		}
		if m.ending.CompareAndSwap(old, e) {
			break
		}
	}
	m.session.Seal(e.cause)
	if links := m.depart(); len(links) > 0 && m.hub.cfg.OnLeave != nil {
		go func() { // the caller may hold a lock that OnLeave takes
			defer e.hooks.Done()
			m.callOnLeave(links)
		}()
	} else {
		e.hooks.Done()
	}
	time.AfterFunc(m.session.Grace(), func() { m.cutOff(e.cause) })
	m.deliverSoon()
	return true
}

// endSoon ends m's session with cause after all that is unsent by now. If a client takes
// nothing for the grace period, it is cut off. endSoon reports false if m has left.
func (m *Member) endSoon(cause error) bool {
	e := &ending{kind: endShutdown, limit: m.hub.head.Load(), cause: cause}
	for {
		old := m.ending.Load()
		if old != nil && old.kind > endFinish {
			return old.kind == endKick
		}
		if m.ending.CompareAndSwap(old, e) {
			if old == nil || old.kind == endFinish {
				m.cutOffIfStuck(cause)
			}
			m.deliverSoon()
			return true
		}
	}
}

// EndSoon implements engine.Owner.
func (o *owner) EndSoon(cause error) bool { return (*Member)(o).endSoon(cause) }

// Expel implements engine.Owner. The session has expired, or its right was revoked.
func (o *owner) Expel(cause error) bool {
	m := (*Member)(o)
	return m.expel(cause, nil, m.hub.head.Load()) || m.isKicked()
}

// deliverSoon has m delivered to, by the claimant if there is one. Its ending is set, so that
// this delivery is the last.
func (m *Member) deliverSoon() {
	if m.claim() {
		go m.deliverAll(statusDone)
	}
}

// cutOffIfStuck cuts m off as soon as it has made no progress from one look to the next, a grace
// period later. It goes on looking when the hub has ended the session, since the farewell, or a
// send of the application's, may still be under way.
func (m *Member) cutOffIfStuck(cause error) {
	before := m.progress()
	time.AfterFunc(m.session.Grace(), func() {
		if m.progress() != before {
			m.cutOffIfStuck(cause)
			return
		}
		m.cutOff(cause)
	})
}

// progress is how far a member has come. It changes if the client takes anything, and also if
// the hub passes events that the client is not sent.
type progress struct{ cursor, taken uint64 }

func (m *Member) progress() progress { return progress{m.cursor.Load(), m.session.Progress()} }

// cutOff ends m's session now. A write that is under way fails, whether it is the hub's or the
// application's. If m has not been sent everything up to the limit of its ending, the client
// sees that the stream is not complete.
func (m *Member) cutOff(cause error) {
	if m.cursor.Load() < m.ending.Load().limit {
		m.session.CutShort()
	}
	m.session.End(cause)
	m.session.Interrupt()
}

// endLeaving makes the member's ending one that says that m has left, with cause, unless m
// was kicked. It returns the ending that m has now, and the shutdown that was to end it.
func (m *Member) endLeaving(cause error) (now, shutdown *ending) {
	for {
		old := m.ending.Load()
		if old != nil && old.kind > endFinish {
			return old, nil
		}
		now = &ending{kind: endLeft, cause: cause}
		if m.ending.CompareAndSwap(old, now) {
			return now, old
		}
	}
}

// isKicked reports whether m was kicked, or expelled for another reason.
func (m *Member) isKicked() bool {
	e := m.ending.Load()
	return e != nil && e.kind == endKick
}
