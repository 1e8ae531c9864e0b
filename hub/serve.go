package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/lasteventid"
)

var errServed = errors.New("a hub already serves this session")

// Serve sends s the events of sub until the session ends. It starts after the client's last
// event id, which it takes from the Last-Event-ID header or from a query parameter such as
// lastEventId, which polyfills use. An id of more than 4 KiB is a gap ([GapMalformed]). Without an id it starts where sub.Start says. Nothing
// else should set event ids in the session; other sends do no harm. With Config.OwnIDs, a
// Snapshot may send the id of the newest event that it includes.
//
// Serve opens the session. It returns when the session has ended, with the cause of
// [sse.ServerSession.Context]. With Config.Detached it returns nil as soon as the session
// does not need it any longer. The handler should then return nil as well; whatever it
// would do at the end belongs in Config.OnLeave or sse.Config.OnClose.
//
// From the time when Serve is called, [Hub.Kick] ends the session, even if it is still
// opening. See there for how to revoke a right. Serve then returns the cause of the kick.
//
// If Serve returns an error before the session is open, the handler can still answer the
// request. That is so if sub is invalid or has more topics than Config.MaxTopics allows (a
// [*TooManyTopicsError]), or if Snapshot fails before it sends anything.
func (h *Hub) Serve(s *sse.ServerSession, sub Subscription) (err error) {
	if err := sub.check(); err != nil {
		return fmt.Errorf("hub: serve: %w", err)
	}
	m := newMember(h, engine.Of(s), sub)
	m.server = s
	if !m.session.Attach((*owner)(m)) {
		return fmt.Errorf("hub: serve: %w", errServed)
	}
	detached := false
	defer func() {
		if !detached {
			shutdown := m.leave(context.Cause(s.Context()))
			m.session.Release()
			if shutdown != nil {
				m.session.End(shutdown.cause)
			}
		}
	}()
	if err := h.admit(m, sub.Topics); err != nil {
		if errors.Is(err, sse.ErrShutdown) {
			m.session.End(err)
		}
		return fmt.Errorf("hub: serve: %w", err)
	}
	if sub.OnStart != nil {
		if err := sub.OnStart(s); err != nil {
			return err
		}
	}
	if sub.OnEnd != nil {
		var failed error
		defer func() {
			if err != nil { // then the session is not detached
				failed = err
			}
		}()
		m.session.AtEnd(func(cause error) { sub.OnEnd(cmp.Or(failed, cause)) })
	}
	if !sub.Until.IsZero() {
		s.EndAt(sub.Until, nil)
	}
	if h.cfg.Detached {
		m.session.WillDetach()
	}
	if err := m.open(lastEventID(s), sub.Start); err != nil {
		if m.isKicked() { // err may be a consequence
			m.session.End(m.ending.Load().cause)
			return context.Cause(s.Context())
		}
		return err
	}
	detached = h.cfg.Detached && m.session.Detach()
	m.joinTopics()
	m.releaseOrDeliver()
	if detached {
		return nil
	}
	m.session.Pack()
	<-s.Done()
	return context.Cause(s.Context())
}

// lastEventID returns the client's last event id, or "".
func lastEventID(s *sse.ServerSession) string {
	if id := s.LastEventID(); id != "" {
		return id
	}
	return lasteventid.FromQuery(s.Call().URL.RawQuery)
}

// opening is what a delivery must know while a session opens.
type opening struct{ id string } // the client's last event id, or ""

// open opens m's session. id is the client's last event id, or "". open places the cursor,
// tells the client of a gap, sends the snapshot, and delivers the unsent events. If none of
// that has sent an id to a client without one, it sends the cursor as an id, so that the
// client can resume whatever happens next; not so without sendsIDOnly. The caller has claimed m and
// keeps the claim.
func (m *Member) open(id string, start Start) error {
	if m.logged != nil {
		m.logged.noID = id == "" && (start.kind != atPosition || m.snapshot != nil)
	}
	gap := m.placeCursor(id, start)
	last, _, err := m.lastOffset()
	switch {
	case err != nil:
		return err
	case last > 0 && id != "" && gap == nil && m.cursor.Load() >= last:
		return m.refuseFinished()
	}
	if err := m.resumeAtLast(); err != nil {
		return err
	}
	if gap != nil {
		gap.Position = m.position()
	}
	r := readers.Get().(*reader)
	r.opening = &opening{id}
	defer func() {
		r.opening = nil
		readers.Put(r)
	}()
	if gap != nil {
		m.server.Header().Set(GapHeader, string(gap.Reason))
		if err := m.sendGap(r, *gap); err != nil {
			return err
		}
	}
	snapshot := m.snapshot != nil && (id == "" || gap != nil)
	if snapshot {
		if err := m.sendSnapshot(r); err != nil {
			return err
		}
	}
	for {
		switch m.deliver(m.hub.head.Load(), r) {
		case statusGap: // the log has lost events since the cursor was placed
			if m.isKicked() {
				m.session.CutShort() // it may have been sent a part
				return m.ending.Load().cause
			}
			if err := m.resumeOpening(r); err != nil {
				return err
			}
		case statusPending: // the session has its own socket already
			if m.session.Finish() != nil {
				return context.Cause(m.server.Context())
			}
			m.commitWrite()
		case statusEnded:
			return context.Cause(m.server.Context())
		default:
			if id == "" && gap == nil && !snapshot && m.lastID.Load() == 0 && m.hub.sendsIDOnly() {
				return m.sendPosition(r)
			}
			err := m.server.Open() // has no effect if something was sent, and fails after a kick
			if err != nil && m.isKicked() {
				continue // with what was published before it
			}
			return err
		}
	}
}

// resumeOpening does what must be done, while the session opens, when a delivery has returned
// statusGap.
func (m *Member) resumeOpening(r *reader) error {
	reason, offset := m.nextHole()
	switch {
	case reason == "" && m.hub.follower != nil:
		var err error
		if p := catch(func() { err = m.catchUpCold(r) }); p != nil { // from a Filter
			m.session.End(p)
			return context.Cause(m.server.Context())
		}
		return err
	case reason == "": // the log has lost events since the cursor was placed
		reason, offset = GapExpired, m.cursor.Load()
	}
	return m.resumeAfterGap(r, reason, offset)
}
