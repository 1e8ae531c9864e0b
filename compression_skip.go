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

	"github.com/go-chi/chi/v5"
)

// guard is what the plugin puts before all other middleware. For a request that
// is going to be a stream it
//
//   - takes Accept-Encoding off, so that no compressor engages, or holds an
//     encoder, behind it;
//   - keeps the request's own context, which no middleware can put a deadline on;
//   - as a ResponseWriter, lets one head pass and nothing after the stream's end:
//     chi's Timeout and Recoverer write a status when all is over, and other
//     middleware a body;
//   - sees to it that a broken end is one, whoever swallows the panic.
//
// Which requests those are is looked up in chi's tree. Where it cannot be known
// beforehand (the handler of SSEHandler, a path that a middleware rewrites), the
// guard is there but does nothing until a session comes.
type guard struct {
	http.ResponseWriter              // what the plugin was called with
	flush               func() error // nil until it is needed
	base                context.Context
	plugin              *Plugin
	stream              bool     // it will be a stream, by the look-up
	depth               int      // patterns that had been matched before
	encodings           []string // Accept-Encoding, if it was taken off
	wrapped             bool     // something that may compress stands outside

	active  bool  // the response is that of an SSE route
	written int64 // bytes that have passed since then
	flushed bool  // something was flushed since then
	hasHead bool  // the head has passed since then
	sealed  bool  // nothing may pass anymore
	aborted bool

	handedOver bool // the connection belongs to a detached session
}

type guardKey struct{}

func guardFrom(ctx context.Context) *guard {
	g, _ := ctx.Value(guardKey{}).(*guard)
	return g
}

// IsStream reports whether r, on its way through the middleware of a router that
// has the plugin, is going to reach an SSE route. It is looked up in the routes;
// for an SSEHandler that was mounted as a function it is not known, and false.
func IsStream(r *http.Request) bool {
	g := guardFrom(r.Context())
	if g == nil {
		return false
	}
	return g.plugin.find(r, g.depth) // again: the path may have been rewritten since
}

// guard is the middleware.
func (p *Plugin) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if guardFrom(r.Context()) != nil { // of a plugin that this one is mounted under
			next.ServeHTTP(w, r)
			return
		}
		g := &guard{ResponseWriter: w, base: r.Context(), plugin: p}
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
			g.ResponseWriter, g.flush = nowhere{}, nil // net/http's, with its buffers
		}
		if g.aborted {
			panic(http.ErrAbortHandler)
		}
	})
}

// mayBeCompressed reports whether a compressor may be at work that must be told to
// step aside: with a Content-Encoding of identity, all do that.
func (g *guard) mayBeCompressed(r *http.Request) bool {
	if g != nil && (g.wrapped || g.encodings != nil) {
		return g.wrapped
	}
	return r.Header.Get("Accept-Encoding") != ""
}

func (g *guard) seal() {
	if g != nil {
		g.sealed = true
	}
}

func (g *guard) abort() {
	if g != nil {
		g.sealed, g.aborted = true, true
	}
}

// handOver seals g for good: the connection is the session's.
func (g *guard) handOver() {
	if g != nil {
		g.sealed, g.handedOver = true, true
	}
}

// nowhere is the writer of a request whose connection has been handed over: the
// context of its session still leads to the guard, and must not lead further.
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
			h.Del("Content-Encoding") // it was for those inside
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
	}
	return n, err
}

// WriteString keeps that of net/http's writers for responses that are no streams.
func (g *guard) WriteString(s string) (int, error) {
	if !g.active {
		return io.WriteString(g.ResponseWriter, s)
	}
	return g.Write([]byte(s)) //nolint:gocritic // not to itself
}

// FlushError flushes, for http.ResponseController.
func (g *guard) FlushError() error {
	if g.sealed {
		return nil
	}
	if g.flush == nil {
		g.flush = flusher(g.ResponseWriter)
	}
	g.flushed = true
	return g.flush()
}

func (g *guard) Flush() { _ = g.FlushError() } // http.Flusher has no error to return

func (g *guard) Unwrap() http.ResponseWriter {
	if g.handedOver {
		return nowhere{} // deadlines that a middleware sets are not for the session
	}
	return g.ResponseWriter
}

// writer returns g with those of the optional interfaces of net/http's writers
// that its own writer has, for the responses that are no streams.
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

// isWrapped reports whether w is another's than the server's own.
func isWrapped(w http.ResponseWriter) bool {
	t := reflect.TypeOf(w)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	path := t.PkgPath()
	return path != "net/http" && !strings.HasPrefix(path, "net/http/") && path != "golang.org/x/net/http2"
}

// routeTable has what chi's tree has, as of a version.
type routeTable struct {
	version uint64
	streams map[string]map[string]bool // full pattern -> method -> leads to an SSE route
	mounts  map[string]chi.Routes      // full pattern, with its "/*" -> what is mounted there
}

// routesVersion counts the changes that may add an SSE route to any router: one
// plugin's routers may be mounted on another's.
var routesVersion atomic.Uint64

// find reports whether chi is going to route r to an SSE route, or has done so. It
// may be asked on p's own router, on which depth patterns have been matched before,
// or on any that is nested in it.
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
			return methods[method] // the route itself has been matched
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
		methods = table.streams[prefix+pattern+"/"] // the place where a router is mounted
	}
	return methods[method]
}

var routeContexts = sync.Pool{New: func() any { return chi.NewRouteContext() }}

// table returns the table of p's routes, which it makes anew after a change.
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

// add adds what routes has. It is chi.Walk, which keeps mounts to itself.
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
