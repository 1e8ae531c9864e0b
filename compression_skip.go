package sse

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"reflect"
	"strings"
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
//   - aborts the connection of a broken stream, even if a middleware has recovered from the
//     panic.
//
// The guard looks up in chi's tree whether a request is going to be a stream. Where it cannot
// know that beforehand (for an SSEHandler that was mounted as a function, or for a path that
// a middleware rewrites), it does nothing until a session begins.
type guard struct {
	http.ResponseWriter             // the one that the plugin was called with
	flush               flushWriter // of ResponseWriter; nil until it is needed
	base                context.Context
	plugin              *Plugin
	stream              bool     // chi's tree says that the response is going to be a stream
	depth               int      // number of patterns that chi had matched before the guard
	encodings           []string // Accept-Encoding, if the guard has removed it
	wrapped             bool     // something outside the guard may compress the response

	active  bool // an SSE route is answering
	http1   bool
	opened  atomic.Bool // the session has opened, or has tried to
	written int64       // bytes that have passed since active was set
	flushed bool        // there was a flush since active was set
	hasHead bool        // the head has passed since active was set
	sealed  bool        // nothing passes any longer
	aborted bool        // the guard aborts the connection when the handler has returned
	err     error       // of the first write or flush that failed since active was set

	handedOver bool // the connection belongs to a detached session
}

type guardKey struct{}

func guardFrom(ctx context.Context) *guard {
	g, _ := ctx.Value(guardKey{}).(*guard)
	return g
}

// IsStream reports whether r is going to reach an SSE route. Call it from middleware of a
// router that has the plugin. It looks r up in the router's routes, so it cannot know of an
// SSEHandler that was mounted as a function, and returns false for it.
func IsStream(r *http.Request) bool {
	g := guardFrom(r.Context())
	if g == nil {
		return false
	}
	return g.plugin.find(r, g.depth) // not g.stream: a middleware may have rewritten the path since
}

// guard is the middleware that makes a guard for each request.
func (p *Plugin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if guardFrom(r.Context()) != nil { // the request has come through another plugin, on which this one is mounted
			next.ServeHTTP(w, r)
			return
		}
		g := &guard{ResponseWriter: w, base: r.Context(), plugin: p, http1: r.ProtoMajor == 1}
		if rctx := chi.RouteContext(g.base); rctx != nil {
			g.depth = len(rctx.RoutePatterns)
		}
		g.stream = p.find(r, g.depth)
		encodings := r.Header["Accept-Encoding"]
		g.wrapped = encodings != nil && isWrapped(w)
		r = r.WithContext(context.WithValue(g.base, guardKey{}, g))
		if g.stream && encodings != nil {
			g.encodings = encodings
			r.Header = maps.Clone(r.Header)
			delete(r.Header, "Accept-Encoding")
		}
		next.ServeHTTP(g.writer(r), r)
		if g.handedOver {
			g.ResponseWriter, g.flush = nowhere{}, nil // drop net/http's writer, with its buffers
		}
		if g.aborted {
			panic(http.ErrAbortHandler)
		}
	})
}

// mayBeCompressed reports whether a compressor may have engaged. A Content-Encoding of
// identity makes all compressors pass the response on unchanged.
func (g *guard) mayBeCompressed(r *http.Request) bool {
	if g != nil && (g.wrapped || g.encodings != nil) {
		return g.wrapped
	}
	return r.Header.Get("Accept-Encoding") != ""
}

// seal lets nothing pass from now on.
func (g *guard) seal() {
	if g != nil {
		g.sealed = true
	}
}

// abort seals g, and makes it abort the connection when the handler has returned.
func (g *guard) abort() {
	if g != nil {
		g.sealed, g.aborted = true, true
	}
}

// handOver seals g because the connection belongs to a detached session.
func (g *guard) handOver() {
	if g != nil {
		g.sealed, g.handedOver = true, true
	}
}

