package sse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/engine"
)

// ServerSession is one client's open stream, seen from the server. Its methods
// are safe for concurrent use; each send goes out whole, and at once.
type ServerSession struct {
	// What each write needs stands first and together: at a low rate, the time of a write
	// that is ours is that of fetching memory.

	// mu is the write path: whoever holds it may write to w, and nobody else. It
	// covers the fields that follow, but for the atomic ones.
	mu        sync.Mutex
	ended     atomic.Bool // ctx is done, or will be in a moment
	state     sessionState
	isOpen    bool          // the first write has gone out
	torn      bool          // a write failed, and may have left half a frame behind
	beating   bool          // a beat is under way
	beatAgain bool          // another is to follow it at once
	toDetach  bool          // the head says that the connection will not be used again
	lastWrite time.Duration // since began
	events    int64
	bytes     int64
	detached  atomic.Pointer[detachment] // set under mu and overMu, once
	*exchange
	route *route
	began time.Duration // since epoch
	major int           // of the version of HTTP

	heartbeat *Heartbeat
	timer     *time.Timer
	wheel     *wheel       // it is on, in place of a timer
	owner     engine.Owner // the hub that has the session

	call   call
	ctx    context.Context // a child of call
	cancel context.CancelCauseFunc
	direct deadlines // of the innermost writer known

	hooks sync.WaitGroup // calls of OnOpen and OnSend that are under way

	// over guards against an interruption that comes when the handler has returned
	// and the connection may serve another request.
	overMu sync.Mutex
	over   bool
}

// exchange is the part of a session that belongs to net/http's serving of the request.
// A detached session has none.
type exchange struct {
	w     http.ResponseWriter // the outermost one: all bytes and flushes go through it
	flush func() error        // w's
	guard *guard              // nil on a request that did not come through one
	base  context.Context     // the request's own: done when the client is gone
	inner context.Context     // the request's, as the middleware have made it

	// ServerSession.mu guards these.
	headerTaken bool          // the handler has the header in its hands: no opening behind its back
	lastHeader  http.Header   // a copy, for when w is out of reach
	watchdog    *time.Timer   // of a write on HTTP/2
	rearmAt     time.Duration // since began: when the write deadline is to be set anew
}

// epoch is when the process began, or nearly so: a time since then takes a third of a
// time.Time.
var epoch = time.Now()

// age is how long s has been there.
func (s *ServerSession) age() time.Duration { return time.Since(epoch) - s.began }

// deadlines is a connection, or the way to it.
type deadlines interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

type sessionState uint8

const (
	pending   sessionState = iota // nothing is written, the status is open
	streaming                     // the head is written
	finished                      // w must not be touched anymore
)

// writeKind is what a write is for.
type writeKind uint8

const (
	ofHandler   writeKind = iota // a send
	ofOpening                    // nothing but to open the session
	ofOpenDelay                  // likewise, unless the handler has the header
	ofHeartbeat
)

// Send sends e, opening the session if it is not open yet. An event that has only
// an ID moves the client's last event id without being shown: a position to come
// back to before the first event.
//
// An event that cannot be encoded is refused with an error that wraps
// [*event.FieldError], and nothing is sent. An error of the connection, which
// matches [ErrWriteTimeout] if the client is too slow, ends the session. After the
// end every send fails with an error that matches [ErrClosed] and the cause.
func (s *ServerSession) Send(e Event) error {
	buf := frames.get()
	frame, err := e.AppendText(buf.b)
	if err != nil {
		err = fmt.Errorf("sse: send: %w", err)
	} else {
		buf.b = frame
		err = s.write(frame, 1, ofHandler)
	}
	frames.put(buf) // not deferred: what a panic leaves behind is the garbage collector's
	return err
}

// Comment sends a comment, which no client shows. See Send for errors.
func (s *ServerSession) Comment(text string) error {
	return s.send(func(dst []byte) ([]byte, error) { return event.AppendComment(dst, text) })
}

func (s *ServerSession) send(encode func(dst []byte) ([]byte, error)) error {
	buf := frames.get()
	defer frames.put(buf)
	frame, err := encode(buf.b)
	if err != nil {
		return fmt.Errorf("sse: send: %w", err)
	}
	buf.b = frame
	return s.write(frame, 1, ofHandler)
}

