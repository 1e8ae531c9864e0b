package sse

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/chi-sse/sse/internal/engine"
)

// Sessions whose time is over. All sessions of a plugin that expire wait in one queue with one
// timer, Plugin.expiries. A session leaves the queue when it ends.

// usualRetry is the reconnection time of a route that has none, where clients must be told one.
const usualRetry = 3 * time.Second

// EndAt ends the session at t, or up to an eighth of a second later. Use it for a right that
// ends at a known time, such as that of a token. The session ends in order: a hub sends what was
// published before, for up to a second (or Config.WriteTimeout, if that is less), the client is
// told when to reconnect, and the response ends. Nothing that is sent or published after t
// reaches the client. The end has the reason [EndExpired], and its cause matches [ErrExpired]
// and cause, which may be nil.
//
// A later call replaces t and cause, also with a later time. The zero time removes them. If t
// has passed, the session ends at once. With [WithMaxAge], the session ends at the earlier of the
// two times. After the end of the session, EndAt has no effect. The time until t is measured when
// EndAt is called, so that later changes of the system's clock do not move it.
//
// The client is told to reconnect after the route's reconnection time (see [WithRetry]), plus up
// to half of it, so that clients that expire together do not return together. The next opening
// tells it the usual time again. Without a reconnection time of the route's, the client is told
// none.
//
// If t comes before the session is open, its sends fail, as after every end, and when the handler
// has returned, the client gets a stream without events. To refuse the client instead, compare t
// with the present time first, and return an [Error].
//
// Waiting takes no goroutine and no timer, and 9 bytes in addition to what cause takes.
func (s *ServerSession) EndAt(t time.Time, cause error) {
	if s.setEnd(t, cause) {
		s.expel(expired(cause))
	}
}

// setEnd is the part of EndAt under Plugin.mu. It reports whether t has passed.
func (s *ServerSession) setEnd(t time.Time, cause error) (passed bool) {
	p, now := s.route.plugin, sinceEpoch()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.sessions[s]; !ok {
		return false
	}
	x := s.extra
	aged := s.route.maxAge > 0
	if x == nil && (cause != nil || aged) {
		x = &extra{}
		s.extra = x
	}
	if aged && x.maxAge == 0 && s.alarm.Waits() { // for the max age
		x.maxAge = now + p.expiries.Left(s)
	}
	left := time.Until(t)
	switch {
	case !t.IsZero() && left <= 0:
		p.expiries.Remove(s)
		return true
	case aged && (t.IsZero() || x.maxAge-now <= left):
		left, cause = x.maxAge-now, nil
	case t.IsZero():
		cause = nil
	}
	if x != nil {
		x.cause = cause
	}
	if aged || !t.IsZero() {
		p.expiries.Set(s, left)
	} else {
		p.expiries.Remove(s)
	}
	return false
}

// WithMaxAge ends each session of the route when it has lived for d, or up to a fifth less. The
// age is drawn for each session, so that sessions that have opened together do not come back
// together. Use it behind a load balancer, so that clients spread over new servers, and to check
// from time to time who may connect. d must be positive. Default: no limit.
//
// The session ends as by [ServerSession.EndAt], with the reason [EndExpired] and the cause
// [ErrExpired]. A client that resumes with its last event id loses nothing.
//
// Clients are told a reconnection time at the opening, which is 3 seconds if neither Config.Retry
// nor [WithRetry] says another.
func WithMaxAge(d time.Duration) RouteOption {
	if d <= 0 {
		panic(fmt.Sprintf("sse: WithMaxAge(%v): the age must be positive; leave the option out for none", d))
	}
	return func(rt *route) { rt.maxAge = d }
}

// limitLife begins what may end s in time. p.mu is held.
func (p *Plugin) limitLife(s *ServerSession) {
	rt := s.route
	if d := rt.maxAge; d > 0 {
		p.expiries.Set(s, d-rand.N(d/5+1))
	}
	if c := rt.rechecks; c != nil {
		r := new(recheck)
		r.session.Store(s)
		if s.extra == nil {
			s.extra = &extra{}
		}
		s.extra.recheck = r
		p.rechecks.Of(c.every).Add(r, c.every)
	}
}

// expireDue ends the sessions whose time has come. It is what the timer of p.expiries calls.
func (p *Plugin) expireDue() {
	var batch [64]*ServerSession
	var owners [64]engine.Owner
	var causes [64]error
	for {
		p.mu.Lock()
		due := p.expiries.Due(batch[:])
		for i, s := range due {
			owners[i], causes[i] = s.owner, nil
			if s.extra != nil {
				causes[i] = s.extra.cause
			}
		}
		p.mu.Unlock()
		if len(due) == 0 {
			return
		}
		for i, s := range due {
			s.expelFrom(owners[i], expired(causes[i]))
		}
	}
}

// expel ends the session with cause, as a kick does: nothing that is sent or published from now
// on reaches the client.
func (s *ServerSession) expel(cause error) { s.expelFrom(s.ownerNow(), cause) }

// expelFrom is expel for a session that has the owner.
func (s *ServerSession) expelFrom(owner engine.Owner, cause error) {
	if owner == nil || !owner.Expel(cause) {
		s.endBounded(cause)
	}
}

// endBounded ends the session. It does not wait for a write that is under way, but bounds it.
func (s *ServerSession) endBounded(cause error) {
	s.end(cause)
	if s.mu.TryLock() {
		s.mu.Unlock()
		return
	}
	time.AfterFunc(min(shutdownGrace, s.route.writeTimeout), s.interruptWrite)
}

// ownerNow returns the session's hub, or nil.
func (s *ServerSession) ownerNow() engine.Owner {
	p := s.route.plugin
	p.mu.Lock()
	defer p.mu.Unlock()
	return s.owner
}

// farewellRetry returns the reconnection time that a client is told when its session has ended for
// the reason, or 0 for none.
func (rt *route) farewellRetry(reason EndReason) time.Duration {
	switch {
	case reason == EndShutdown:
		return rt.plugin.comeback(rt.retry)
	case reason == EndExpired && rt.retry != 0: // otherwise no opening would replace it
		retry := max(time.Millisecond, rt.retry)
		return retry + rand.N(retry/2)
	}
	return 0
}

// lifeError is the cause of the end of a session whose time is over, if the application has given
// a cause.
type lifeError struct {
	kind   error // ErrExpired or ErrRevoked
	reason EndReason
	cause  error
}

// expired returns the cause of an end by EndAt with cause.
func expired(cause error) error {
	if cause == nil {
		return ErrExpired
	}
	return &lifeError{ErrExpired, EndExpired, cause}
}

func (e *lifeError) Error() string   { return e.kind.Error() + ": " + e.cause.Error() }
func (e *lifeError) Unwrap() []error { return []error{e.kind, e.cause} }
