package sse

import (
	"net"
	"time"

	"github.com/chi-sse/sse/internal/engine"
)

// What a hub may do with a session, and nobody else: write frames that are encoded already,
// without waiting for the client, and let the session outlive its handler. Only here does
// a session ask which kind of wire it has.

// engineSession is a session as a hub sees it. See [engine.Session] for its methods.
type engineSession ServerSession

func init() {
	engine.Of = func(session any) engine.Session { return (*engineSession)(session.(*ServerSession)) }
	engine.AppendValue = func(dst []byte, v, serializer any) ([]byte, error) {
		return appendValue(dst, v, serializer.(Serializer))
	}
}

func (s *engineSession) session() *ServerSession { return (*ServerSession)(s) }

func (s *engineSession) Attach(o engine.Owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != nil {
		return false
	}
	s.session().setOwner(o)
	return true
}

func (s *engineSession) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session().setOwner(nil)
}

// setOwner sets the owner, also for drain, which must not wait for a write under mu. mu is
// held.
func (s *ServerSession) setOwner(o engine.Owner) {
	p := s.route.plugin
	p.mu.Lock()
	defer p.mu.Unlock()
	s.owner = o
}

func (s *engineSession) Began() time.Time { return epoch.Add(s.began) }

func (s *engineSession) AtEnd(f func(cause error)) {
	p := s.route.plugin
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.extra == nil {
		s.extra = new(extra)
	}
	s.extra.atEnd = append(s.extra.atEnd, f)
}

func (s *engineSession) Opened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != pending
}

func (s *engineSession) Pack() { s.call.pack(true) }

func (s *engineSession) WillDetach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case pending:
		if x, ok := s.session().wire().(*httpWire); ok {
			x.last, x.detach = true, true
		}
	case open:
		_, _ = s.session().takeConnection(nil) // if it cannot be had, Detach reports that
	case opening, torn, closed: // it ends
	}
}

// willDetach reports whether the session is to have its connection as soon as it is open. mu
// is held.
func (s *ServerSession) willDetach() bool {
	x, ok := s.wire().(*httpWire)
	return ok && x.detach
}

// Detach takes the connection from net/http, unless the session has it already, and lets the
// session outlive its handler.
func (s *engineSession) Detach() bool {
	if !s.session().detach() {
		return false
	}
	if connectionOf(s.ctx) == nil {
		s.route.plugin.warnNotAttached(s.ctx)
	}
	return true
}

// detach is the part of Detach under mu.
func (s *ServerSession) detach() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.finisher.Load() != byHandler || s.state != open || s.ctx.Err() != nil {
		return false
	}
	if taken, _ := s.takeConnection(nil); !taken {
		return false
	}
	s.finisher.Store(byReturn)
	return true
}

// takeConnection takes the connection from net/http, makes it the session's wire, and writes
// rest. It reports whether the session has the connection. The session must be open.
//
// What is sent during the hijacking is kept, and written after rest. mu is held.
//
// If the head has told the client that the connection can be used again, it stays with
// net/http, which goes on with it after the stream. The session would have to close it, perhaps
// at the moment in which the client sends its next request. It also stays if a middleware
// compresses what is written.
func (s *ServerSession) takeConnection(rest []byte) (taken bool, err error) {
	x, ok := s.wire().(*httpWire)
	if ok && (x.major != 1 || x.keeping != nil || x.reused || x.packed) {
		return false, s.writeIfAny(rest)
	}
	var kept []byte
	if taken = !ok; ok {
		conn, hijackErr := s.hijack(x)
		kept, x.kept = x.kept, nil
		if taken = hijackErr == nil; taken {
			s.useSocket(x, conn)
		}
	}
	if err := s.writeIfAny(rest); err != nil {
		return taken, err
	}
	if err := s.writeIfAny(kept); err != nil {
		_ = s.account(0, 0, err) // which ends the session; its senders have returned
	}
	return taken, nil
}

// hijack takes the connection from net/http. mu is held, but not meanwhile: net/http calls
// http.Server.ConnState, which may use the session, or panic.
func (s *ServerSession) hijack(x *httpWire) (net.Conn, error) {
	x.keeping = make(chan struct{})
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		close(x.keeping)
		x.keeping = nil
	}()
	return x.hijack()
}

// awaitHijack waits until no goroutine is taking the connection from net/http. One that is
// not the handler's may do so, because it opens the session. The handler must not return
// meanwhile, since net/http would go on with the connection. mu is held, but not while
// awaitHijack waits.
func (s *ServerSession) awaitHijack() {
	for {
		x, ok := s.wire().(*httpWire)
		if !ok || x.keeping == nil {
			return
		}
		done := x.keeping
		s.mu.Unlock()
		<-done
		s.mu.Lock()
	}
}

