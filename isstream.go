package sse

import (
	"cmp"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/go-chi/chi/v5"
)

// Whether a request is going to reach a stream: what the plugin finds in chi's tree, and what a
// handler there leads to, which is a stream, another router, or something that is not known.

// IsStream reports whether r is going to reach an SSE route. Call it from middleware of a router
// that has the plugin. It looks r up in the router's routes, so it knows every route of [Handle] and
// [Router.SSE], and an SSEHandler that is mounted
//
//   - as a handler: r.Method(method, pattern, h), r.Handle(pattern, h), r.Mount(pattern, h)
//   - as its method: r.Get(pattern, h.ServeHTTP), r.HandleFunc(pattern, h.ServeHTTP)
//   - on a router that is mounted, or that is itself a handler: r.Handle("/*", router)
//
// IsStream returns false for a stream within another handler, of which it cannot know: a call of
// [Serve], or an SSEHandler within [http.StripPrefix], within a middleware that the application has
// called by itself, or within a function of the application's. Give middleware to chi's With in
// place of calling it.
func IsStream(r *http.Request) bool {
	g := guardFrom(r.Context())
	if g == nil {
		return false
	}
	return g.plugin.find(r, int(g.depth)) // not g.stream: a middleware may have rewritten the path since
}

// routeTable is chi's tree in a form for look-ups, as of a version of routesVersion.
type routeTable struct {
	version uint64
	targets map[string]methodTargets // by full pattern
	mounts  map[string]chi.Routes    // full pattern, with its "/*" -> what is mounted there
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
	prefix := matchedPattern(outer, depth)
	if prefix != "" {
		if targets, ok := table.targets[prefix]; ok { // chi has matched the route itself
			t := targets.of(method)
			if t.next == nil {
				return t.stream
			}
			router, prefix = t.next, withoutWildcard(prefix)
		} else {
			prefix = strings.TrimSuffix(strings.TrimSuffix(prefix, "*"), "/")
			if router, ok = table.mounts[prefix+"/*"]; !ok {
				return false
			}
		}
	}
	rctx := routeContexts.Get().(*chi.Context)
	defer routeContexts.Put(rctx)
	for range mostPasses {
		rctx.Reset()
		pattern := router.Find(rctx, method, path)
		if pattern == "" {
			return false
		}
		targets, ok := table.targets[prefix+pattern]
		if !ok {
			targets = table.targets[prefix+pattern+"/"] // the path on which a router is mounted
		}
		t := targets.of(method)
		if t.next == nil {
			return t.stream
		}
		router, prefix = t.next, prefix+withoutWildcard(pattern)
		path = cmp.Or(rctx.RoutePath, path) // what is left of it after mounts
	}
	return false
}

// mostPasses is through how many routers without mounts find and add go: one may be a handler of
// itself.
const mostPasses = 8

func withoutWildcard(pattern string) string { return strings.TrimSuffix(pattern, "/*") }

// matchedPattern returns the pattern that chi has matched so far, without the depth first ones.
func matchedPattern(rctx *chi.Context, depth int) string {
	pattern := strings.Join(rctx.RoutePatterns[min(depth, len(rctx.RoutePatterns)):], "")
	for strings.Contains(pattern, "/*/") {
		pattern = strings.ReplaceAll(pattern, "/*/", "/")
	}
	return pattern
}

var routeContexts = sync.Pool{New: func() any { return chi.NewRouteContext() }}

// table returns the table of p's routes. It makes a new one after a change.
func (p *Plugin) table() *routeTable {
	version := routesVersion.Load()
	if t := p.routes.Load(); t != nil && t.version == version {
		return t
	}
	t := &routeTable{version, make(map[string]methodTargets), make(map[string]chi.Routes)}
	if p.root != nil {
		t.add(p.root, "", 0)
	}
	p.routes.Store(t)
	return t
}

// add adds routes to the table. passes is the number of routers without mounts that lead to them.
// chi.Walk would not do: it does not tell of mounts.
func (t *routeTable) add(routes chi.Routes, prefix string, passes int) {
	if passes == mostPasses {
		return
	}
	for _, r := range routes.Routes() {
		pattern := prefix + r.Pattern
		if r.SubRoutes != nil {
			t.mounts[pattern] = r.SubRoutes
			t.add(r.SubRoutes, withoutWildcard(pattern), passes)
			continue
		}
		t.targets[pattern] = targetsOf(r.Handlers)
		var added []*chi.Mux // the same one is there for many methods
		for _, target := range t.targets[pattern] {
			if target.next != nil && !slices.Contains(added, target.next) {
				added = append(added, target.next)
				t.add(target.next, withoutWildcard(pattern), passes+1)
			}
		}
	}
}