// Open opens the session, if it is not open: the client gets the head of the
// response, and a comment, since some proxies hold a head back until more comes.
func (s *ServerSession) Open() error {
	return s.write(nil, 0, ofOpening)
}

// Call returns the request. It stays valid, with chi's URL parameters, after the
// handler has returned. Its context is that of the session.
//
// Read a request body before the session opens: what is not read by then may be
// lost over HTTP/1.1, where net/http reads it away, and the status is gone. A body
// that is slow to come therefore calls for a longer OpenDelay, or a negative one.
//
// Of a session that a hub serves, Call returns a copy made anew each time, without a
// body. If it is detached, the context of both has chi's route context, but none of the
// values that middleware have put in.
func (s *ServerSession) Call() *http.Request { return s.call.request(s.ctx) }

// Header returns the response header. Until the session opens, it can be changed,
// from the handler's goroutine; the session then waits for the handler to open
// it, be it past its OpenDelay. Later it is a copy.
//
// The headers of the stream itself are set at the opening, whatever they were. Of a
// session that a hub has detached the copy is empty.
func (s *ServerSession) Header() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case streaming:
		if s.detached.Load() != nil {
			return http.Header{}
		}
		return s.w.Header().Clone()
	case finished: // the writer is net/http's again, whose HTTP/2 one panics
		if s.detached.Load() != nil {
			return http.Header{}
		}
		return s.lastHeader.Clone()
	}
	s.headerTaken = true
	return s.w.Header()
}

// LastEventID returns the id of the last event that the client had before it
// reconnected, from the Last-Event-ID header, or "".
func (s *ServerSession) LastEventID() string { return s.Call().Header.Get("Last-Event-ID") }

// Context returns the session's context. It is done when the session ends; its
// cause is then ErrClosed (Close, or the handler's return), ErrClientGone,
// ErrCanceled, ErrShutdown, the error of the write that failed, or a *PanicError.
//
// It has the values of the request's context (but see Call), and no deadline.
func (s *ServerSession) Context() context.Context { return s.ctx }

// Done is closed when the session ends. It is Context().Done().
func (s *ServerSession) Done() <-chan struct{} { return s.ctx.Done() }

// Close ends the session. The handler's return does so as well; Close is for
// other goroutines, and for what the handler calls. It sends no event. The
// response ends when the handler returns. Close always returns nil.
func (s *ServerSession) Close() error {
	s.end(ErrClosed)
	return nil
}

// end ends the session. The first cause holds.
func (s *ServerSession) end(cause error) {
	s.ended.Store(true) // before anybody can see that ctx is done, and send
	s.cancel(cause)
	s.finishIfDetached()
}

// ServeHTTP runs a session of the route.
func (rt *route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g := guardFrom(r.Context())
	if g != nil {
		g.active = true
	}
	if r.Method == http.MethodHead {
		writeHead(w, r, g, false)
		return
	}
	s := rt.newSession(w, r, g)
	defer func() {
		if s.detached.Load() == nil {
			s.cancel(ErrClosed)
		}
	}()
	if err := s.canStream(); err != nil {
		s.logger().Error("sse: request cannot be answered by a stream", "error", err)
		s.finishRefused()
		s.renderError(&StatusError{http.StatusInternalServerError, err})
		return
	}
	if err := rt.plugin.admit(s); err != nil {
		s.logger().Log(s.ctx, refusalLevel(err), "sse: session refused", "error", err)
		s.finishRefused()
		s.sendAway(err)
		return
	}
	s.run()
}

func (rt *route) newSession(w http.ResponseWriter, r *http.Request, g *guard) *ServerSession {
	s := &ServerSession{route: rt, heartbeat: &rt.heartbeat, major: r.ProtoMajor, began: time.Since(epoch)}
	s.exchange = &exchange{w: w, flush: flusher(w), guard: g, inner: r.Context(), base: r.Context()}
	direct := w
	if g != nil {
		s.base, direct = g.base, g.ResponseWriter
	}
	s.direct = http.NewResponseController(direct)
	live := s.call.init(r)
	s.ctx, s.cancel = context.WithCancelCause(&s.call)
	// Of the copies that r is, this is the only one that the session keeps alive.
	live.request = r.WithContext(s.ctx)
	if g != nil && g.encodings != nil {
		r.Header["Accept-Encoding"] = g.encodings // the handler sees what the client has sent
	}
	return s
}

