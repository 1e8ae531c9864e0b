package sse

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse/internal/socket"
)

// httpWire writes to the http.ResponseWriter that the route was called with. It bounds each
// write by a deadline of the connection (HTTP/1.x) or of the HTTP/2 stream.
//
// It also holds what serve.go and refuse.go need of the request. A session that detaches
// drops all of it.
type httpWire struct {
	me      wire // the wire itself; see ServerSession.setWire
	session *ServerSession
	w       http.ResponseWriter     // the outermost writer: all bytes and flushes go through it
	flush   flushWriter             // flushes w
	direct  http.ResponseController // the innermost writer that is known, for deadlines
	guard   *guard                  // nil if the request did not come through one
	base    context.Context         // the server's context of the request: done when the client has left
	inner   context.Context         // the request's context, as the middleware has made it
	conn    *connection             // nil if the server is not attached
	major   int                     // of the HTTP version
	timeout time.Duration           // the session's WriteTimeout
	http10  bool                    // the version is HTTP/1.0
	last    bool                    // the head says, or is going to say, that the connection is not used again
	detach  bool                    // a hub is going to take the connection once the session is open
	reused  bool                    // the head has said that the connection can be used again: nobody may take it
	packed  bool                    // a middleware compresses the stream, although the head asked it not to

	rearmAt     time.Duration // HTTP/1.x: when to set the write deadline anew
	watchdog    *time.Timer   // HTTP/2: sets the deadline when it is over
	interrupted atomic.Bool   // set before the deadline is
	taken       atomic.Uint64 // what parts returns

	keeping chan struct{} // not nil while the connection is being hijacked: write only keeps what it is given
	kept    []byte        // no more than mostKept, or one frame

	mu         sync.Mutex // guards what follows
	begun      bool       // conn knows of the stream
	released   bool       // the connection may be serving another request
	lastHeader *savedHeader

	headWritten bool
	ownHeader   http.Header // what header has returned until the head is written; nil until it is called
}

func newHTTPWire(w http.ResponseWriter, r *http.Request, g *guard, timeout time.Duration) *httpWire {
	x := &httpWire{
		w: w, flush: flusher(w), guard: g, base: r.Context(), inner: r.Context(),
		major: r.ProtoMajor, http10: r.ProtoMajor == 1 && r.ProtoMinor == 0, timeout: timeout, rearmAt: math.MinInt64,
	}
	direct := w
	if g != nil {
		x.base, direct = g.base, g.ResponseWriter
	}
	if g == nil {
		x.flush = outerFlusher(w)
	}
	x.direct = *http.NewResponseController(direct)
	x.conn = connectionOf(x.base)
	return x
}

func (x *httpWire) self() *wire {
	x.me = x
	return &x.me
}

// open writes the head before it flushes anything: a flush would write a head of its own.
// It fails if no byte of the first frame, or no flush, has reached the guard.
//
// It lifts the read deadline. Over HTTP/1.x net/http reads in order to notice that the client
// leaves, and a deadline of a middleware would look like that. Over HTTP/2 the handler may go
// on reading a body, beyond http.Server.ReadTimeout.
//
// Behind middleware, it runs on a stack of its own. net/http needs more than 3 KiB of stack to
// write a head, which comes on top of the frames of the middleware, the handler and the session.
// That would double the stack of the handler's goroutine to 16 KiB for as long as the session
// lives. Without middleware it does not, and the other stack would take 7 µs. A writer that is
// not the guard's is the sign of middleware.
func (x *httpWire) open(r *http.Request, first []byte, began, timeout time.Duration) error {
	if x.w == http.ResponseWriter(x.guard) {
		return x.openHere(r, first, began, timeout)
	}
	return onOtherStack(func() error { return x.openHere(r, first, began, timeout) })
}

// onOtherStack calls f on a stack that is dropped afterwards. A coroutine takes the place of its
// caller at once, which a goroutine does not. A panic of f, such as one of a middleware's writer,
// goes on in the caller.
func onOtherStack(f func() error) (err error) {
	next, stop := iter.Pull(func(func(struct{}) bool) { err = f() })
	defer stop()
	next()
	return err
}

