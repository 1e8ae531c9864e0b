package sse

import (
	"context"
	"errors"
	"fmt"

	"github.com/chi-sse/sse/internal/socket"
)

// What the guard called may return while a session's handler is still running: a middleware may
// run the rest of the chain in a goroutine, and return without it after a while. net/http then
// ends the response, and its writer must not be used any longer; that of HTTP/2 panics. So the
// guard ends the session, and lets nothing pass.
//
// The session's wire may be behind any writer. So all that a session does with net/http's own
// writer happens between guard.enter and guard.leave, or with httpWire.mu held.

// begin makes x the wire of the session whose handler is running. It reports false if what the
// guard called has returned.
func (g *guard) begin(x *httpWire) bool {
	if g == nil {
		return true
	}
	g.wire.Store(x)
	return !g.over.Load() // otherwise close may not have seen x
}

// finish says that the handler of the session has returned, and that the session does not use
// the writer any longer.
func (g *guard) finish() {
	if g != nil {
		g.wire.Store(nil)
	}
}

// isOver reports whether what the guard called has returned.
func (g *guard) isOver() bool { return g != nil && g.over.Load() }

// close is called when what the guard called has returned. It returns when nothing passes any
// longer, and reports whether the connection must be aborted.
func (g *guard) close() (abort bool) {
	g.over.Store(true)
	x := g.wire.Load()
	if x == nil {
		if g.handedOver.Load() {
			g.ResponseWriter, g.flush = nowhere{}, nil // drop net/http's writer, with its buffers
		}
		return g.aborted
	}
	return x.session.abandon(x)
}

// abandon ends s because a middleware has returned without its handler. x is the session's first
// wire. abandon waits for what is passing the guard. If the client does not take that, it cuts
// it off.
func (s *ServerSession) abandon(x *httpWire) (abort bool) {
	if s.finisher.Load() != byHandler { // the session has its own socket, and the handler is about to return
		return false
	}
	g, cause := x.guard, causeOfBase(x.base)
	if cause == nil {
		cause = ErrAbandoned
	}
	s.end(cause)
	cut := g.opened.Load() || !g.mu.TryLock()
	if cut {
		s.interruptWrite()
		if !g.handedOver.Load() {
			_ = x.direct.SetWriteDeadline(longAgo) // for an answer, which is no write of the session's
		}
		g.mu.Lock()
	}
	if g.handedOver.Load() {
		g.mu.Unlock()
		return false
	}
	abort = g.aborted || cut && !g.sealed
	g.sealed = true
	g.mu.Unlock()
	x.giveBack(nil, abort, s.route.writeTimeout)
	if abort && x.http10 {
		if conn, _, err := x.direct.Hijack(); err == nil {
			socket.Reset(conn)
		}
	}
	return abort
}

// causeOfBase returns the cause of a session's end for which base is done, the context of the
// request when it reached the plugin, or nil if that does not end a session. The context is done
// when the client has left, when the server's base context is done, or when somebody outside the
// plugin cancels it. A cancellation with a cause cannot be net/http's, which gives none.
func causeOfBase(base context.Context) error {
	switch cause := context.Cause(base); {
	case connectionOf(base).serverDone():
		return ErrShutdown
	case cause == nil, errors.Is(base.Err(), context.DeadlineExceeded):
		return nil
	case !errors.Is(cause, context.Canceled):
		return fmt.Errorf("%w: %w", ErrCanceled, cause)
	}
	return ErrClientGone
}
