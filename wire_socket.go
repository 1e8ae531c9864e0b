package sse

import (
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse/internal/scratch"
	"github.com/chi-sse/sse/internal/socket"
)

// socketWire writes to a connection that net/http has handed over, in the framing that the
// head of the response has promised. The head has been written by then.
//
// It is small: an idle detached session is a ServerSession, a socketWire and a socket. It
// has no goroutine, no buffer, and nothing of net/http.
type socketWire struct {
	me    wire // the wire itself; see ServerSession.setWire
	conn  socket.Conn
	token uint64 // of the watch for the client's leaving
	rest  *rest  // what the client has not taken yet
	rare  atomic.Pointer[rareState]

	interrupted atomic.Bool // set before the deadline is
	chunked     bool        // chunks frame the response; otherwise it ends with the connection
	unfinished  bool        // the end of the response could not be written
}

// rest is the end of one or more frames that a client has not taken. It is written before
// anything else.
type rest struct {
	b    []byte
	late lateFrames // the frames that b is the end of
}

// rareState is what few sessions need. It is a separate allocation, so that an idle session
// does not have it.
type rareState struct {
	acks unackedWatch // used where the kernel cannot watch for a client that has vanished
	held atomic.Pointer[heldFrames]

	taken atomic.Uint64 // what parts returns
}

// heldFrames are a copy of frames that a hub could not write because another write was under
// way. The hub writes them with Finish, unless the session ends before that.
type heldFrames struct {
	b      []byte
	events int
}

func newSocketWire(conn net.Conn, chunked bool, writeTimeout time.Duration) *socketWire {
	w := &socketWire{conn: socket.New(conn), chunked: chunked}
	_ = socket.LimitUnsent(conn) // where there is no such option, a client costs more memory
	if !setUnackedTimeout(conn, writeTimeout) {
		w.rareState().acks.active = true
	}
	return w
}

func (w *socketWire) rareState() *rareState {
	if r := w.rare.Load(); r != nil {
		return r
	}
	w.rare.CompareAndSwap(nil, new(rareState))
	return w.rare.Load()
}

// hold keeps a copy of frames for takeHeld.
func (w *socketWire) hold(frames []byte, events int) {
	w.rareState().held.Store(&heldFrames{slices.Clone(frames), events})
}

// takeHeld returns the frames that were kept, or nil.
func (w *socketWire) takeHeld() *heldFrames {
	if r := w.rare.Load(); r != nil {
		return r.held.Swap(nil)
	}
	return nil
}

// leavings ends detached sessions whose clients have left.
var leavings = socket.NewWatch(func(s *ServerSession) {
	s.end(ErrClientGone)
	s.interruptWrite()
})

func (w *socketWire) self() *wire {
	w.me = w
	return &w.me
}

// open only writes first: the head was written before the connection was handed over.
func (w *socketWire) open(_ *http.Request, first []byte, began, timeout time.Duration) error {
	return w.write(first, began, timeout)
}

func (w *socketWire) write(frame []byte, began, timeout time.Duration) error {
	if w.chunked && len(frame) > 0 {
		buf := scratch.Get()
		defer buf.Put()
		buf.B = strconv.AppendUint(buf.B, uint64(len(frame)), 16)
		buf.B = append(buf.B, "\r\n"...)
		buf.B = append(buf.B, frame...)
		buf.B = append(buf.B, "\r\n"...)
		frame = buf.B
	}
	return w.writeError(w.writeAll(frame, timeout, time.Time{}), began, timeout)
}

func (w *socketWire) writeError(err error, began, timeout time.Duration) error {
	if err == nil {
		return nil
	}
	return writeError(err, began, timeout, isDeadline(err))
}

// writeAll writes the rest, and then p. It waits for the client no longer than timeout for
// each part of that, and not beyond the time of until, if it is not zero.
func (w *socketWire) writeAll(p []byte, timeout time.Duration, until time.Time) error {
	if w.rest == nil {
		n, err := w.conn.TryWrite(p)
		if p = p[n:]; err != nil || len(p) == 0 {
			return err
		}
	}
	if w.rest != nil {
		if err := w.writeParts(w.rest.b, timeout, until); err != nil {
			return err
		}
		w.rest.b = nil // writeRest has still to account for it
	}
	if err := w.writeParts(p, timeout, until); err != nil {
		return err
	}
	return w.conn.SetWriteDeadline(time.Time{}) // it must not end a later write that does not wait
}

