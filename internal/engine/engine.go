// Package engine is what a hub does with a session that nobody else should: it
// writes frames that are encoded already, without waiting for the client where
// that can be helped, and lets the session outlive its handler.
package engine

// Of returns the session, which must be an *sse.ServerSession, for a hub. Package
// sse sets it.
var Of func(session any) Session

// Session is a session in the hands of a hub. Its methods are safe for concurrent
// use.
type Session interface {
	// Attach gives the session to o. It reports whether the session was free.
	Attach(o Owner) bool

	// Release takes the session back from its owner, if it is not detached.
	Release()

	// Pack gives up what the session can do without while it only waits.
	Pack()

	// WillDetach says, before the session is open, that Detach is going to be called: the
	// head then tells the client that the connection ends with the stream.
	WillDetach()

	// Detach lets the session live on when its handler has returned, and reports
	// whether it does: over HTTP/2, and behind writers that cannot be hijacked, it
	// cannot. The session must be open. Once it has ended, its owner is told.
	Detach() bool

	// MayBlock reports whether TryWrite may wait for the client.
	MayBlock() bool

	// TryWrite writes f whole, or begins to: pending then says that the client does
	// not take the rest now, and Finish must be called.
	TryWrite(f *Frames) (pending bool, err error)

	// Finish writes what TryWrite has left, waiting for the client as long as its
	// write timeout allows.
	Finish() error

	// End ends the session with cause, which a write that is under way may outlive.
	End(cause error)

	// Interrupt makes a write that is under way fail.
	Interrupt()
}

// Owner is who has attached a session.
type Owner interface {
	// BeginHeartbeat appends what is sent for a heartbeat that is but a sign of life,
	// or reports that it has nothing better than a comment. EndHeartbeat is called when it
	// has been sent.
	BeginHeartbeat(dst []byte) (frame []byte, ok bool)
	EndHeartbeat()

	// Ended tells of the end of a session that was detached.
	Ended(cause error)
}

// Frames are whole events in their wire form. A buffer of Frames has room on both
// sides for the framing of a chunk of HTTP/1.1, so that many sessions can be sent
// the same bytes without another copy.
type Frames struct {
	buf    []byte
	Events int // how many there are
}

const (
	before = 18 // 16 hexadecimal digits, CR, LF
	after  = 2  // CR, LF
)

// Reset empties f, and keeps its memory if that is no more than limit.
func (f *Frames) Reset(limit int) {
	if cap(f.buf) == 0 || cap(f.buf) > limit {
		f.buf = make([]byte, before, 512)
	}
	f.buf, f.Events = f.buf[:before], 0
}

// Append appends frame, which holds one event.
func (f *Frames) Append(frame []byte) {
	f.buf = append(f.buf, frame...)
	f.Events++
}

// Len returns how many bytes there are.
func (f *Frames) Len() int { return len(f.buf) - before }

// Bytes returns the events. It is valid until f changes.
func (f *Frames) Bytes() []byte { return f.buf[before:] }

// Chunk returns the events as a chunk (RFC 9112 §7.1). It is valid until f changes.
// Frames that are empty have none: it would end the response.
func (f *Frames) Chunk() []byte {
	n := f.Len()
	start := before - after
	for rest := n; ; {
		start--
		f.buf[start] = "0123456789abcdef"[rest&15]
		if rest >>= 4; rest == 0 {
			break
		}
	}
	f.buf[before-2], f.buf[before-1] = '\r', '\n'
	f.buf = append(f.buf, '\r', '\n')
	chunk := f.buf[start:]
	f.buf = f.buf[:before+n]
	return chunk
}
