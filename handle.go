package sse

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"weak"

	"github.com/go-chi/chi/v5"
)

// SSE routes on routers that do not know the plugin. chi does not tell which router a nested one
// belongs to, and a router can be mounted later, or on several ones. So the plugin of such a route is
// that of each request.

// Handle adds a route at pattern to r, as [Router.SSE] does. r may be any router: one that With,
// Route or Group have made, one that is mounted, or is going to be, or one of a package that knows
// nothing of the plugin.
//
// The sessions belong to the innermost plugin through whose router the request has come. If it has
// come through none, they belong to the plugin that [Serve] says, and what Serve says of middleware
// holds. Each plugin has its own defaults and limits for the route.
//
// Handle panics if r or h is nil.
func Handle(r chi.Router, pattern string, h Handler, opts ...RouteOption) {
	if own, ok := r.(*Router); ok {
		own.SSE(pattern, h, opts...)
		return
	}
	if r == nil {
		panic("sse: Handle without a router")
	}
	if h == nil {
		panic(noHandler)
	}
	methods := newPlugin(nil, Config{}).newRoute(h, opts).methods // what opts refuse, they refuse now
	addRoute(r, pattern, &freeRoute{h, slices.Clone(opts)}, methods)
}

// From returns r as a [Router]: the one that [Install] has returned, or that its Route, Group or
// With, where they pass it on as a plain chi.Router, or return it. From panics for any other router;
// [Handle] adds an SSE route to that.
func From(r chi.Router) *Router {
	if own, ok := r.(*Router); ok && own != nil {
		return own
	}
	panic(noPlugin(r))
}

// noPlugin is the text of a panic.
func noPlugin(r chi.Router) string {
	return fmt.Sprintf("sse: no plugin on this router (%T); use the router that sse.Install(r, sse.Config{}) returns, or one that its Route, "+
		"Group or With passes on, or add the route with sse.Handle", r)
}

// freeRoute is an SSE route that is on no plugin's router.
type freeRoute struct {
	handler Handler
	opts    []RouteOption
}

// ServeHTTP runs a session of the route.
func (f *freeRoute) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	pluginFor(r.Context()).routeOf(f).ServeHTTP(w, r)
}

// routeOf returns the route that f is for p. It keeps neither of them from being garbage: an
// application may make routers for a while only.
func (p *Plugin) routeOf(f *freeRoute) *route {
	key := weak.Make(f)
	if rt, ok := p.freeRoutes.Load(key); ok {
		return rt.(*route)
	}
	rt, known := p.freeRoutes.LoadOrStore(key, p.newRoute(f.handler, f.opts))
	if !known {
		plugin := weak.Make(p)
		runtime.AddCleanup(f, func(key weak.Pointer[freeRoute]) {
			if p := plugin.Value(); p != nil {
				p.freeRoutes.Delete(key)
			}
		}, key)
	}
	return rt.(*route)
}