func (x *httpWire) openHere(r *http.Request, first []byte, began, timeout time.Duration) error {
	if x.guard != nil {
		x.guard.opened.Store(true)
	}
	if err := x.begin(); err != nil {
		return err
	}
	if err := x.writeHead(r); err != nil {
		return err
	}
	x.reused = x.major == 1 && !x.http10 && !x.last && !r.Close
	if err := x.write(first, began, timeout); err != nil {
		return err
	}
	if x.guard.heldBack() {
		return fmt.Errorf("%w: a middleware holds back what is flushed (the handler writes to a %T)", ErrUnsupported, x.w)
	}
	x.packed = isCompressed(x.w.Header())
	return nil
}

// isCompressed reports whether the head of a stream says that it is compressed.
func isCompressed(h http.Header) bool {
	v := h["Content-Encoding"]
	return len(v) > 0 && v[0] != "" && v[0] != "identity"
}

// begin prepares the connection for a stream.
func (x *httpWire) begin() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.released {
		return errSealed
	}
	_ = x.direct.SetReadDeadline(time.Time{}) // a writer without deadlines has none
	if x.conn != nil {
		x.begun = true
		x.conn.beginStream(x.timeout)
		if x.http10 {
			x.conn.resetOnClose(true)
		}
	}
	return nil
}

func (x *httpWire) writeHead(r *http.Request) (err error) {
	x.useOwnHeader()
	x.headWritten = true
	x.last, err = writeHead(x.w, r, x.guard, x.last)
	return err
}

// useOwnHeader sets the response header to what header has returned.
func (x *httpWire) useOwnHeader() {
	own := x.ownHeader
	if own == nil {
		return
	}
	x.ownHeader = nil
	h := x.w.Header()
	if x.guard.enter() {
		clear(h)
		maps.Copy(h, own)
		x.guard.leave()
	}
}

// write writes frame in parts, each of which has a deadline of its own: a client that takes
// one part within timeout is alive, however large the frame is. It flushes once, at the end.
func (x *httpWire) write(frame []byte, began, timeout time.Duration) error {
	if x.keeping != nil {
		return x.keep(frame)
	}
	if x.http10 && x.conn == nil {
		return x.writeHTTP10(frame, began, timeout)
	}
	for size := partSize; len(frame) > size; {
		if err := x.writePart(frame[:size], began, timeout, false); err != nil {
			return err
		}
		x.taken.Add(1)
		frame = frame[size:]
		now := sinceEpoch()
		if size = partSize; now-began < min(timeout, shutdownGrace)/fastShare {
			size = fastPartSize
		}
		began = now
	}
	return x.writePart(frame, began, timeout, true)
}

// mostKept is how many bytes a session keeps while it detaches.
const mostKept = 1 << 20

// keep keeps frame until the session has detached.
func (x *httpWire) keep(frame []byte) error {
	if len(x.kept) > 0 && len(x.kept)+len(frame) > mostKept {
		return fmt.Errorf("sse: write: %d bytes were sent while http.Server.ConnState was running; at most %d are kept", len(x.kept)+len(frame), mostKept)
	}
	x.kept = append(x.kept, frame...)
	return nil
}

// http10PartSize is the size of net/http's buffer for a response.
const http10PartSize = 2 << 10

// writeHTTP10 is write for HTTP/1.0 on a server that is not attached; an attached one resets
// the connection by itself (resetOnClose). Each part fits into net/http's buffer, so that only
// flushes reach the connection. If a Write fails there, net/http closes the connection
// itself, and the client takes that for the end of the response. After a flush that has
// failed, breakConnection can still make the end look broken.
func (x *httpWire) writeHTTP10(frame []byte, began, timeout time.Duration) error {
	for len(frame) > http10PartSize {
		if err := x.writePart(frame[:http10PartSize], began, timeout, true); err != nil {
			return err
		}
		frame, began = frame[http10PartSize:], sinceEpoch()
	}
	return x.writePart(frame, began, timeout, true)
}