// run runs the handler, between what must be before and after it.
func (s *ServerSession) run() {
	base, inner := s.base, s.inner // the exchange may be gone when they are
	stopBase := context.AfterFunc(base, func() { s.onBaseDone(base) })
	var stopInner func() bool
	if inner.Done() != base.Done() {
		stopInner = context.AfterFunc(inner, func() { s.onInnerDone(inner, base) })
	}
	// Lift what http.Server's WriteTimeout has set for a response of ordinary length.
	// (net/http lifts ReadTimeout itself when the body has been read.)
	if err := s.direct.SetWriteDeadline(time.Time{}); err != nil && s.inner.Value(http.ServerContextKey) != nil {
		s.warnOfDeadlines(err)
	}
	s.mu.Lock()
	s.setTimer(s.route.openDelay)
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
		if s.detached.Load() != nil {
			s.leaveDetached(err)
			return
		}
		s.finish(err, panicked)
	}()
	err = s.route.handler(s)
	returned = true
}

// warnOfDeadlines says, once for a plugin, that what stands outside of it bars the
// way to the connection. Streams work all the same, until one client is slow.
func (s *ServerSession) warnOfDeadlines(err error) {
	w := s.w
	if s.guard != nil {
		w = s.guard.ResponseWriter
	}
	s.route.plugin.deadlineWarning.Do(func() {
		s.logger().Warn("sse: writes cannot be bounded in time, and http.Server.WriteTimeout, if it is set, ends streams; "+
			"the writer that the plugin gets needs a method Unwrap", "writer", fmt.Sprintf("%T", innermost(w)), "error", err)
	})
}

