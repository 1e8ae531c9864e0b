package sse

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
)

// guard is the middleware that the plugin puts before all others, and the ResponseWriter that
// they get from it. For a request that is going to be a stream it
//
//   - removes Accept-Encoding, so that no compressor after it engages, or keeps an encoder;
//   - remembers the request's context before a middleware puts a deadline on it;
//   - drops the deadlines that a middleware sets for the connection of a stream;
//   - passes on one head, and nothing after the end of the stream: chi's Timeout and
//     Recoverer write a status when the handler has returned, and other middleware a body;
//   - aborts the connection of a broken stream, which it does by a panic outside all middleware;
//   - ends a session whose handler is still running when a middleware returns; see abandon.go.
//
// The guard looks up in chi's tree whether a request is going to be a stream. Where it cannot
// know that beforehand (for a stream within a function, or for a path that
// a middleware rewrites), it does nothing until a session begins.
type guard struct {
	http.ResponseWriter             // the one that the plugin was called with
	flush               flushWriter // of ResponseWriter; nil until it is needed
	header              http.Header // of ResponseWriter, if the response is going to be a stream
	base                context.Context
	plugin              *Plugin
	nested              atomic.Pointer[Plugin] // the innermost of the plugins inside through which the request has come, or nil
	encodings           []string               // Accept-Encoding, if the guard has removed it
	depth               int32                  // number of patterns that chi had matched before the guard
	accepts             bool                   // the guard was called with Accept-Encoding
	stream              bool                   // chi's tree says that the response is going to be a stream
	wrapped             bool                   // something outside the guard may compress the response; set with active
	http1               bool

	// mu is held while anything of a stream passes. It guards sealed and aborted.

	sealed  bool // nothing passes any longer
	aborted bool // the guard aborts the connection when the handler has returned
	mu      sync.Mutex

	active     atomic.Bool              // an SSE route is answering
	opened     atomic.Bool              // the session has opened, or has tried to
	handedOver atomic.Bool              // the connection belongs to a detached session
	over       atomic.Bool              // what the guard called has returned
	passed     atomic.Uint32            // what has passed since active was set: a set of aHead, aWrite and aFlush
	wire       atomic.Pointer[httpWire] // the first wire of the session whose handler is running
	failed     atomic.Pointer[error]    // of the first write or flush that failed since active was set
}

const (
	aHead = 1 << iota
	aWrite
	aFlush
)

// pass notes that what has passed. It writes only once, since each write would cost a send some
// nanoseconds.
func (g *guard) pass(what uint32) {
	if g.passed.Load()&what != what {
		g.passed.Or(what)
	}
}

type guardKey struct{}

func guardFrom(ctx context.Context) *guard {
	g, _ := ctx.Value(guardKey{}).(*guard)
	return g
}

// guard is the middleware that makes a guard for each request.
func (p *Plugin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g := guardFrom(r.Context()); g != nil { // the request has come through another plugin, on which this one is mounted
			outer := g.nested.Swap(p)
			defer g.nested.Store(outer)
			next.ServeHTTP(w, r)
			return
		}
		encodings := r.Header["Accept-Encoding"]
		g := &guard{ResponseWriter: w, base: r.Context(), plugin: p, http1: r.ProtoMajor == 1, accepts: encodings != nil}
		if rctx := chi.RouteContext(g.base); rctx != nil {
			g.depth = int32(len(rctx.RoutePatterns))
		}
		if g.stream = p.find(r, int(g.depth)); g.stream {
			g.header = w.Header() // net/http's Header must not be called while another goroutine writes
		}
		r = r.WithContext(context.WithValue(g.base, guardKey{}, g))
		if g.stream && encodings != nil {
			g.encodings = encodings
			r.Header = maps.Clone(r.Header)
			delete(r.Header, "Accept-Encoding")
		}
		g.call(next, r)
	})
}

// call calls next. If a stream is broken, it panics when next has returned.
func (g *guard) call(next http.Handler, r *http.Request) {
	returned := false
	defer func() {
		if g.close() && returned { // otherwise there is a panic already
			panic(http.ErrAbortHandler)
		}
	}()
	next.ServeHTTP(g.writer(), r)
	returned = true
}

// activate says that an SSE route is answering.
func (g *guard) activate() {
	if g != nil {
		g.active.Store(true)
		g.wrapped = g.accepts && mayCompress(g.ResponseWriter)
	}
}

// mayBeCompressed reports whether a compressor may have engaged, around w or inside the guard.
func (g *guard) mayBeCompressed(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case g == nil:
		return r.Header.Get("Accept-Encoding") != "" && mayCompress(w)
	case g.wrapped || g.encodings != nil:
		return g.wrapped
	}
	return r.Header.Get("Accept-Encoding") != "" // the guard has not removed it, and takes out what is for compressors inside
}

// enter begins something that passes g, and must be followed by leave. It reports false if
// nothing may pass any longer. A nil g lets everything pass.
func (g *guard) enter() bool {
	if g == nil {
		return true
	}
	g.mu.Lock()
	if g.sealed || g.over.Load() {
		g.mu.Unlock()
		return false
	}
	return true
}

func (g *guard) leave() {
	if g != nil {
		g.mu.Unlock()
	}
}

// seal lets nothing pass from now on. If abort, g aborts the connection when the handler has
// returned.
func (g *guard) seal(abort bool) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over.Load() {
		g.sealed, g.aborted = true, abort
	}
}