// useSocket makes conn the session's wire in place of x. mu is held.
func (s *ServerSession) useSocket(x *httpWire, conn net.Conn) {
	w := newSocketWire(conn, s.Call().ProtoMinor >= 1, s.route.writeTimeout)
	s.setWire(w)
	x.drop()
	if x.interrupted.Load() { // by a goroutine that has not seen the new wire
		w.interrupt()
	}
	s.shareTimer()
	w.token = leavings.Add(conn, s)
}

// writeIfAny writes frame, unless it is empty. mu is held.
func (s *ServerSession) writeIfAny(frame []byte) error {
	if len(frame) == 0 {
		return nil
	}
	s.lastWrite = sinceEpoch()
	return s.wire().write(frame, s.lastWrite, s.route.writeTimeout)
}

func (s *engineSession) MayBlock() bool { return s.nonblocking() == nil }

// nonblocking returns the wire if it can be written to without waiting.
func (s *engineSession) nonblocking() *socketWire {
	if w, ok := s.session().wire().(*socketWire); ok && !w.conn.MayBlock() {
		return w
	}
	return nil
}

func (s *engineSession) TryWrite(f *engine.Frames) (pending bool, err error) {
	w := s.nonblocking()
	if w == nil {
		return false, s.session().write(f.Bytes(), f.Events, ofHub)
	}
	sent, pending, err := s.session().tryWrite(w, f)
	if sent.Bytes > 0 {
		s.session().callHooks(sent, false)
	}
	return pending, err
}

// tryWrite is the part of TryWrite under mu. Frames that are pending are accounted for by
// Finish, or at the end of the session.
//
// It does not wait for mu either: a send of the application's may hold it for as long as the
// write timeout. In that case Finish writes the frames.
func (s *ServerSession) tryWrite(w *socketWire, f *engine.Frames) (sent Sent, pending bool, err error) {
	if !s.mu.TryLock() {
		if s.seal.Load() == ended {
			return sent, false, s.closedError()
		}
		w.hold(f.Bytes(), f.Events)
		return sent, true, nil
	}
	defer s.mu.Unlock()
	if s.state == closed || s.seal.Load() == ended {
		return sent, false, s.closedError()
	}
	s.lastWrite = sinceEpoch()
	p := f.Bytes()
	if w.chunked {
		p = f.Chunk()
	}
	frames := lateFrames{f.Len(), f.Events}
	pending, err = w.tryWrite(p, frames)
	if pending {
		return sent, true, nil
	}
	sent, err = s.sentFrames(frames, w.writeError(err, s.lastWrite, s.route.writeTimeout))
	return sent, false, err
}

func (s *engineSession) Finish() error {
	sent, err := s.session().finishWrite()
	if sent.Bytes > 0 {
		s.session().callHooks(sent, false)
	}
	return err
}

// finishWrite is the part of Finish under mu.
func (s *ServerSession) finishWrite() (sent Sent, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == closed || s.ctx.Err() != nil {
		return sent, s.closedError()
	}
	w, ok := s.wire().(*socketWire)
	if !ok {
		return sent, nil
	}
	if held := w.takeHeld(); held != nil {
		s.lastWrite = sinceEpoch()
		err := w.write(held.b, s.lastWrite, s.route.writeTimeout)
		return s.sentFrames(lateFrames{len(held.b), held.events}, err)
	}
	if w.rest == nil {
		return sent, nil
	}
	frames, timeout := w.rest.late, s.route.writeTimeout
	s.lastWrite = sinceEpoch()
	_, err = w.writeRest(nil, timeout, time.Time{})
	w.rest = nil
	return s.sentFrames(frames, w.writeError(err, s.lastWrite, timeout))
}

// sentFrames accounts for frames that have been written, or have failed with err. If there
// is an OnSend to call, it returns the argument and raises hooks.
func (s *ServerSession) sentFrames(f lateFrames, err error) (sent Sent, _ error) {
	err = s.account(f.bytes, f.events, err)
	if s.route.plugin.cfg.OnSend != nil {
		sent = s.sent(f.bytes, ofHandler, err)
	}
	if sent.Bytes > 0 {
		s.hooks.Add(1)
	}
	return sent, err
}

func (s *engineSession) Seal(cause error) { s.seal.CompareAndSwap(nil, &seal{cause}) }

func (s *engineSession) Grace() time.Duration { return min(shutdownGrace, s.route.writeTimeout) }

func (s *engineSession) Progress() uint64 {
	return uint64(s.bytes.Load()) + s.session().wire().parts()
}

func (s *engineSession) CutShort() {
	if s.ctx.Err() == nil {
		s.session().cutShort.Store(true)
	}
}

func (s *engineSession) End(cause error) { s.session().end(cause) }

func (s *engineSession) Interrupt() { s.session().interruptWrite() }
