// Package engine is the part of a session that only a hub may use: it writes frames that are
// encoded already, without waiting for the client where that is possible, and it lets a
// session outlive its handler. Package sse implements it and package hub uses it, so
// that neither has to export these methods to everybody.
package engine

import (
	"errors"
	"net/http"
	"time"
)

// ErrKicked is hub.ErrKicked. It is here because package sse tells an end by it from others.
var ErrKicked = errors.New("hub: kicked")

// ErrFinished is hub.ErrFinished, for the same reason.
var ErrFinished = errors.New("hub: finished")

// Of returns session, which must be an *sse.ServerSession, as a Session. Package sse sets it.
var Of func(session any) Session

// AppendValue appends the text of v, as an sse.ServerSession would send it with the serializer,
// which must be an sse.Serializer. Package sse sets it.
var AppendValue func(dst []byte, v, serializer any) ([]byte, error)

// Refuse answers a request that a middleware does not let pass, as the plugin answers one that
// gets no session. err is what its Config.RenderError gets. Package sse sets it.
var Refuse func(w http.ResponseWriter, r *http.Request, err error)

// Session is a session as a hub sees it. Its methods are safe for concurrent use.
type Session interface {
	// Attach makes o the session's owner. It reports false if the session has an owner.
	Attach(o Owner) bool

	// Release takes the session from its owner. Only the owner of a session that is not
	// detached calls it.
	Release()

	// Began returns when the request came.
	Began() time.Time

	// AtEnd has f called with the cause of the session's end, before Config.OnClose. If it is
	// called several times, all functions are called, in their order.
	AtEnd(f func(cause error))

	// Opened reports whether the head of the response has been written, or is being written.
	Opened() bool

	// Pack drops what a session does not need while it only waits for events.
	Pack()

	// WillDetach says, before the session is open, that the owner is going to call Detach.
	// The head then tells the client that the connection ends with the stream. As soon as the
	// session is open, it writes to its own socket, if it can be detached at all. Until Detach
	// it ends with its handler, as any other.
	//
	// If the session is open, it depends on what its head has said: see Detach.
	WillDetach()

	// Detach makes the session outlive its handler, and reports whether it has done so. It
	// cannot over HTTP/2, if a writer hides the connection, or if the head has told the client
	// that the connection can be used again. The session must be open.
	// When a detached session has ended, its owner's Ended is called.
	Detach() bool

	// MayBlock reports whether TryWrite may wait for the client.
	MayBlock() bool

	// TryWrite writes f. If the client does not take all of it now, pending is true, and
	// the caller must call Finish before the next TryWrite.
	TryWrite(f *Frames) (pending bool, err error)

	// Finish writes what a TryWrite has left. It waits for the client for up to the
	// session's write timeout.
	Finish() error

	// Seal makes every write fail that begins from now on, but for TryWrite and Finish. The
	// error matches sse.ErrClosed and cause. The caller ends the session soon after it.
	Seal(cause error)

	// Grace returns how long a client that is about to be sent away may take for what it was
	// sent before: the smaller of a second and the session's write timeout.
	Grace() time.Duration

	// Progress returns a number that changes whenever the client takes a frame, or a part of a
	// large one, by whichever write. A part is 32 KiB, or more for a client that is fast.
	Progress() uint64

	// End ends the session with cause. A write that is under way may go on.
	End(cause error)

	// CutShort makes the End that follows look broken to the client, because the owner has
	// not sent everything. It has no effect if the session has ended.
	CutShort()

	// Interrupt makes a write that is under way fail.
	Interrupt()
}

// Owner is a hub's view of the session that it has attached.
type Owner interface {
	// BeginHeartbeat appends what the session sends instead of a comment, and reports
	// whether there is anything. If so, EndHeartbeat is called after it has been sent.
	BeginHeartbeat(dst []byte) (frame []byte, ok bool)
	EndHeartbeat()

	// EndSoon asks the owner to write what it has to send by now, and then to End the session
	// with cause. The owner bounds that in time by itself: it cuts off a client that takes
	// nothing. EndSoon does not wait. It reports false if the owner does not serve the
	// session any longer.
	EndSoon(cause error) bool

	// Expel ends the session with cause, as hub.Kick does: the owner writes what was published by
	// now, for at most Grace, and then Ends the session. Nothing else is written from now on.
	// Expel does not wait. It reports false if the owner does not serve the session any longer.
	Expel(cause error) bool

	// Serializer returns the sse.Serializer that the owner has been given, or nil if it has not.
	Serializer() any

	// Ended is called when a detached session has ended, with the cause.
	Ended(cause error)
}

// Frames is a number of encoded events. Its buffer has room on both sides for the framing of
// an HTTP/1.1 chunk, so that the same bytes can be sent to many sessions without a copy.
type Frames struct {
	buf    []byte
	Events int // the number of events
}

const (
	before = 18 // 16 hexadecimal digits, CR, LF
	after  = 2  // CR, LF
)

// Reset empties f. It keeps the buffer unless it is larger than limit bytes.
func (f *Frames) Reset(limit int) {
	if cap(f.buf) == 0 || cap(f.buf) > limit {
		f.buf = make([]byte, before, 512)
	}
	f.buf, f.Events = f.buf[:before], 0
}

// Append appends frame, which is one encoded event.
func (f *Frames) Append(frame []byte) {
	f.buf = append(f.buf, frame...)
	f.Events++
}

// Len returns the number of bytes of the events.
func (f *Frames) Len() int { return len(f.buf) - before }

// Bytes returns the events. It is valid until f changes.
func (f *Frames) Bytes() []byte { return f.buf[before:] }

// Chunk returns the events as a chunk (RFC 9112 §7.1). It is valid until f changes. f must not
// be empty: an empty chunk would end the response.
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
