package sse

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/chi-sse/sse/internal/engine"
)

// detachment is the connection of a session whose handler has returned, or is about
// to: net/http has handed it over, and all that follows on it is written here. What
// the stream looks like does not change.
//
// It is small. Idle sessions are made of it, of the session, and of nothing else: no
// goroutine, no buffer, nothing of net/http.
type detachment struct {
	conn net.Conn
	raw  syscall.RawConn // nil if writes to conn may block

	// rest is what the client did not take of a chunk, and whoever writes next writes
	// first. The session's mu guards it.
	rest *rest

	handler error  // what the handler has returned
	token   uint64 // of the watch for the client's leaving

	chunked     bool        // else the connection's end is that of the response
	failed      bool        // the session ends because of handler
	unsaid      bool        // the last words were not taken
	interrupted atomic.Bool // stored before the deadline is set
	returned    atomic.Bool // the handler has
	finishes    atomic.Bool
}

// rest is what a client has not taken of a chunk, or several.
type rest struct {
	b      []byte
	bytes  int // of the frames that b is the end of
	events int
}

// Detach hijacks the connection. See [engine.Session].
func (s *engineSession) Detach() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != streaming || !s.isOpen || s.major != 1 || s.ctx.Err() != nil || s.detached.Load() != nil {
		return false
	}
	rc, ok := s.direct.(*http.ResponseController)
	if !ok {
		return false
	}
	conn, _, err := rc.Hijack()
	if err != nil {
		return false
	}
	d := &detachment{conn: conn, raw: nonblocking(conn), chunked: s.session().Call().ProtoMinor >= 1}
	s.overMu.Lock()
	s.direct = conn
	s.detached.Store(d)
	s.overMu.Unlock()
	if !s.heartbeat.custom() {
		s.session().setTimer(s.heartbeat.Period) // now by the wheel
	}
	s.guard.handOver()
	d.token = watchLeaving(conn, s.session())
	return true
}

// leaveDetached is called when the handler has returned. From then on, nothing of
// the request is held but what Call returns.
func (s *ServerSession) leaveDetached(err error) {
	d := s.detached.Load()
	d.handler, d.failed = err, err != nil && s.ctx.Err() == nil
	s.call.pack(false)
	s.mu.Lock()
	s.exchange = nil
	s.mu.Unlock()
	d.returned.Store(true)
	if err != nil {
		s.ended.Store(true)
		s.cancel(ErrClosed)
	}
	s.finishIfDetached()
}

// finishIfDetached finishes the session, if it has ended and nobody else is going to.
func (s *ServerSession) finishIfDetached() {
	d := s.detached.Load()
	if d != nil && d.returned.Load() && s.ctx.Err() != nil && d.finishes.CompareAndSwap(false, true) {
		go s.finishDetached(d)
	}
}

func (s *ServerSession) finishDetached(d *detachment) {
	end, sent, _, broken := s.conclude(d.handler)
	s.overMu.Lock()
	s.over = true
	s.overMu.Unlock()
	leavings.forget(d.token)
	conn := d.conn
	if t, ok := conn.(*tls.Conn); ok && (broken || d.unsaid) {
		conn = t.NetConn() // a close_notify would be waited for, and be a lie
	}
	_ = conn.Close() // a broken end is one for want of a last chunk
	s.mu.Lock()
	owner := s.owner
	s.mu.Unlock()
	steps := s.settle(end, sent)
	if owner != nil {
		steps = append([]func(){func() { owner.Ended(context.Cause(s.ctx)) }}, steps...)
	}
	for _, step := range steps {
		s.protect(step)
	}
}