// handOver seals g because the connection belongs to a detached session. The caller has
// entered g.
func (g *guard) handOver() {
	if g != nil {
		g.sealed = true
		g.handedOver.Store(true)
	}
}

// gated reports whether the response is, or is going to be, a stream.
func (g *guard) gated() bool { return g.stream || g.active.Load() }

// nowhere replaces the writer of a request whose connection has been handed over. The
// context of the session still refers to the guard, and must not keep net/http's writer.
type nowhere struct{}

func (nowhere) Header() http.Header       { return http.Header{} }
func (nowhere) WriteHeader(int)           {}
func (nowhere) Write([]byte) (int, error) { return 0, http.ErrHijacked }

// Header returns a header that nobody reads once what the guard called has returned: net/http
// reads its own then.
func (g *guard) Header() http.Header {
	if g.over.Load() {
		return http.Header{}
	}
	if g.header != nil {
		return g.header
	}
	return g.ResponseWriter.Header()
}

func (g *guard) WriteHeader(status int) {
	if !g.gated() {
		g.ResponseWriter.WriteHeader(status)
		return
	}
	if g.passed.Load()&aHead != 0 || !g.enter() { // without waiting for a write, if there is a head
		return
	}
	defer g.leave()
	if g.active.Load() {
		if status >= 200 {
			g.pass(aHead)
		}
		if h := g.Header(); !g.wrapped && h.Get("Content-Encoding") == "identity" {
			h.Del("Content-Encoding") // it was for compressors inside
		}
	}
	g.ResponseWriter.WriteHeader(status)
}

var errSealed = errors.New("sse: write after the end of the stream")

func (g *guard) Write(p []byte) (int, error) {
	if !g.gated() {
		return g.ResponseWriter.Write(p)
	}
	if !g.enter() {
		return 0, errSealed
	}
	defer g.leave()
	if g.isForeign() {
		return 0, errForeign
	}
	active := g.active.Load()
	if active {
		g.pass(aHead)
	}
	n, err := g.ResponseWriter.Write(p)
	if active && n > 0 {
		g.pass(aWrite)
	}
	if active {
		g.note(err)
	}
	return n, err
}

var errForeign = errors.New("sse: only the session writes to an open stream")

// isForeign reports whether somebody other than the session writes to its open stream: the
// session holds its lock when it writes.
func (g *guard) isForeign() bool {
	x := g.wire.Load()
	if x == nil || !g.opened.Load() || !x.session.mu.TryLock() {
		return false
	}
	x.session.mu.Unlock()
	return true
}

// note remembers err, which a writer inside may swallow.
func (g *guard) note(err error) {
	if err != nil {
		first := err // not &err, which would allocate for each write
		g.failed.CompareAndSwap(nil, &first)
	}
}

// failure returns the first error of what has passed g.
func (g *guard) failure() error {
	if g == nil {
		return nil
	}
	if err := g.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// heldBack reports whether a write, or a flush, has not reached g.
func (g *guard) heldBack() bool {
	return g != nil && g.passed.Load()&(aWrite|aFlush) != aWrite|aFlush
}

// WriteString uses the WriteString of net/http's writers for responses that are not streams.
func (g *guard) WriteString(s string) (int, error) {
	if !g.gated() {
		return io.WriteString(g.ResponseWriter, s)
	}
	return g.Write([]byte(s)) //nolint:gocritic // io.WriteString would call this method
}

// FlushError flushes. http.ResponseController calls it.
func (g *guard) FlushError() error {
	if g.gated() {
		if !g.enter() {
			return nil
		}
		defer g.leave()
	}
	if g.flush == nil {
		g.flush = outerFlusher(g.ResponseWriter)
	}
	err := g.flush.FlushError()
	if g.active.Load() {
		g.pass(aFlush)
		g.note(err)
	}
	return err
}

func (g *guard) Flush() { _ = g.FlushError() } // http.Flusher returns no error

// SetWriteDeadline drops the deadlines of middleware once a session has begun: the session
// bounds each write itself. A shorter deadline would end the stream in the client's name, and a
// longer one would let a client that takes nothing stay. http.ResponseController calls it.
func (g *guard) SetWriteDeadline(t time.Time) error {
	if g.active.Load() && !g.handedOver.Load() {
		return nil
	}
	return http.NewResponseController(g.Unwrap()).SetWriteDeadline(t)
}

// SetReadDeadline drops the deadlines of middleware once a session has opened over HTTP/1.x,
// where net/http reads only in order to notice that the client leaves. Until then, and over
// HTTP/2, a deadline may be for the request's body.
func (g *guard) SetReadDeadline(t time.Time) error {
	if g.http1 && !g.handedOver.Load() && g.opened.Load() {
		return nil
	}
	return http.NewResponseController(g.Unwrap()).SetReadDeadline(t)
}

// EnableFullDuplex is that of net/http's writers. http.ResponseController calls it.
func (g *guard) EnableFullDuplex() error {
	return http.NewResponseController(g.Unwrap()).EnableFullDuplex()
}

func (g *guard) Unwrap() http.ResponseWriter {
	if g.handedOver.Load() || g.over.Load() {
		return nowhere{} // a deadline that a middleware sets must not reach the connection
	}
	return g.ResponseWriter
}