// onBaseDone is called when the request's own context is done. It is so as well
// when a write has failed: then the writer knows better why the session ends.
func (s *ServerSession) onBaseDone(base context.Context) {
	if errors.Is(base.Err(), context.DeadlineExceeded) {
		return // of a Timeout that stands outside the plugin; the next write shows who is there
	}
	if !s.mu.TryLock() {
		s.interruptWrite()
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	s.end(ErrClientGone)
}

// onInnerDone is called when a context is done that a middleware has made. Its
// deadline is for ordinary responses and does not end a stream; its cancellation
// does. (One that comes when a deadline has passed can no longer be seen: the
// context is done already.)
func (s *ServerSession) onInnerDone(inner, base context.Context) {
	switch {
	case errors.Is(inner.Err(), context.DeadlineExceeded):
	case base.Err() != nil:
		s.onBaseDone(base)
	default:
		s.end(fmt.Errorf("%w: %w", ErrCanceled, context.Cause(inner)))
	}
}

// interruptWrite makes a write that is under way fail.
func (s *ServerSession) interruptWrite() {
	s.overMu.Lock()
	defer s.overMu.Unlock()
	if !s.over {
		if d := s.detached.Load(); d != nil {
			d.interrupted.Store(true)
		}
		_ = s.direct.SetWriteDeadline(time.Unix(1, 0)) // without deadlines it must fail by itself
	}
}

// write opens the session if need be and writes frame, which holds so many events;
// a nil frame only opens.
func (s *ServerSession) write(frame []byte, events int, kind writeKind) error {
	var sent Sent
	opened, err := s.writeFrame(frame, events, kind, &sent)
	if opened || sent.Bytes > 0 {
		s.callHooks(sent, opened)
	}
	return err
}

// callHooks tells of a write that writeFrame has announced to finish, so that
// OnClose comes last.
func (s *ServerSession) callHooks(sent Sent, opened bool) {
	defer s.hooks.Done()
	cfg := &s.route.plugin.cfg
	if opened && cfg.OnOpen != nil {
		cfg.OnOpen(s)
	}
	if cfg.OnSend != nil {
		cfg.OnSend(s, sent)
	}
}

// writeFrame is what write does under mu: all that reaches the client passes here. If
// OnSend is to be called, it sets sent to what for. (To return it would be to copy it
// twice for each event, mostly for nobody.)
func (s *ServerSession) writeFrame(frame []byte, events int, kind writeKind, sent *Sent) (opened bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == finished || s.ended.Load() {
		return false, s.closedError()
	}
	opens := s.state == pending
	if opens && kind == ofOpenDelay && (s.headerTaken || s.beating) {
		return false, nil
	}
	if opens {
		frame = s.openLocked(frame)
	} else if frame == nil {
		return false, nil
	}
	err = s.transmit(frame, s.route.writeTimeout)
	if err == nil && opens {
		err = s.opened()
	}
	err = s.account(len(frame), events, err)
	opened = opens && err == nil
	if s.route.plugin.cfg.OnSend != nil {
		*sent = s.sent(len(frame), kind, err)
	}
	if opened || sent.Bytes > 0 {
		s.hooks.Add(1)
	}
	return opened, err
}

// written accounts for a write of n bytes that went as err says. If OnSend is to be
// called, sent is what for.
func (s *ServerSession) written(n, events int, kind writeKind, err error) (sent Sent, _ error) {
	err = s.account(n, events, err)
	if s.route.plugin.cfg.OnSend != nil {
		sent = s.sent(n, kind, err)
	}
	return sent, err
}

func (s *ServerSession) account(n, events int, err error) error {
	if err == nil {
		s.bytes += int64(n)
		s.events += int64(events)
		return nil
	}
	if s.isGone(err) {
		err = fmt.Errorf("%w: %w", ErrClientGone, err)
	}
	s.torn = true
	s.end(err)
	return err
}

func (s *ServerSession) sent(n int, kind writeKind, err error) Sent {
	return Sent{Bytes: n, Duration: s.age() - s.lastWrite, Heartbeat: kind == ofHeartbeat, Err: err}
}

// isGone reports whether a write failed with err because the client has left.
func (s *ServerSession) isGone(err error) bool {
	switch {
	case errors.Is(err, ErrWriteTimeout):
		return false
	case s.detached.Load() != nil:
		return !errors.Is(err, os.ErrDeadlineExceeded) // else it was interrupted
	}
	return s.base.Err() != nil // net/http ends it with the connection
}

// openLocked writes the head, and returns the first frame with what belongs before
// it. The head is written before anything is flushed: a flush would write one of
// its own.
func (s *ServerSession) openLocked(frame []byte) []byte {
	s.state = streaming
	if s.major > 1 && s.Call().ContentLength != 0 {
		_ = s.direct.SetReadDeadline(time.Time{}) // HTTP/2 can go on reading a body, beyond http.Server.ReadTimeout
	}
	s.writeHead()
	var first []byte
	if retry := s.route.retry; retry != 0 {
		first, _ = Event{Retry: retry}.AppendText(first) // checked when it was set
	}
	if frame == nil {
		first, _ = event.AppendComment(first, "open") // a constant
	}
	if first == nil {
		return frame
	}
	return append(first, frame...)
}

func (s *ServerSession) writeHead() { writeHead(s.w, s.Call(), s.guard, s.toDetach) }

func writeHead(w http.ResponseWriter, r *http.Request, g *guard, last bool) {
	setStreamHeader(w.Header(), r, last)
	if g.mayBeCompressed(r) {
		w.Header().Set("Content-Encoding", "identity")
	}
	w.WriteHeader(http.StatusOK)
}

// opened follows the first write.
func (s *ServerSession) opened() error {
	if s.guard != nil && (s.guard.written == 0 || !s.guard.flushed) {
		return fmt.Errorf("%w: a middleware keeps back what is flushed (the handler writes to a %T)", ErrUnsupported, s.w)
	}
	s.isOpen = true
	switch {
	case s.beating: // it sets the timer when it is done
	case s.heartbeat.custom() && s.heartbeat.Period > 0:
		s.setTimer(time.Nanosecond) // the first beat is due
	default:
		s.setTimer(s.heartbeat.Period)
	}
	return nil
}

// transmit writes and flushes frame within timeout.
//
// On HTTP/1.x the deadline is the connection's. It does no harm between writes,
// and net/http lifts it in the end, so it is left armed, and set anew only when a
// sixteenth of it is used up: setting it for each event costs a twelfth of a
// small one. On HTTP/2 an armed deadline would kill the idle stream, and setting one
// is a message to the connection's goroutine; there a timer sets it when it is
// due, which is stopped after the write.
func (s *ServerSession) transmit(frame []byte, timeout time.Duration) error {
	now := s.age()
	s.lastWrite = now
	if d := s.detached.Load(); d != nil {
		return s.writeError(d.write(frame, timeout), now, timeout)
	}
	if s.major != 1 {
		s.watch(timeout)
		defer s.watchdog.Stop()
	} else if now >= s.rearmAt {
		s.rearmAt = now + timeout/16
		_ = s.direct.SetWriteDeadline(time.Now().Add(timeout)) // a writer without deadlines has no client that could be slow
	}
	_, err := s.w.Write(frame)
	if err == nil {
		err = s.flush()
	}
	return s.writeError(err, now, timeout)
}

// writeError says what err means for a write that began at now.
func (s *ServerSession) writeError(err error, now, timeout time.Duration) error {
	if err == nil {
		return nil
	}
	overdue := s.age() >= now+timeout-timeout/16 // else it was interrupted
	if overdue && (errors.Is(err, os.ErrDeadlineExceeded) || s.major != 1) {
		return fmt.Errorf("%w after %v: %w", ErrWriteTimeout, timeout, err)
	}
	return fmt.Errorf("sse: write: %w", err)
}

// watch sets the timer of a write on HTTP/2. When it fires it says first why the
// session ends: the reset of the stream looks as if the client had left.
func (s *ServerSession) watch(timeout time.Duration) {
	if s.watchdog == nil {
		s.watchdog = time.AfterFunc(timeout, func() {
			s.end(fmt.Errorf("%w after %v", ErrWriteTimeout, s.route.writeTimeout))
			s.interruptWrite()
		})
		return
	}
	s.watchdog.Reset(timeout)
}

// canStream returns an error that matches ErrUnsupported if what is written would
// not reach the client as it is flushed.
func (s *ServerSession) canStream() error {
	w := innermost(s.w)
	if s.guard != nil && canFlush(w) {
		w = innermost(s.guard.ResponseWriter) // what stands outside, were it out of sight from s.w
	}
	if encoding := s.w.Header().Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return fmt.Errorf("%w: a middleware has set Content-Encoding to %s beforehand; put it behind sse.Install, or keep it off with middleware.Except", ErrUnsupported, encoding)
	}
	if canFlush(w) {
		return nil
	}
	return fmt.Errorf("%w: a %T, which has no Flush, stands between the handler and the connection", ErrUnsupported, w)
}