// writePart bounds the write of a part by a deadline.
//
// On HTTP/1.x the deadline is the connection's. It does no harm between writes, and
// net/http lifts it in the end. So it stays set, and is set anew only when a sixteenth of
// the timeout has passed: setting it for each event costs a twelfth of a small send.
//
// On HTTP/2 a deadline that passes would end the idle stream, and to set one is a message
// to the connection's goroutine. There a timer sets the deadline when the time is up. The
// timer is stopped after the write.
//
// A middleware's Flush method may have no error to return. So the guard remembers the error
// of what has passed it.
func (x *httpWire) writePart(part []byte, began, timeout time.Duration, flush bool) error {
	if x.major != 1 {
		x.watch(timeout)
		defer x.watchdog.Stop()
	} else if began >= x.rearmAt {
		x.rearmAt = began + timeout/16
		_ = x.setWriteDeadline(time.Now().Add(timeout)) // a writer without deadlines has no slow client
	}
	_, err := x.w.Write(part)
	if err == nil && flush {
		err = x.flush.FlushError()
	}
	if err == nil {
		err = x.guard.failure()
	}
	if err == nil {
		return nil
	}
	interrupted := x.interrupted.Load()
	err = writeError(err, began, timeout, x.major != 1 || isDeadline(err))
	if x.major == 1 && !interrupted && isDeadline(err) && !errors.Is(err, ErrWriteTimeout) {
		err = fmt.Errorf("%w: %w", errOthersDeadline, err)
	}
	return err
}

// errOthersDeadline is the error of a write that failed at a deadline which somebody outside the
// plugin had put in the place of the session's.
var errOthersDeadline = errors.New("sse: a write deadline that is not the session's has passed")

// watch starts the timer of a write on HTTP/2.
func (x *httpWire) watch(timeout time.Duration) {
	if x.watchdog == nil {
		x.watchdog = time.AfterFunc(timeout, x.interrupt)
	} else {
		x.watchdog.Reset(timeout)
	}
}

// clientLeft reports true if the context of the request is done, because net/http ends it
// with the connection. It also ends it after a write has failed, for whatever reason. If the
// server's context is done, or somebody outside the plugin has canceled the request's with a
// cause, it tells nothing of the client. After a deadline of the request's context, only where
// the error comes from tells: net/http, or a middleware.
func (x *httpWire) clientLeft(err error) bool {
	switch {
	case x.base.Err() == nil, x.conn.serverDone(), errors.Is(err, ErrWriteTimeout), errors.Is(err, errOthersDeadline):
		return false
	case errors.Is(x.base.Err(), context.DeadlineExceeded):
		return x.guard == nil || x.guard.failure() != nil
	}
	return errors.Is(context.Cause(x.base), context.Canceled)
}

func (x *httpWire) clientVanished(now, timeout time.Duration) bool {
	return x.conn.vanished(now, timeout)
}

func (x *httpWire) parts() uint64 { return x.taken.Load() }

// header returns a copy of the response header, which replaces the header at the opening. The
// handler may still change it when net/http uses its own again. Once the wire is released,
// header returns the last header: the writer of HTTP/2 panics then.
func (x *httpWire) header() http.Header {
	x.mu.Lock()
	released := x.released
	x.mu.Unlock()
	switch {
	case released:
		return x.lastHeader.header()
	case x.headWritten:
		return x.w.Header()
	case x.ownHeader == nil:
		x.ownHeader = saveHeader(x.w.Header()).header()
	}
	return x.ownHeader
}

// setWriteDeadline sets the deadline of the writes that follow, unless the wire is released. An
// interruption stays.
func (x *httpWire) setWriteDeadline(t time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.released {
		return nil
	}
	if x.interrupted.Load() {
		t = longAgo
	}
	return x.direct.SetWriteDeadline(t)
}

func (x *httpWire) interrupt() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.interrupted.Store(true)
	if !x.released {
		_ = x.direct.SetWriteDeadline(longAgo) // a writer without deadlines has to fail by itself
	}
}

// allowWrite makes the next write set its deadline anew.
func (x *httpWire) allowWrite() {
	x.rearmAt = math.MinInt64
	x.interrupted.Store(false)
}

// finish does nothing: net/http ends the response when the handler has returned.
func (x *httpWire) finish(bool, time.Duration) (late lateFrames) { return late }

// release leaves the connection to net/http, and bounds what net/http still writes of the
// response. Of a broken stream net/http can write nothing, so that the end stays broken
// even if a middleware recovers from the panic that follows.
//
// Over HTTP/1.0 only the end of the connection ends a response, so a broken end needs
// breakConnection as well. After a failed write net/http has closed the connection already. So
// while a stream is open, a close is a reset.
func (x *httpWire) release(broken bool, timeout time.Duration) (linger func()) {
	x.giveBack(saveHeader(x.w.Header()), broken, timeout)
	return nil
}

