package hub

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
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
//	nil           | is served                              | endShutdown, endKick, endLeft
//	endShutdown   | is sent what is unsent up to limit     | endShutdown with another limit,
//	              |                                        | endKick, endLeft
//	endKick       | likewise, and has departed             |
//	endLeft       | has left                               |
type ending struct {
	kind  endKind
	limit uint64 // offset of the last event that may be sent
	cause error

	hooks sync.WaitGroup // a kick's calls of OnLeave
}

type endKind uint8

const (
	endShutdown endKind = iota
	endKick
	endLeft
)

// ErrKicked is matched by the cause of a session's end after [Member.Kick] or [Hub.Kick].
// The session's end then has the reason [sse.EndKicked].
var ErrKicked = engine.ErrKicked

// Kick ends m's session, in whatever stage it is. When Kick returns, m is in no topic any
// longer. Nothing reaches the client that is published after that, nor anything that the
// application sends into the session: such sends fail with an error that matches
// [sse.ErrClosed], [ErrKicked] and cause. A Snapshot that is running fails at its next send.
//
// What was published before the call may still arrive. The client has a second for it, or
// [sse.Config].WriteTimeout if that is less. Then the session ends in an orderly way, or is
// cut off if the client has not taken everything. Kick does not wait for that, nor for
// OnLeave.
//
// The session ends as [sse.EndKicked], which is logged at level Debug. The cause of the end,
// which hooks and the log see, matches [ErrKicked] and cause;
// cause may be nil. The client may reconnect: the handler must refuse it then.
func (m *Member) Kick(cause error) { m.kick(cause, m.hub.head.Load()) }

// Kick ends the sessions of all members that follow topic, as [Member.Kick] does, also of
// those that have not joined it because their sessions are still opening. It returns their
// number.
//
// With Config.Log, Kick does the same in all hubs of the Log: it appends an order to the Log,
// and each hub ends the sessions that it had opened before it came to the order. No event
// after the order reaches them. Kick ends the sessions of its own hub at once, and returns
// when the hub has come to the order, so that a session that opens later stays. It returns
// the error if the order could not be appended; the sessions of other hubs then go on.
//
// To take a right away, revoke it first, and then kick. A session whose handler has asked for
// the right before that, and calls [Hub.Serve] only after Kick, is in no topic yet when Kick
// looks. So ask for the right directly before Serve, and again in Config.OnJoin, which can
// kick the member.
func (h *Hub) Kick(ctx context.Context, topic string, cause error) (n int, err error) {
	n = h.kickLocal(topic, cause, h.head.Load(), none)
	if h.follower == nil {
		return n, nil
	}
	order := Record{Kind: ControlRecord, Topic: topic}
	order.Event.Name = orderKick
	if cause != nil {
		order.Event.Data = cause.Error()
	}
	positions, err := h.follower.append(ctx, []Record{order})
	if err == nil {
		err = h.Wait(ctx, positions[0])
	}
	if err != nil {
		err = fmt.Errorf("hub: kick: %w", err)
	}
	return n, err
}

// kickLocal kicks the members of this hub that follow topic and were admitted when the head
// was before before. They may be sent events up to limit.
func (h *Hub) kickLocal(topic string, cause error, limit, before uint64) (n int) {
	for _, m := range h.followers(topic, false) {
		if m.admittedBefore(before) && m.kick(cause, limit) {
			n++
		}
	}
	return n
}

// kick is Kick, with the offset up to which m may be sent events. It reports whether it has
// kicked m: not if m has left, or was kicked before.
func (m *Member) kick(cause error, limit uint64) bool {
	e := &ending{kind: endKick, limit: limit, cause: &kickError{cause}}
	if err := context.Cause(m.server.Context()); err != nil {
		e.cause = err // the session has ended already, but m has not left yet
	}
	e.hooks.Add(1)
	for {
		old := m.ending.Load()
		if old != nil && old.kind != endShutdown {
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
		if old != nil && old.kind != endShutdown {
			return old.kind == endKick
		}
		if m.ending.CompareAndSwap(old, e) {
			if old == nil {
				m.cutOffIfStuck(cause)
			}
			m.deliverSoon()
			return true
		}
	}
}

// EndSoon implements engine.Owner.
func (o *owner) EndSoon(cause error) bool { return (*Member)(o).endSoon(cause) }

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
		if old != nil && old.kind != endShutdown {
			return old, nil
		}
		now = &ending{kind: endLeft, cause: cause}
		if m.ending.CompareAndSwap(old, now) {
			return now, old
		}
	}
}

// isKicked reports whether m was kicked.
func (m *Member) isKicked() bool {
	e := m.ending.Load()
	return e != nil && e.kind == endKick
}

// kickError reports that a session was kicked. cause may be nil.
type kickError struct{ cause error }

func (e *kickError) Error() string {
	if e.cause == nil {
		return ErrKicked.Error()
	}
	return ErrKicked.Error() + ": " + e.cause.Error()
}

func (e *kickError) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrKicked, sse.ErrClosed}
	}
	return []error{ErrKicked, sse.ErrClosed, e.cause}
}
