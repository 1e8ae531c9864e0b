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

// Session is one event stream, over however many connections it takes. It is made
// by [Client.SSE], [Client.Session] or [Read].
//
// Close and Call may be called from any goroutine, the rest from the one that
// reads.
type Session struct {
	http *http.Client // nil: of Read
	call *call
	from *source

	ctx    context.Context // done with the caller's, or by Close
	cancel context.CancelCauseFunc

	dec      event.Decoder
	complete bool // the terminal event was handed out, or a 204 came
	tries    tries
	buffer   buffer

	mu      sync.Mutex
	conn    *conn          // or nil between connections; set by the goroutine that reads
	resp    *http.Response // the last
	reading bool           // Incoming runs
	err     error          // errEnd, or what the session ended with
}

func newSession(ctx context.Context, c *call) *Session {
	s := &Session{call: c, buffer: buffer{policy: c.cfg.BufferPolicy}}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.dec.MaxEventSize = c.cfg.MaxEventSize
	s.dec.Comments = c.cfg.ShowCommentEvents
	s.dec.RetryOnly = c.cfg.ShowRetryEvents
	s.dec.Reset(nil, c.lastID)
	return s
}

// Incoming returns the events of the session, each at the moment its blank line is
// read. It reconnects when that is due, and waits meanwhile. (Over HTTP/1.1 net/http
// holds back a chunk that has come in part until there is more to fill a read with, of
// 1 KiB as a rule. Servers send a chunk as a whole.)
//
// The loop ends without an error on the session's normal end, and otherwise with
// one, which comes alone: see [Error], and the package comment for what else there
// is. Leaving the loop closes the session, at once.
func (s *Session) Incoming() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := s.begin(); err != nil {
			if err != errEnd { //nolint:errorlint // errEnd is never wrapped
				yield(Event{}, err)
			}
			return
		}
		s.read(yield)
	}
}

// read hands out events until the session ends. Its goroutine spends nearly all its
// time here, waiting in Decode, so what is rare is done in functions of its own: the
// stack of an idle session is a third of its memory.
func (s *Session) read(yield func(Event, error) bool) {
	why := ErrClosed // if yield says so, or panics
	defer func() { s.finish(why) }()
	for !s.complete {
		var ev Event
		err := s.ctx.Err()
		if err == nil { // not decoded otherwise, or LastEventID would be that of an event that nobody got
			ev, err = s.dec.Decode()
		}
		if err = s.arrived(&ev, err); err == errAgain { //nolint:errorlint // never wrapped, as errEnd
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

// arrived notes what follows from ev, which is about to be handed out, or from err:
// it returns errAgain when there is a new connection to read from, or else what the
// session ends with.
func (s *Session) arrived(ev *Event, err error) error {
	if err != nil {
		*ev = Event{}
		return cmp.Or(s.lost(err), errAgain)
	}
	if !s.dec.Silent() {
		s.tries.fruitful, s.tries.attempts = true, 0
	}
	if s.buffer.policy != Off {
		s.buffer.handedOut(s.dec.InputOffset())
	}
	if terminal := s.call.cfg.Terminal; terminal != nil {
		s.complete = terminal(*ev)
	}
	return nil
}

// lost is called with what reading has ended with. It returns nil when there is a
// new connection, or else what the session ends with.
func (s *Session) lost(err error) error {
	err = s.conn.cause(err)
	s.drop()
	if stopped := s.stopped(); stopped != nil {
		return stopped
	}
	if err != io.EOF { //nolint:errorlint // io.EOF itself is the orderly end; a wrapped one is a failure
		if _, ok := errors.AsType[*event.TooLargeError](err); ok {
			return s.fail(err) // and would be again
		}
		if _, ok := errors.AsType[*TimeoutError](err); !ok {
			err = fmt.Errorf("stream broke off: %w", err)
		}
		err = s.fail(err)
	}
	if s.http == nil {
		return s.exhausted(err)
	}
	s.tries.lost(err, s.call.cfg.HealthyAfter)
	return s.connect(err)
}

// exhausted returns the end of a session that does not try again after cause: an
// [*Error], or io.EOF after the orderly end of a stream.
func (s *Session) exhausted(cause error) error {
	switch {
	case cause != io.EOF: //nolint:errorlint // see lost
		return cause
	case s.call.cfg.Terminal != nil:
		return s.fail(ErrTruncated)
	}
	return errEnd
}

// fail returns err as the end of the session.
func (s *Session) fail(err error) *Error {
	if own, ok := errors.AsType[*Error](err); ok { // has its response already
		return &Error{own.Response, own.Body, err}
	}
	return newError(s.Call(), s.buffer.bytes(), err) //nolint:bodyclose // it is the session's
}

// stopped returns what the session ends with if it was closed, or its caller's
// context is done, and else nil.
func (s *Session) stopped() error {
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

// blame returns what SSE returns for err of its block. ctx is the caller's.
func (s *Session) blame(ctx context.Context, err error) error {
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

// Call returns the response of the last connection that had one, to look at: a
// Read of its body would take from the session. It is nil for a session of [Read].
func (s *Session) Call() *http.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resp
}

// LastEventID returns the id to resume after, as [WithLastEventID] takes it: that
// of the last event that was handed out, if the stream did not change it since.
func (s *Session) LastEventID() string { return s.dec.LastEventID() }

// Close ends the session and its connection at once, from whatever it is doing. An
// Incoming that runs in another goroutine ends with [ErrClosed]. Close may be called
// more than once; its error is always nil.
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

func (s *Session) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading {
		return errors.New("client: Incoming is running already, and a stream has one reader")
	}
	s.reading = s.err == nil
	return s.err
}

// finish makes err what the session ended with, unless it has ended already.
func (s *Session) finish(err error) {
	s.cancel(ErrClosed)
	s.drop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = false
	if s.err == nil {
		s.err = err
	}
}

// drop gives up the connection, if there is one.
func (s *Session) drop() { s.use(nil, nil) }

// use makes c the connection in place of the one that is, and resp its response. A
// nil resp leaves the last.
func (s *Session) use(c *conn, resp *http.Response) {
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