func canFlush(w http.ResponseWriter) bool {
	switch w.(type) {
	case http.Flusher, interface{ FlushError() error }:
		return true
	}
	return false
}

// innermost unwraps w as far as http.ResponseController would.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// flusher returns the flush of w, which is that of http.ResponseController without
// the search for it each time.
func flusher(w http.ResponseWriter) func() error {
	switch f := w.(type) {
	case interface{ FlushError() error }:
		return f.FlushError
	case http.Flusher:
		return func() error { f.Flush(); return nil }
	}
	return http.NewResponseController(w).Flush
}

// setStreamHeader sets the header of every stream (WHATWG HTML §9.2.5, RFC 9111
// §5.2.2), and takes away what a middleware may have set for another body.
// last says that the connection is not going to be used again (RFC 9112 §9.6).
func setStreamHeader(h http.Header, r *http.Request, last bool) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx
	if r.ProtoMajor == 1 && r.ProtoMinor >= 1 {
		h.Set("Connection", "keep-alive")
		if last {
			h.Set("Connection", "close")
		}
	} else {
		h.Del("Connection") // RFC 9113 §8.2.2; and HTTP/1.0 ends a stream by closing
	}
	for _, name := range [...]string{"Content-Length", "Content-Encoding", "Transfer-Encoding", "Trailer", "Etag", "Last-Modified", "Expires", "Pragma"} {
		h.Del(name)
	}
}

// finish ends the session when its handler is through, with err if it returned
// one or panicked.
func (s *ServerSession) finish(err error, panicked any) {
	end, sent, opened, broken := s.conclude(err)
	s.cancel(ErrClosed)
	s.retire(broken)
	for _, step := range s.settle(end, sent) {
		step()
	}
	switch {
	case broken:
		s.guard.abort()
		panic(http.ErrAbortHandler)
	case opened:
		s.guard.seal()
	case panicked != nil:
		panic(panicked) // no one has seen anything: a middleware may answer
	default:
		s.answer(end)
	}
}