// reveal returns the handler that h calls, as far as that can be known: behind the middleware of
// chi's With, and the receiver of a function like r.SSEHandler(h).ServeHTTP, which is what chi's Get
// and Post want.
func reveal(h http.Handler) http.Handler {
	if chain, ok := h.(*chi.ChainHandler); ok {
		h = chain.Endpoint
	}
	if f, ok := h.(http.HandlerFunc); ok && f != nil {
		if receiver := receiverOf(f); receiver != nil {
			return receiver
		}
	}
	return h
}

// methodValue is how Go's compiler represents x.ServeHTTP for an x of the type T: a func is a
// pointer to it.
type methodValue[T any] struct {
	_        uintptr // the code
	receiver T
}

// receiverOf returns x if f is x.ServeHTTP for an x of the type http.Handler, chi.Router or *chi.Mux,
// and otherwise nil. No part of the language tells this, so it asks for the name that the compiler gives
// such functions, and looks only if it has found an x of its own like that.
func receiverOf(f http.HandlerFunc) http.Handler {
	if !readsReceivers {
		return nil
	}
	switch nameOf(f) {
	case "net/http.Handler.ServeHTTP-fm":
		return receiver[http.Handler](f)
	case "github.com/go-chi/chi/v5.Router.ServeHTTP-fm":
		return receiver[chi.Router](f)
	case "github.com/go-chi/chi/v5.(*Mux).ServeHTTP-fm":
		return receiver[*chi.Mux](f)
	}
	return nil
}

func nameOf(f http.HandlerFunc) string {
	if fn := runtime.FuncForPC(reflect.ValueOf(f).Pointer()); fn != nil {
		return fn.Name()
	}
	return ""
}

func receiver[T any](f http.HandlerFunc) T {
	return (*(**methodValue[T])(unsafe.Pointer(&f))).receiver //nolint:gosec // see receiverOf
}

// readsReceivers reports whether receiverOf can do what it does. It compares words, because what is
// not a methodValue may not be a T either.
var readsReceivers = func() bool {
	var known http.Handler = new(route)
	f := http.HandlerFunc(known.ServeHTTP)
	if nameOf(f) != "net/http.Handler.ServeHTTP-fm" {
		return false
	}
	type words [2]uintptr
	return receiver[words](f) == *(*words)(unsafe.Pointer(&known)) //nolint:gosec // an interface has two words
}()

// A route is a chi.Routes, so that chi knows what an SSEHandler leads to that is mounted by Mount.

// Routes returns what chi shows of a mounted SSEHandler.
func (rt *route) Routes() []chi.Route {
	all := map[string]http.Handler{"*": rt}
	return []chi.Route{{Handlers: all, Pattern: "/"}, {Handlers: all, Pattern: "/*"}}
}

// Middlewares returns none.
func (rt *route) Middlewares() chi.Middlewares { return nil }

// Match reports true for every path.
func (rt *route) Match(*chi.Context, string, string) bool { return true }

// Find returns the pattern of every path.
func (rt *route) Find(*chi.Context, string, string) string { return "/*" }

// target is what a handler in chi's tree leads to.
type target struct {
	stream bool
	next   *chi.Mux // a router that is a handler without being mounted: it routes the same path
}

// of returns the target of a method.
func (targets methodTargets) of(method string) target {
	t, ok := targets[method]
	if !ok {
		t = targets["*"]
	}
	t.stream = t.stream && opensSessions(method)
	return t
}

// methodTargets are the targets of a pattern by method, in which "*" is for all that are not there.
type methodTargets map[string]target

func targetsOf(handlers map[string]http.Handler) methodTargets {
	targets := make(methodTargets, len(handlers))
	for method, h := range handlers {
		switch h := reveal(h).(type) {
		case *route, *freeRoute:
			targets[method] = target{stream: true}
		case *chi.Mux:
			targets[method] = target{next: h}
		case *Router:
			mux, _ := h.Router.(*chi.Mux)
			targets[method] = target{next: mux}
		default:
			targets[method] = target{}
		}
	}
	return targets
}
