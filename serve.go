package sse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"
)

// Serving: a request becomes a session, and the route's handler runs. Until the session opens,
// its wire is an httpWire, and until the handler has returned as well, unless a hub is going to
// detach the session.

// ServeHTTP runs a session of the route. HEAD gets the header alone, and OPTIONS, TRACE and
// CONNECT get no stream.
func (rt *route) ServeHTTP(w http.ResponseWriter, r *http.Request) { rt.serve(w, r, rt.handler) }

// serve is ServeHTTP with the handler h.
func (rt *route) serve(w http.ResponseWriter, r *http.Request, h Handler) {
	if !opensSessions(r.Method) {
		rt.serveOther(w, r)
		return
	}
	g := guardFrom(r.Context())
	g.activate()
	if r.Method == http.MethodHead {
		_, _ = writeHead(w, r, g, false)
		return
	}
	keys := rt.keysOf(r) // before anything that a panic would have to undo
	x := newHTTPWire(w, r, g, rt.writeTimeout)
	s := rt.newSession(x, r)
	defer g.finish()
	var replaced []*ServerSession
	var err error
	if !g.begin(x) {
		x.released = true // nobody else has x
		err = ErrAbandoned
	} else if err = x.canStream(); err == nil {
		replaced, err = rt.plugin.admit(s, keys)
	}
	if err != nil {
		s.refuse(x, err)
		return
	}
	for _, old := range replaced {
		old.expel(ErrReplaced)
	}
	s.runHandler(x, h)
}

func (rt *route) newSession(x *httpWire, r *http.Request) *ServerSession {
	s := &ServerSession{route: rt, heartbeat: &rt.heartbeat, began: sinceEpoch()}
	s.setWire(x)
	x.session = s
	live := s.call.init(r)
	s.ctx, s.cancel = context.WithCancelCause(&s.call)
	// Of the copies that middleware has made of the request, the session keeps only this one.
	live.request = r.WithContext(s.ctx)
	if x.guard != nil && x.guard.encodings != nil {
		r.Header["Accept-Encoding"] = x.guard.encodings // the handler sees what the client has sent
	}
	return s
}

// runHandler runs h, the handler, and finishes the session when it returns. If the session has
// detached, the handler leaves it to itself.
func (s *ServerSession) runHandler(x *httpWire, h Handler) {
	stopBase := context.AfterFunc(x.base, func() { s.onBaseDone(x.base) })
	var stopInner func() bool
	if x.inner.Done() != x.base.Done() {
		stopInner = context.AfterFunc(x.inner, func() { s.onInnerDone(x.inner, x.base) })
	}
	// Lift the deadline that http.Server.WriteTimeout has set for a whole response.
	// (net/http lifts ReadTimeout itself when the body has been read.)
	if err := x.setWriteDeadline(time.Time{}); err != nil && x.inner.Value(http.ServerContextKey) != nil {
		s.warnOfDeadlines(x, err)
	}
	if x.conn == nil && fromAfar(x.base) {
		s.route.plugin.warnNotAttached(x.base)
	}
	s.mu.Lock()
	s.setTimer(s.route.openDelayOf(s.Call().Method))
	s.mu.Unlock()

	var err error
	returned := false
	defer func() {
		stopBase()
		if stopInner != nil {
			stopInner()
		}
		var panicked any
		if !returned {
			panicked = recover()
			err = &PanicError{panicked, debug.Stack()}
		}
		if s.finisher.Load() == byReturn {
			s.outliveHandler(err)
			return
		}
		s.finishServed(x, err, panicked)
	}()
	err = h(s)
	returned = true
}

// openDelayOf returns the OpenDelay for a request with the method, or 0 for none.
func (rt *route) openDelayOf(method string) time.Duration {
	if rt.openDelay == 0 && method == http.MethodGet {
		return DefaultOpenDelay
	}
	return rt.openDelay
}

// warnOfDeadlines says, once for a plugin, that a writer outside the plugin hides the
// connection. Streams work, until one client is slow.
func (s *ServerSession) warnOfDeadlines(x *httpWire, err error) {
	if !s.route.plugin.warnedOfDeadlines.CompareAndSwap(false, true) {
		return
	}
	w := x.w
	if x.guard != nil {
		w = x.guard.ResponseWriter
	}
	s.logger().Warn("sse: writes cannot be bounded in time, and http.Server.WriteTimeout, if it is set, ends streams; "+
		"the writer that the plugin gets needs a method Unwrap", "writer", fmt.Sprintf("%T", innermost(w)), "error", err)
}

// onBaseDone is called when the context is done that the request had when it reached the
// plugin. net/http ends it when the client has left, and also after a write has failed. Then
// the writer, which holds the lock, knows better why the session ends, so onBaseDone waits for
// it. It interrupts a write only after 10 ms, because the error of an interrupted write tells
// nothing.
func (s *ServerSession) onBaseDone(base context.Context) {
	switch cause := causeOfBase(base); {
	case cause == nil: // the deadline of a Timeout outside the plugin; the next write finds out whether the client is there
	case errors.Is(cause, ErrShutdown):
		s.route.plugin.drain()
	case errors.Is(cause, ErrCanceled):
		s.end(cause)
	default:
		s.endClientGone(10)
	}
}

// endClientGone ends the session as soon as no write is under way. After that many more tries,
// one each millisecond, it interrupts the write. It tries again by a timer, not in a goroutine
// that sleeps: one would keep a synctest bubble from ending.
func (s *ServerSession) endClientGone(tries int) {
	if tries > 0 && !s.mu.TryLock() {
		time.AfterFunc(time.Millisecond, func() { s.endClientGone(tries - 1) })
		return
	}
	if tries == 0 {
		s.interruptWrite()
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	s.end(ErrClientGone)
}

// onInnerDone is called when a context is done that a middleware has made. Its deadline is
// for ordinary responses and does not end a stream, but its cancellation does. (A
// cancellation after the deadline has passed cannot be seen, because the context is done
// already.)
func (s *ServerSession) onInnerDone(inner, base context.Context) {
	switch {
	case errors.Is(inner.Err(), context.DeadlineExceeded):
	case base.Err() != nil:
		s.onBaseDone(base)
	default:
		s.end(fmt.Errorf("%w: %w", ErrCanceled, context.Cause(inner)))
	}
}