// writeParts writes p in parts, each of which has a deadline of its own.
func (w *socketWire) writeParts(p []byte, timeout time.Duration, until time.Time) error {
	for more := false; len(p) > 0; more = true {
		if more {
			w.rareState().taken.Add(1)
		}
		part := p[:min(len(p), partSize)]
		p = p[len(part):]
		deadline := time.Now().Add(timeout)
		if !until.IsZero() && until.Before(deadline) {
			deadline = until
		}
		if err := w.conn.SetWriteDeadline(deadline); err != nil {
			return err
		}
		if w.interrupted.Load() { // an interruption whose deadline has just been replaced
			_ = w.conn.SetWriteDeadline(longAgo)
		}
		if _, err := w.conn.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// tryWrite writes as much of p as the client takes at once, and keeps a copy of the rest:
// other sessions are sent p as well. p is frames, in chunked form if w is chunked. It
// reports whether there is a rest.
func (w *socketWire) tryWrite(p []byte, frames lateFrames) (pending bool, err error) {
	n := 0
	if w.rest == nil {
		n, err = w.conn.TryWrite(p)
	}
	if err != nil || n == len(p) {
		return false, err
	}
	if w.rest == nil {
		w.rest = new(rest)
	}
	w.rest.b = append(w.rest.b, p[n:]...)
	w.rest.late.bytes += frames.bytes
	w.rest.late.events += frames.events
	return true, nil
}

// writeRest writes the rest, if there is one, and what must follow it, as writeAll does. It
// returns the frames that are complete with that.
func (w *socketWire) writeRest(then []byte, timeout time.Duration, until time.Time) (late lateFrames, err error) {
	if err := w.writeAll(then, timeout, until); err != nil {
		return late, err
	}
	if w.rest != nil {
		late, w.rest = w.rest.late, nil
	}
	return late, nil
}

// clientLeft reports true for every error but that of a deadline, which is a timeout or an
// interruption.
func (w *socketWire) clientLeft(err error) bool {
	return !errors.Is(err, ErrWriteTimeout) && !isDeadline(err)
}

func (w *socketWire) clientVanished(now, timeout time.Duration) bool {
	r := w.rare.Load()
	return r != nil && r.acks.vanished(w.conn.Conn, now, timeout)
}

func (w *socketWire) parts() uint64 {
	if r := w.rare.Load(); r != nil {
		return r.taken.Load()
	}
	return 0
}

// header returns an empty header: the real one went with net/http's response.
func (w *socketWire) header() http.Header { return http.Header{} }

func (w *socketWire) interrupt() {
	w.interrupted.Store(true)
	_ = w.conn.SetWriteDeadline(longAgo) // fails if the connection is closed
}

func (w *socketWire) allowWrite() { w.interrupted.Store(false) }

// finish writes the rest and the end of the response.
func (w *socketWire) finish(clientLeft bool, timeout time.Duration) (late lateFrames) {
	if clientLeft && w.rest != nil {
		return late
	}
	var last []byte
	if w.chunked {
		last = []byte("0\r\n\r\n")
	}
	late, err := w.writeRest(last, timeout, time.Now().Add(timeout))
	w.unfinished = err != nil
	return late
}

// release closes the connection. A broken stream has no last chunk, and so needs no more to
// look broken. Over HTTP/1.0 it needs a reset.
func (w *socketWire) release(broken bool, _ time.Duration) (linger func()) {
	leavings.Remove(w.token)
	switch broken = broken || w.unfinished; {
	case broken && w.chunked:
		_ = w.conn.Abort()
	case broken:
		socket.Reset(w.conn.Conn)
	case w.conn.EndWrites() != nil:
		_ = w.conn.Close()
	default:
		return w.conn.CloseAfterPeer
	}
	return nil
}
