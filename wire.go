package sse

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// wire is where a session's bytes go. There are two kinds: httpWire writes through
// net/http, and socketWire writes to a connection that net/http has given up. The rest of
// the package does not know which kind a session has, except for serve.go and refuse.go,
// where every session still has an httpWire, and engine.go, which replaces it.
//
// All methods but interrupt, parts and release are called with ServerSession.mu held. Times are
// counted from epoch.
type wire interface {
	// open writes the head of the response to r, and then first, as write does.
	open(r *http.Request, first []byte, began, timeout time.Duration) error

	// write writes frame and flushes it. It fails if the client takes less than partSize
	// bytes, or the last of frame, for as long as timeout. The error matches
	// ErrWriteTimeout then.
	write(frame []byte, began, timeout time.Duration) error

	// clientLeft reports whether a write failed with err because the client has left.
	clientLeft(err error) bool

	// clientVanished reports whether the client has acknowledged nothing for as long as
	// timeout, if only a look at the connection can tell. It is asked before heartbeats.
	clientVanished(now, timeout time.Duration) bool

	// parts returns how many parts of frames the client has taken, but for the last part of each
	// frame. It may be called at any time, from any goroutine.
	parts() uint64

	// header returns the response header, which can be changed until open is called. The
	// header of a released wire is a copy.
	header() http.Header

	// interrupt makes a write that is under way fail. It may be called at any time, from
	// any goroutine. After release it does nothing.
	interrupt()

	// allowWrite undoes interrupt for the writes that follow.
	allowWrite()

	// finish writes what has to follow the last frame. late is what it has written of
	// frames for which write, or its like, had not been called to the end. If clientLeft,
	// finish does not wait for the client.
	finish(clientLeft bool, timeout time.Duration) (late lateFrames)

	// release gives the connection back, or closes it. If broken, the client must be able
	// to see that the stream is not complete. linger, if it is not nil, waits for the client
	// before it closes the connection.
	release(broken bool, timeout time.Duration) (linger func())
}

// A frame is written in parts. A client that takes partSize bytes within the write timeout is
// alive, however large the frame is. A hub's batches are not larger, and so are one part: two
// parts of half the size cost a third more through net/http, for a limit that hardly any
// client would notice.
//
// A client that takes a part in less than a fastShare of the timeout is given fastPartSize
// next. Each part more is another write to the system, and at the slower end a kernel that
// opens its window in steps asks for as much anyway. During a shutdown a client must take a
// part within shutdownGrace, so a timeout counts as no longer than that.
const (
	partSize     = 32 << 10
	fastPartSize = 128 << 10
	fastShare    = 64
)

// lateFrames are frames that a client took after the call that sent them had returned.
type lateFrames struct {
	bytes  int
	events int
}

// setWire makes w the session's wire. The atomic pointer leads to an interface value that
// lies within the wire itself, not in an allocation of its own, so that a write does not
// wait for one more cache line.
func (s *ServerSession) setWire(w interface{ self() *wire }) { s.wireAt.Store(w.self()) }

func (s *ServerSession) wire() wire { return *s.wireAt.Load() }

// interruptWrite makes a write that is under way fail, on whichever wire it is.
func (s *ServerSession) interruptWrite() {
	for {
		at := s.wireAt.Load()
		(*at).interrupt()
		if s.wireAt.Load() == at {
			return // otherwise the session has detached in the meantime
		}
	}
}

// epoch is about when the process began. A time.Duration since then takes a third of the
// memory of a time.Time.
var epoch = time.Now()

// sinceEpoch returns the present time.
func sinceEpoch() time.Duration { return time.Since(epoch) }

// writeError returns the error of a write that began at began and failed with err.
// pastDeadline says that a write deadline made it fail. If that was before the timeout, it
// was an interruption.
func writeError(err error, began, timeout time.Duration, pastDeadline bool) error {
	if pastDeadline && sinceEpoch() >= began+timeout-timeout/16 {
		return fmt.Errorf("%w after %v: %w", ErrWriteTimeout, timeout, err)
	}
	return fmt.Errorf("sse: write: %w", err)
}

func isDeadline(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// longAgo is a deadline that makes a write fail at once.
var longAgo = time.Unix(1, 0)