// nowhere replaces the writer of a request whose connection has been handed over. The
// context of the session still refers to the guard, and must not keep net/http's writer.
type nowhere struct{}

func (nowhere) Header() http.Header       { return http.Header{} }
func (nowhere) WriteHeader(int)           {}
func (nowhere) Write([]byte) (int, error) { return 0, http.ErrHijacked }

func (g *guard) WriteHeader(status int) {
	if g.active {
		if g.sealed || g.hasHead {
			return
		}
		g.hasHead = status >= 200
		if h := g.Header(); !g.wrapped && h.Get("Content-Encoding") == "identity" {
			h.Del("Content-Encoding") // it was for compressors inside
		}
	}
	g.ResponseWriter.WriteHeader(status)
}

var errSealed = errors.New("sse: write after the end of the stream")

func (g *guard) Write(p []byte) (int, error) {
	if g.sealed {
		return 0, errSealed
	}
	n, err := g.ResponseWriter.Write(p)
	if g.active {
		g.hasHead = true
		g.written += int64(n)
		g.note(err)
	}
	return n, err
}

// note remembers err, which a writer inside may swallow.
func (g *guard) note(err error) {
	if g.err == nil {
		g.err = err
	}
}

// WriteString uses the WriteString of net/http's writers for responses that are not streams.
func (g *guard) WriteString(s string) (int, error) {
	if !g.active {
		return io.WriteString(g.ResponseWriter, s)
	}
	return g.Write([]byte(s)) //nolint:gocritic // io.WriteString would call this method
}

// FlushError flushes. http.ResponseController calls it.
func (g *guard) FlushError() error {
	if g.sealed {
		return nil
	}
	if g.flush == nil {
		g.flush = flusher(g.ResponseWriter)
	}
	g.flushed = true
	err := g.flush.FlushError()
	if g.active {
		g.note(err)
	}
	return err
}

func (g *guard) Flush() { _ = g.FlushError() } // http.Flusher returns no error

// SetWriteDeadline drops the deadlines of middleware once a session has begun: the session
// bounds each write itself. A shorter deadline would end the stream in the client's name, and a
// longer one would let a client that takes nothing stay. http.ResponseController calls it.
func (g *guard) SetWriteDeadline(t time.Time) error {
	if g.active && !g.handedOver {
		return nil
	}
	return http.NewResponseController(g.Unwrap()).SetWriteDeadline(t)
}

// SetReadDeadline drops the deadlines of middleware once a session has opened over HTTP/1.x,
// where net/http reads only in order to notice that the client leaves. Until then, and over
// HTTP/2, a deadline may be for the request's body.
func (g *guard) SetReadDeadline(t time.Time) error {
	if g.http1 && !g.handedOver && g.opened.Load() {
		return nil
	}
	return http.NewResponseController(g.Unwrap()).SetReadDeadline(t)
}

func (g *guard) Unwrap() http.ResponseWriter {
	if g.handedOver {
		return nowhere{} // a deadline that a middleware sets must not reach the connection
	}
	return g.ResponseWriter
}

// writer returns the ResponseWriter that the middleware gets. For responses that are not
// streams it has the optional interfaces that g's own writer has.
func (g *guard) writer(r *http.Request) http.ResponseWriter {
	if g.stream {
		return g
	}
	hijacker, canHijack := g.ResponseWriter.(http.Hijacker)
	readerFrom, canReadFrom := g.ResponseWriter.(io.ReaderFrom)
	pusher, canPush := g.ResponseWriter.(http.Pusher)
	switch {
	case r.ProtoMajor == 1 && canHijack && canReadFrom:
		return &struct {
			*guard
			http.Hijacker
			guardReaderFrom
		}{g, hijacker, guardReaderFrom{g, readerFrom}}
	case r.ProtoMajor == 1 && canHijack:
		return &struct {
			*guard
			http.Hijacker
		}{g, hijacker}
	case r.ProtoMajor > 1 && canPush:
		return &struct {
			*guard
			http.Pusher
		}{g, pusher}
	}
	return g
}