// protect calls a step, and logs what it panics with: net/http is not there to do so.
func (s *ServerSession) protect(step func()) {
	defer func() {
		if v := recover(); v != nil {
			s.logger().Error("sse: panic at the end of a session", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	step()
}

// endResponse writes what is left, and the end of the response.
func (s *ServerSession) endResponse(d *detachment) (sent []Sent) {
	var last []byte
	if d.chunked {
		last = []byte("0\r\n\r\n")
	}
	left, began := d.rest, s.age()
	err := d.writeAll(last, min(shutdownGrace, s.route.writeTimeout))
	d.unsaid = err != nil
	if left == nil || err != nil {
		return nil
	}
	s.bytes += int64(left.bytes)
	s.events += int64(left.events)
	return []Sent{{Bytes: left.bytes, Duration: s.age() - began}}
}

// write writes frame, waiting for the client no longer than timeout.
func (d *detachment) write(frame []byte, timeout time.Duration) error {
	if d.chunked && len(frame) > 0 {
		buf := frames.get()
		defer frames.put(buf)
		buf.b = strconv.AppendUint(buf.b, uint64(len(frame)), 16)
		buf.b = append(buf.b, "\r\n"...)
		buf.b = append(buf.b, frame...)
		buf.b = append(buf.b, "\r\n"...)
		frame = buf.b
	}
	return d.writeAll(frame, timeout)
}

// writeAll writes what is left from before, and p.
func (d *detachment) writeAll(p []byte, timeout time.Duration) error {
	if d.rest == nil {
		n, err := d.try(p)
		if p = p[n:]; err != nil || len(p) == 0 {
			return err
		}
	}
	if err := d.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if d.interrupted.Load() { // which would be undone
		_ = d.conn.SetWriteDeadline(time.Unix(1, 0))
	}
	if d.rest != nil {
		if _, err := d.conn.Write(d.rest.b); err != nil {
			return err
		}
		d.rest.b = nil // Finish is still to account for it
	}
	if len(p) > 0 {
		if _, err := d.conn.Write(p); err != nil {
			return err
		}
	}
	return d.conn.SetWriteDeadline(time.Time{}) // it would hold for those writes too that do not wait
}

// try writes as much of p as can be written without waiting.
//
// It does so by Control rather than Write, which would look at deadlines, and at what the
// runtime's poller keeps far away, for a write that never waits. Control keeps the
// descriptor from being closed meanwhile, and the session's mu others from writing.
func (d *detachment) try(p []byte) (int, error) {
	if d.raw == nil || len(p) == 0 {
		return 0, nil
	}
	t := tries.Get().(*try)
	defer tries.Put(t)
	t.p, t.n, t.err = p, 0, nil
	err := d.raw.Control(t.write)
	t.p = nil
	if err != nil {
		return 0, err
	}
	return t.n, t.err
}

// try is a write that does not wait, as a function that need not be made each time.
type try struct {
	p     []byte
	n     int
	err   error
	write func(fd uintptr)
}

var tries = sync.Pool{New: func() any {
	t := new(try)
	t.write = func(fd uintptr) { t.n, t.err = writeNow(fd, t.p) }
	return t
}}

// nonblocking returns conn's raw connection if one can write to it without waiting.
// It must be of a type whose Write does nothing else.
func nonblocking(conn net.Conn) syscall.RawConn {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil || !canWriteNow {
		return nil
	}
	return raw
}

// watchLeaving ends s when its client leaves. Where the system can tell, it does so
// for all sessions at once; else a goroutine reads from conn.
func watchLeaving(conn net.Conn, s *ServerSession) (token uint64) {
	inner := conn
	if t, ok := conn.(*tls.Conn); ok {
		inner = t.NetConn()
	}
	if sc, ok := inner.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			if token, ok := leavings.watch(raw, s, inner != conn); ok {
				return token
			}
		}
	}
	go s.readUntilEnd(conn)
	return 0
}

// readUntilEnd ends s at the end of what its client sends, which says nothing in a
// stream.
func (s *ServerSession) readUntilEnd(conn net.Conn) {
	for {
		_, err := io.Copy(io.Discard, conn)
		if !errors.Is(err, os.ErrDeadlineExceeded) || conn.SetReadDeadline(time.Time{}) != nil {
			break // else a middleware had set one
		}
	}
	s.leave()
}

// leave ends the session of a client that has left, and a write that waits for it.
func (s *ServerSession) leave() {
	s.end(ErrClientGone)
	s.interruptWrite()
}

// engineSession is a session in the hands of a hub.
type engineSession ServerSession

func init() {
	engine.Of = func(session any) engine.Session { return (*engineSession)(session.(*ServerSession)) }
}

func (s *engineSession) session() *ServerSession { return (*ServerSession)(s) }

func (s *engineSession) Pack() { s.call.pack(true) }

func (s *engineSession) WillDetach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toDetach = true
}

func (s *engineSession) Attach(o engine.Owner) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != nil {
		return false
	}
	s.owner = o
	return true
}

func (s *engineSession) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owner = nil
}

func (s *engineSession) End(cause error) { s.session().end(cause) }

func (s *engineSession) Interrupt() { s.session().interruptWrite() }

func (s *engineSession) MayBlock() bool {
	d := s.detached.Load()
	return d == nil || d.raw == nil
}

func (s *engineSession) TryWrite(f *engine.Frames) (pending bool, err error) {
	d := s.detached.Load()
	if d == nil || d.raw == nil {
		return false, s.session().write(f.Bytes(), f.Events, ofHandler)
	}
	return s.session().tryWrite(d, f)
}

// tryWrite is write for frames of a hub, when it must not wait for the client.
func (s *ServerSession) tryWrite(d *detachment, f *engine.Frames) (pending bool, err error) {
	sent, pending, err := s.tryFrames(d, f)
	if sent.Bytes > 0 {
		s.callHooks(sent, false)
	}
	return pending, err
}

func (s *ServerSession) tryFrames(d *detachment, f *engine.Frames) (sent Sent, pending bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == finished || s.ended.Load() {
		return sent, false, s.closedError()
	}
	now := s.age()
	s.lastWrite = now
	p := f.Bytes()
	if d.chunked {
		p = f.Chunk()
	}
	n := 0
	if d.rest == nil {
		n, err = d.try(p)
	}
	if err == nil && n < len(p) {
		if d.rest == nil {
			d.rest = new(rest)
		}
		d.rest.b = append(d.rest.b, p[n:]...) // a copy: other sessions are sent p too
		d.rest.bytes, d.rest.events = d.rest.bytes+f.Len(), d.rest.events+f.Events
		return sent, true, nil
	}
	return s.sentFrames(f.Len(), f.Events, s.writeError(err, now, s.route.writeTimeout))
}

func (s *engineSession) Finish() error {
	sent, err := s.finishFrames()
	if sent.Bytes > 0 {
		s.session().callHooks(sent, false)
	}
	return err
}

func (s *engineSession) finishFrames() (Sent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == finished || s.ctx.Err() != nil {
		return Sent{}, s.session().closedError()
	}
	d := s.detached.Load()
	left := d.rest
	if left == nil {
		return Sent{}, nil
	}
	now := s.session().age()
	s.lastWrite = now
	err := s.session().writeError(d.writeAll(nil, s.route.writeTimeout), now, s.route.writeTimeout)
	d.rest = nil
	sent, _, err := s.session().sentFrames(left.bytes, left.events, err)
	return sent, err
}

// sentFrames accounts for frames that have been written, or have failed with err,
// and announces the hooks.
func (s *ServerSession) sentFrames(n, events int, err error) (sent Sent, pending bool, _ error) {
	sent, err = s.written(n, events, ofHandler, err)
	if sent.Bytes > 0 {
		s.hooks.Add(1)
	}
	return sent, false, err
}
