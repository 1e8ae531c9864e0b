// A session: what the caller does with it, and the loop that reads events, notices the
// end of a connection, and decides how the session ends. The goroutine that reads owns
// every field but those under mu.

package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse/event"
)

// Session represents one event stream, read from as many connections as it takes.
// [Client.SSE], [Client.Session] and [Read] make one.
//
// Close, Reconnect and Call may be called from any goroutine. The other methods may be
// called only from the goroutine that reads.
type Session struct {
	http     *http.Client // nil for a session of Read
	call     *call
	requests *requestSource

	ctx    context.Context // done when the caller's context is, or after Close
	cancel context.CancelCauseFunc

	dec      event.Decoder
	complete bool // the terminal event was handed out, or the server answered 204
	silent   bool // what was handed out last has no data
	either   bool // in Client.Do: a response that is no stream goes to the caller as it is
	tries    tries
	buffer   buffer
	unsentID string // a last event id that no request can carry and that has been reported

	hadEvent atomic.Bool   // an event has arrived; set by the goroutine that reads
	wake     chan struct{} // Reconnect ends a wait; has room for one value

	mu        sync.Mutex
	conn      *conn          // nil between connections; set by the goroutine that reads
	opening   *conn          // the connection that is being opened, or nil
	reconnect bool           // Reconnect was called, and has not taken effect yet
	resp      *http.Response // the latest
	reading   bool           // an Incoming loop is running
	err       error          // what the session ended with; errEnd if normally
}

// Incoming returns the events of the session. It hands out each event as soon as it has
// read the blank line after it. When a connection is lost, Incoming waits and reconnects
// as the Config says. (Over HTTP/1.1, net/http holds back part of a chunk until more
// data fills its read, usually 1 KiB. Servers send a chunk as a whole.)
//
// The loop ends without an error when the session ends normally. Otherwise its last step
// has an error and a zero Event: an [*Error], or one of the others that the package
// comment lists. Leaving the loop closes the session at once, or after the terminal event
// when the connection is drained; see Config.Terminal.
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
// would take data from the session. Call returns nil for a session of [Read], and the
// response of [ReadResponse].
func (s *Session) Call() *http.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resp
}

// LastEventID returns the id to resume after, to be passed to [WithLastEventID]. It is
// the id of the last event that was handed out, unless the stream has changed it since.
func (s *Session) LastEventID() string { return s.dec.LastEventID() }

// Silent reports whether the Event that Incoming handed out last has no data: it only
// shows a comment or a reconnection time, as Config.ShowCommentEvents and
// Config.ShowRetryEvents ask for. It tells such an Event from one whose data is empty.
func (s *Session) Silent() bool { return s.silent }

// Retry returns the reconnection time that the stream has set with its last retry field,
// and whether it has set one.
func (s *Session) Retry() (reconnectionTime time.Duration, ok bool) { return s.dec.Retry() }

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
	s := &Session{call: c, buffer: buffer{policy: c.cfg.BufferPolicy}, wake: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.dec.MaxEventSize = c.cfg.MaxEventSize
	s.dec.Comments = c.cfg.ShowCommentEvents
	s.dec.RetryOnly = c.cfg.ShowRetryEvents
	s.dec.KeepRest = true
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
		if inOrder(err) && s.takeUnfinished(ev) {
			return nil
		}
		return cmp.Or(s.reconnectAfter(err), errAgain)
	}
	if s.silent = s.dec.Silent(); !s.silent {
		if !s.hadEvent.Load() && !s.takeFirstEvent() {
			*ev = Event{}
			s.dec.Reset(nil, s.tries.resumedAfter) // the server sends the event again
			return cmp.Or(s.reconnectAfter(errReconnect), errAgain)
		}
		s.conn.gotEvent()
	}
	if s.buffer.policy != Off {
		s.buffer.markHandedOut(s.dec.InputOffset())
	}
	if terminal := s.call.cfg.Terminal; terminal != nil {
		s.complete = terminal(*ev)
	}
	return nil
}

// takeUnfinished sets ev to the event that the end of the stream has cut off, if that is
// the terminal one. Some servers do not write the blank line after it.
func (s *Session) takeUnfinished(ev *Event) bool {
	terminal, rest := s.call.cfg.Terminal, string(s.dec.Rest())
	if terminal == nil || rest == "" || len(rest) >= event.MaxRest {
		return false
	}
	if !strings.HasSuffix(rest, "\n") && !strings.HasSuffix(rest, "\r") && !s.endIsKnown() {
		return false // the line may be cut off too
	}
	var dec event.Decoder
	dec.Reset(strings.NewReader(rest+"\n\n"), s.dec.LastEventID())
	last, err := dec.Decode()
	if err != nil || !terminal(last) {
		return false
	}
	*ev, s.silent, s.complete = last, false, true
	s.dec.Reset(nil, dec.LastEventID())
	return true
}

// endIsKnown reports whether the protocol shows the end of the response, so that a lost
// connection does not look like it. HTTP/1 without a length and without chunks does not.
func (s *Session) endIsKnown() bool {
	resp := s.Call() //nolint:bodyclose // it is the session's
	return resp != nil && (resp.ProtoMajor >= 2 || resp.ContentLength >= 0 || len(resp.TransferEncoding) > 0 || resp.Uncompressed)
}

// reconnectAfter drops the connection after a read has ended with err. It reconnects if
// the Config allows it. It returns nil if there is a new connection, and otherwise what
// the session ends with.
func (s *Session) reconnectAfter(err error) error {
	c := s.conn
	err = c.timeoutOr(err)
	s.dropConn()
	if stopped := s.stopError(); stopped != nil {
		return stopped
	}
	if s.requests != nil {
		s.tries.countEvents(c, s.dec.LastEventID(), s.requests.idempotent.Load())
	}
	if s.takeReconnect() {
		return s.connect(nil)
	}
	f := &Failure{Err: err, Response: s.Call(), Body: s.received(), Events: c.events} //nolint:bodyclose // it is the session's
	if _, ok := errors.AsType[*event.TooLargeError](err); ok {
		f.permanent = true // the server would send the same again
	} else if _, ok := errors.AsType[*TimeoutError](err); !ok && !inOrder(err) {
		f.Err = fmt.Errorf("stream broke off: %w", err)
	}
	if s.http == nil {
		return s.afterOnlyConnection(f)
	}
	s.tries.connectionLost(c, s.reconnectionTime())
	return s.connect(f)
}

// afterOnlyConnection returns what a session of Read ends with after f.
func (s *Session) afterOnlyConnection(f *Failure) error {
	f.Final = true
	f.LastEventID, _ = s.nextLastEventID()
	shown := *f
	if f.Response != nil {
		shown.Response = newError(f.Response, f.Body, nil).Response
	}
	switch decision := s.call.cfg.OnFailure(shown); {
	case decision.action == actEnd:
		return errEnd
	case decision.action == actStop && decision.err != nil:
		return s.failureError(f, decision.err)
	}
	return s.finalError(f, false)
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
	if s.complete && s.conn != nil && s.resp != nil {
		s.conn.drain()
	}
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