type guardReaderFrom struct {
	g  *guard
	rf io.ReaderFrom
}

func (w guardReaderFrom) ReadFrom(r io.Reader) (int64, error) {
	if w.g.active {
		return io.Copy(struct{ io.Writer }{w.g}, r)
	}
	return w.rf.ReadFrom(r)
}

// isWrapped reports whether w is not the server's own writer.
func isWrapped(w http.ResponseWriter) bool {
	t := reflect.TypeOf(w)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	path := t.PkgPath()
	return path != "net/http" && !strings.HasPrefix(path, "net/http/") && path != "golang.org/x/net/http2"
}

// routeTable is chi's tree in a form for look-ups, as of a version of routesVersion.
type routeTable struct {
	version uint64
	streams map[string]map[string]bool // full pattern -> method -> leads to an SSE route
	mounts  map[string]chi.Routes      // full pattern, with its "/*" -> what is mounted there
}

// routesVersion counts the changes that may add an SSE route to any router. There is one for
// all plugins, because a router of one plugin may be mounted on a router of another.
var routesVersion atomic.Uint64

// find reports whether chi is going to route r to an SSE route, or has done so. The caller is
// a middleware of p's own router or of a router that is nested in it. depth is the number of
// patterns that chi had matched before p's own router.
func (p *Plugin) find(r *http.Request, depth int) bool {
	outer := chi.RouteContext(r.Context())
	if outer == nil {
		return false
	}
	method := cmp.Or(outer.RouteMethod, r.Method)
	path := cmp.Or(outer.RoutePath, r.URL.RawPath, r.URL.Path, "/")
	table := p.table()
	var router chi.Routes = p.root
	prefix := strings.Join(outer.RoutePatterns[min(depth, len(outer.RoutePatterns)):], "")
	if prefix != "" {
		for strings.Contains(prefix, "/*/") {
			prefix = strings.ReplaceAll(prefix, "/*/", "/")
		}
		if methods, ok := table.streams[prefix]; ok {
			return methods[method] // chi has matched the route itself
		}
		prefix = strings.TrimSuffix(strings.TrimSuffix(prefix, "*"), "/")
		var ok bool
		if router, ok = table.mounts[prefix+"/*"]; !ok {
			return false
		}
	}
	rctx := routeContexts.Get().(*chi.Context)
	defer routeContexts.Put(rctx)
	rctx.Reset()
	pattern := router.Find(rctx, method, path)
	if pattern == "" {
		return false
	}
	methods, ok := table.streams[prefix+pattern]
	if !ok {
		methods = table.streams[prefix+pattern+"/"] // the path on which a router is mounted
	}
	return methods[method]
}

var routeContexts = sync.Pool{New: func() any { return chi.NewRouteContext() }}

// table returns the table of p's routes. It makes a new one after a change.
func (p *Plugin) table() *routeTable {
	version := routesVersion.Load()
	if t := p.routes.Load(); t != nil && t.version == version {
		return t
	}
	t := &routeTable{version, make(map[string]map[string]bool), make(map[string]chi.Routes)}
	t.add(p.root, "")
	p.routes.Store(t)
	return t
}

// add adds routes to the table. chi.Walk would not do: it does not tell of mounts.
func (t *routeTable) add(routes chi.Routes, prefix string) {
	for _, r := range routes.Routes() {
		pattern := prefix + r.Pattern
		if r.SubRoutes != nil {
			t.mounts[pattern] = r.SubRoutes
			t.add(r.SubRoutes, strings.TrimSuffix(pattern, "/*"))
			continue
		}
		methods := make(map[string]bool)
		for method, h := range r.Handlers {
			if chain, ok := h.(*chi.ChainHandler); ok {
				h = chain.Endpoint
			}
			if _, ok := h.(*route); ok {
				methods[method] = true
			}
		}
		t.streams[pattern] = methods
	}
}