// giveBack is release with the header that header then returns.
func (x *httpWire) giveBack(last *savedHeader, broken bool, timeout time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.released {
		return
	}
	x.released, x.lastHeader = true, last
	if x.begun {
		x.conn.endStream(x.timeout)
		if x.http10 && !broken {
			x.conn.resetOnClose(false)
		}
	}
	deadline := time.Now().Add(timeout)
	if broken {
		deadline = longAgo
	}
	_ = x.direct.SetWriteDeadline(deadline) // without deadlines, the panic alone breaks the stream
}

// breakConnection takes the connection of an HTTP/1.0 response, so that a reset can make its end
// look broken. It cannot if a writer outside the plugin hides the connection. What it returns
// resets the connection.
func (x *httpWire) breakConnection() (reset func()) {
	if x.http10 {
		if conn, err := x.hijack(); err == nil {
			return func() { socket.Reset(conn) }
		}
	}
	return func() {}
}

// hijack takes the connection from net/http, which works over HTTP/1.x. A writer may refuse
// that, as gin's does once a byte has been written. The one that it wraps is asked then.
func (x *httpWire) hijack() (net.Conn, error) {
	if !x.guard.enter() {
		return nil, errSealed
	}
	defer x.guard.leave()
	w := x.w
	if x.guard != nil {
		w = x.guard.ResponseWriter
	}
	for {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			x.guard.handOver()
			return conn, nil
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil, err
		}
		w = u.Unwrap()
	}
}

// drop forgets the connection after it has been hijacked.
func (x *httpWire) drop() {
	if x.http10 {
		x.conn.resetOnClose(false)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.released = true
}

// canStream returns nil if what is written and flushed reaches the client at once.
// Otherwise its error matches ErrUnsupported.
func (x *httpWire) canStream() error {
	w := innermost(x.w)
	if x.guard != nil && canFlush(w) {
		w = innermost(x.guard.ResponseWriter) // a writer outside the plugin, which x.w may not lead to
	}
	if h := x.w.Header(); isCompressed(h) {
		advice := "use it after sse.Install, or keep it off streams with middleware.Except"
		if x.guard == nil || !x.guard.stream { // Except does not know that it is a stream
			advice = "keep it off the paths of streams"
		}
		return fmt.Errorf("%w: a middleware has set Content-Encoding to %s beforehand; %s", ErrUnsupported, h["Content-Encoding"][0], advice)
	}
	if canFlush(w) {
		return nil
	}
	return fmt.Errorf("%w: a %T, which has no Flush method, is between the handler and the connection", ErrUnsupported, w)
}

func canFlush(w http.ResponseWriter) bool {
	switch w.(type) {
	case http.Flusher, interface{ FlushError() error }:
		return true
	}
	return false
}

// innermost unwraps w as far as http.ResponseController does.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// flushWriter is what flushes a writer.
type flushWriter interface{ FlushError() error }

// flusher returns what flushes w, as http.ResponseController finds it, without a search at
// each call.
func flusher(w http.ResponseWriter) flushWriter {
	switch f := w.(type) {
	case flushWriter:
		return f
	case http.Flusher:
		return silentFlusher{f}
	}
	return controller{http.NewResponseController(w)}
}

// silentFlusher flushes a writer whose Flush has no error.
type silentFlusher struct{ f http.Flusher }

func (w silentFlusher) FlushError() error {
	w.f.Flush()
	return nil
}

// outerFlusher is flusher for a writer outside of which nobody remembers errors. A writer that
// wraps another one may swallow that one's error, so the server's own is asked for it.
func outerFlusher(w http.ResponseWriter) flushWriter {
	f := flusher(w)
	if _, ok := w.(interface{ Unwrap() http.ResponseWriter }); !ok {
		return f
	}
	if inner, ok := innermost(w).(flushWriter); ok {
		return askingFlusher{f, inner}
	}
	return f
}

// askingFlusher flushes twice. The second time there is nothing left to send, but the error of
// the first.
type askingFlusher struct{ outer, inner flushWriter }

func (w askingFlusher) FlushError() error {
	if err := w.outer.FlushError(); err != nil {
		return err
	}
	return w.inner.FlushError()
}

// controller flushes a writer within another one, which it looks for at each call.
type controller struct{ c *http.ResponseController }

func (w controller) FlushError() error { return w.c.Flush() }