// conclude says the last words, which sent tells of, and after which nothing is
// written.
func (s *ServerSession) conclude(err error) (end End, sent []Sent, opened, broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	end = s.endOf(err)
	opened = s.state == streaming
	end.Opened = s.isOpen
	broken = opened && (s.torn || end.breaks())
	d := s.detached.Load()
	if d != nil {
		d.interrupted.Store(false)
	}
	if opened && !broken {
		if farewell := s.farewell(end); farewell.Bytes > 0 {
			sent = append(sent, farewell)
			broken = farewell.Err != nil
		}
		if d != nil && !broken && (end.Reason != EndClientGone || d.rest == nil) { // who has gone is not waited for
			sent = append(sent, s.endResponse(d)...)
		}
	}
	if d == nil {
		s.lastHeader = s.w.Header().Clone()
	}
	s.state = finished
	end.Duration, end.Events, end.Bytes = s.age(), s.events, s.bytes
	return end, sent, opened, broken
}

// settle returns the steps by which the session leaves the plugin and its end is made
// known. Hooks may panic.
func (s *ServerSession) settle(end End, sent []Sent) []func() {
	cfg := &s.route.plugin.cfg
	return []func(){
		func() {
			s.route.plugin.dismiss(s)
			s.hooks.Wait()
		},
		func() {
			for _, one := range sent {
				if cfg.OnSend != nil {
					cfg.OnSend(s, one)
				}
			}
		},
		func() { s.log(end) },
		func() {
			if cfg.OnClose != nil {
				cfg.OnClose(s, end)
			}
		},
	}
}

// endOf says what ended the session, given what its handler returned.
func (s *ServerSession) endOf(err error) End {
	if p, ok := errors.AsType[*PanicError](err); ok {
		return End{Reason: EndPanic, Err: p}
	}
	if d := s.detached.Load(); d != nil && d.failed {
		return s.ownEnd(err)
	}
	cause := context.Cause(s.ctx)
	follows := err == nil || cause != nil && (errors.Is(err, cause) || errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled))
	if cause == nil || cause == ErrClosed && !follows { //nolint:errorlint // the sentinel itself
		return s.ownEnd(err)
	}
	end := End{Reason: s.reasonOf(cause)}
	switch {
	case end.Reason == EndClientGone, cause == ErrClosed, cause == ErrShutdown: //nolint:errorlint // the sentinels themselves, which say it all
	default:
		end.Err = cause
	}
	if !follows {
		end.Err = errors.Join(end.Err, err)
	}
	return end
}

// ownEnd is the end by the handler itself.
func (s *ServerSession) ownEnd(err error) End {
	if err == nil {
		return End{Reason: EndReturned}
	}
	if _, ok := errors.AsType[*StatusError](err); ok && s.state == pending {
		return End{Reason: EndStatus, Err: err}
	}
	return End{Reason: EndHandlerError, Err: err}
}

// reasonOf returns the reason for an end by cause, which came before the handler's.
func (s *ServerSession) reasonOf(cause error) EndReason {
	for _, r := range [...]struct {
		err    error
		reason EndReason
	}{
		{ErrClosed, EndClosed},
		{ErrClientGone, EndClientGone},
		{ErrShutdown, EndShutdown},
		{ErrCanceled, EndCanceled},
		{ErrSlow, EndSlow},
		{ErrWriteTimeout, EndWriteTimeout},
		{ErrUnsupported, EndWriteError},
	} {
		if errors.Is(cause, r.err) {
			return r.reason
		}
	}
	if _, ok := errors.AsType[*PanicError](cause); ok {
		return EndPanic
	}
	return EndWriteError
}

// breaks reports whether the end must look broken to the client.
func (e End) breaks() bool {
	switch e.Reason {
	case EndHandlerError, EndPanic, EndWriteTimeout, EndWriteError, EndCanceled:
		return true
	}
	return false
}

// farewell tells the clients of a server that shuts down when to come back.
func (s *ServerSession) farewell(end End) (sent Sent) {
	retry := s.route.plugin.comeback(s.route.retry)
	if end.Reason != EndShutdown || retry == 0 {
		return sent
	}
	frame, _ := Event{Retry: retry}.AppendText(nil) // a valid one
	if s.detached.Load() == nil {
		s.rearmAt = 0 // another timeout, and an interruption may have been before
	}
	err := s.transmit(frame, min(shutdownGrace, s.route.writeTimeout))
	if err == nil {
		s.bytes += int64(len(frame))
	}
	return Sent{Bytes: len(frame), Duration: s.age() - s.lastWrite, Err: err}
}

