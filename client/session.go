// A session: what the caller does with it, and the loop that reads events, notices the
// end of a connection, and decides how the session ends. The goroutine that reads owns
// every field but those under mu.

package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"sync"

	"github.com/chi-sse/sse/event"
)

// Session represents one event stream, read from as many connections as it takes.
// [Client.SSE], [Client.Session] and [Read] make one.
//
// Close and Call may be called from any goroutine. The other methods may be called only
// from the goroutine that reads.
type Session struct {
	http     *http.Client // nil for a session of Read
	call     *call
	requests *requestSource

	ctx    context.Context // done when the caller's context is, or after Close
	cancel context.CancelCauseFunc

	dec      event.Decoder
	complete bool // the terminal event was handed out, or the server answered 204
	tries    tries
	buffer   buffer

	mu      sync.Mutex
	conn    *conn          // nil between connections; set by the goroutine that reads
	resp    *http.Response // the latest
	reading bool           // an Incoming loop is running
	err     error          // what the session ended with; errEnd if normally
}

// Incoming returns the events of the session. It hands out each event as soon as it has
// read the blank line after it. When a connection is lost, Incoming waits and reconnects
// as the Config says. (Over HTTP/1.1, net/http holds back part of a chunk until more
// data fills its read, usually 1 KiB. Servers send a chunk as a whole.)
//
// The loop ends without an error when the session ends normally. Otherwise its last step
// has an error and a zero Event: an [*Error], or one of the others that the package
// comment lists. Leaving the loop closes the session at once.
func (s *Session) Incoming() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := s.startReading(); err != nil {
			if err != errEnd { //nolint:errorlint // errEnd is never wrapped
				yield(Event{}, err)
			}
			return
		}
		s.read(yield)
	}
}

// Call returns the latest response. The caller must not read its body, because that
// would take data from the session. Call returns nil for a session of [Read].
func (s *Session) Call() *http.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resp
}

// LastEventID returns the id to resume after, to be passed to [WithLastEventID]. It is
// the id of the last event that was handed out, unless the stream has changed it since.
func (s *Session) LastEventID() string { return s.dec.LastEventID() }

// Close ends the session and its connection at once, whatever the session is doing. An
// Incoming loop in another goroutine ends with [ErrClosed]. Close may be called more
// than once. It always returns nil.
func (s *Session) Close() error {
	s.cancel(ErrClosed)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.close()
	}
	if !s.reading && s.err == nil {
		s.err = ErrClosed
	}
	return nil
}

// newSession returns a session without a connection.
func newSession(ctx context.Context, c *call) *Session {
	s := &Session{call: c, buffer: buffer{policy: c.cfg.BufferPolicy}}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.dec.MaxEventSize = c.cfg.MaxEventSize
	s.dec.Comments = c.cfg.ShowCommentEvents
	s.dec.RetryOnly = c.cfg.ShowRetryEvents
	s.dec.Reset(nil, c.lastID)
	return s
}

// startReading marks the session as being read. It returns an error if the session has
// ended or another loop is reading it.
func (s *Session) startReading() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading {
		return errors.New("client: Incoming is already running; a session can have only one reader")
	}
	s.reading = s.err == nil
	return s.err
}

// read hands out events until the session ends. An idle session waits here, in Decode,
// nearly all the time, and its stack is a third of its memory. So the rare steps are
// separate functions, which keeps this stack frame small.
func (s *Session) read(yield func(Event, error) bool) {
	why := ErrClosed // if yield returns false or panics
	defer func() { s.endWith(why) }()
	for !s.complete {
		var ev Event
		err := s.ctx.Err()
		if err == nil { // otherwise LastEventID would move past an event that is not handed out
			ev, err = s.dec.Decode()
		}
		if err = s.afterDecode(&ev, err); err == errAgain { //nolint:errorlint // never wrapped, as errEnd
			continue
		}
		if err != nil {
			why = err
		}
		if err == errEnd || !yield(ev, err) || err != nil { //nolint:errorlint // see above
			return
		}
	}
	why = errEnd
}

// afterDecode updates the session after Decode returned ev or err, before ev is handed
// out. It returns nil if ev is to be handed out, errAgain if there is a new connection
// to read from, and otherwise what the session ends with.
func (s *Session) afterDecode(ev *Event, err error) error {
	if err != nil {
		*ev = Event{}
		return cmp.Or(s.reconnectAfter(err), errAgain)
	}
	if !s.dec.Silent() {
		s.tries.gotEvent, s.tries.attempts = true, 0
	}
	if s.buffer.policy != Off {
		s.buffer.markHandedOut(s.dec.InputOffset())
	}
	if terminal := s.call.cfg.Terminal; terminal != nil {
		s.complete = terminal(*ev)
	}
	return nil
}

// reconnectAfter drops the connection after a read has ended with err. It reconnects if
// the Config allows it. It returns nil if there is a new connection, and otherwise what
// the session ends with.
func (s *Session) reconnectAfter(err error) error {
	err = s.conn.timeoutOr(err)
	s.dropConn()
	if stopped := s.stopError(); stopped != nil {
		return stopped
	}
	if err != io.EOF { //nolint:errorlint // io.EOF itself is the orderly end; a wrapped one is a failure
		if _, ok := errors.AsType[*event.TooLargeError](err); ok {
			return s.asError(err) // the server would send the same again
		}
		if _, ok := errors.AsType[*TimeoutError](err); !ok {
			err = fmt.Errorf("stream broke off: %w", err)
		}
		err = s.asError(err)
	}
	if s.http == nil {
		return s.finalError(err)
	}
	s.tries.connectionLost(err, s.call.cfg.HealthyAfter)
	return s.connect(err)
}

// finalError returns what a session ends with that does not reconnect after cause: an
// [*Error], or errEnd after the orderly end of a stream.
func (s *Session) finalError(cause error) error {
	switch {
	case cause != io.EOF: //nolint:errorlint // see reconnectAfter
		return cause
	case s.call.cfg.Terminal != nil:
		return s.asError(ErrTruncated)
	}
	return errEnd
}

// asError returns err as an [*Error], with the response that err came with or else the
// session's latest.
func (s *Session) asError(err error) *Error {
	if own, ok := errors.AsType[*Error](err); ok { // has its response already
		return &Error{own.Response, own.Body, err}
	}
	return newError(s.Call(), s.buffer.bytes(), err) //nolint:bodyclose // it is the session's
}

// stopError returns what the session ends with if it was closed or the caller's context
// is done, and nil otherwise.
func (s *Session) stopError() error {
	err := s.ctx.Err()
	if err == nil {
		return nil
	}
	switch cause := context.Cause(s.ctx); {
	case cause == ErrClosed: //nolint:errorlint // the session's own, not one that the caller's wraps
		return ErrClosed
	case errors.Is(err, cause):
		return fmt.Errorf("client: %w", err)
	default:
		return fmt.Errorf("client: %w: %w", err, cause)
	}
}

// blockError returns what SSE returns when its block has returned err. ctx is the
// caller's.
func (s *Session) blockError(ctx context.Context, err error) error {
	s.mu.Lock()
	own := s.err
	s.mu.Unlock()
	if own != nil && errors.Is(err, own) || errors.Is(err, ErrClosed) {
		return err
	}
	if ctxErr := ctx.Err(); ctxErr != nil && errors.Is(err, ctxErr) {
		return err
	}
	return newError(s.Call(), s.buffer.bytes(), err) //nolint:bodyclose // it is the session's
}

// endWith ends the session and its connection. It records err as what the session ended
// with, unless the session has ended already.
func (s *Session) endWith(err error) {
	s.cancel(ErrClosed)
	s.dropConn()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = false
	if s.err == nil {
		s.err = err
	}
}

// dropConn closes the connection, if there is one, and leaves the session without one.
func (s *Session) dropConn() { s.setConn(nil, nil) }

// setConn makes c the session's connection and closes the one before it. If resp is not
// nil, it becomes the session's response.
func (s *Session) setConn(c *conn, resp *http.Response) {
	s.mu.Lock()
	old := s.conn
	s.conn = c
	if resp != nil {
		s.resp = resp
	}
	s.mu.Unlock()
	if old != nil {
		old.close()
	}
}