// retire leaves the connection to net/http: no interruption reaches it from now
// on, and what net/http still writes of the response is bounded. Of a broken
// stream it cannot write anything, so that the end is not made whole by a
// middleware that swallows the panic.
func (s *ServerSession) retire(broken bool) {
	s.overMu.Lock()
	defer s.overMu.Unlock()
	s.over = true
	deadline := time.Now().Add(s.route.writeTimeout)
	if broken {
		deadline = time.Unix(1, 0)
	}
	_ = s.direct.SetWriteDeadline(deadline) // where there are none, the panic breaks the stream
}

func (s *ServerSession) finishRefused() {
	s.state = finished
	s.retire(false)
}

// answer answers a request whose session did not open.
func (s *ServerSession) answer(end End) {
	switch end.Reason {
	case EndReturned, EndClosed: // an empty stream
		s.writeHead()
		_ = s.flush() // net/http reports what is wrong with the connection to its own log
		s.guard.seal()
	case EndStatus, EndHandlerError, EndPanic:
		s.renderError(end.Err)
	case EndShutdown:
		s.sendAway(ErrShutdown)
	case EndClientGone:
	default:
		s.renderError(&StatusError{http.StatusServiceUnavailable, end.Err})
	}
}

// renderError answers with err. The request is a copy, since chi/render writes to
// it.
func (s *ServerSession) renderError(err error) {
	s.route.plugin.cfg.RenderError(s.w, s.Call().WithContext(s.inner), err)
}

// sendAway answers a request for which there is no session now.
func (s *ServerSession) sendAway(why error) {
	retry := s.route.plugin.comeback(s.route.retry)
	if retry == 0 {
		retry = cmp.Or(max(0, s.route.retry), time.Second)
	}
	if !isEventSource(s.Call()) {
		seconds := int64((retry + time.Second - 1) / time.Second)
		s.w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		s.renderError(&StatusError{http.StatusServiceUnavailable, why})
		return
	}
	// EventSource gives up for good on any status but 200 (WHATWG HTML §9.2.3).
	s.writeHead()
	frame, _ := Event{Retry: retry, Comment: strings.TrimPrefix(why.Error(), "sse: ")}.AppendText(nil) // a valid one
	if _, err := s.w.Write(frame); err == nil {
		_ = s.flush() // it was a courtesy
	}
	s.guard.seal()
}

// isEventSource reports whether the request is that of a browser's EventSource.
func isEventSource(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Accept") == "text/event-stream" &&
		(r.Header.Get("Sec-Fetch-Mode") != "" || strings.HasPrefix(r.UserAgent(), "Mozilla/"))
}

func (s *ServerSession) closedError() error {
	if s.ended.Load() {
		<-s.ctx.Done() // and so has a cause
	}
	cause := context.Cause(s.ctx)
	if cause == nil || cause == ErrClosed { //nolint:errorlint // the sentinel itself
		return ErrClosed
	}
	return &closedError{cause}
}

func (s *ServerSession) logger() *slog.Logger {
	return s.route.plugin.cfg.Logger.With("pattern", chi.RouteContext(s.ctx).RoutePattern(), "remote", s.Call().RemoteAddr)
}

func refusalLevel(why error) slog.Level {
	if errors.Is(why, ErrShutdown) {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

func (s *ServerSession) log(end End) {
	level := end.level()
	if logger := s.route.plugin.cfg.Logger; !logger.Enabled(s.ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.Any("end", end)}
	if p, ok := errors.AsType[*PanicError](end.Err); ok && level > slog.LevelDebug {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	s.logger().LogAttrs(s.ctx, level, "sse: session ended", attrs...)
}

// frames are the buffers that events are encoded in.
var frames framePool

type framePool struct{ pool sync.Pool }

type frame struct{ b []byte }

func (p *framePool) get() *frame {
	if f, ok := p.pool.Get().(*frame); ok {
		f.b = f.b[:0]
		return f
	}
	return &frame{make([]byte, 0, 512)}
}

// put takes f back, unless a large event has blown it up.
func (p *framePool) put(f *frame) {
	if cap(f.b) <= 64<<10 {
		p.pool.Put(f)
	}
}
