package sse

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"
)

// Handler runs a session: it sends until it is done or [ServerSession.Done] is
// closed, and returns. Returning closes the session; see the package
// documentation for what becomes of an error.
type Handler func(*ServerSession) error

// Router is a [chi.Router] that has the plugin: it adds SSE routes, and so do the
// routers that its Route, Group and With hand out. Get it from [Install], or by
// [From] where chi hands out a plain chi.Router.
type Router struct {
	chi.Router
	plugin *Plugin
}

// From returns r as the Router it is. It panics if r, or the router it was made
// from, has not been through [Install].
func From(r chi.Router) *Router {
	router, ok := r.(*Router)
	if !ok {
		panic(fmt.Sprintf("sse: no plugin on this router (%T); make it, or the one it is nested in, by sse.Install(r, sse.Config{})", r))
	}
	return router
}

// Plugin returns the plugin that is installed on r.
func (r *Router) Plugin() *Plugin { return r.plugin }

// SSE adds a route at pattern whose requests open sessions. It answers GET; HEAD
// gets the header that GET would, without running the handler. [WithMethods] sets
// other methods.
//
// An empty pattern is the router's own place, as with chi's "/" in a nested router,
// and takes any method.
func (r *Router) SSE(pattern string, h Handler, opts ...RouteOption) {
	rt := r.newRoute(h, opts)
	if pattern == "" && rt.methods == nil {
		r.Handle("/", rt)
	} else {
		if pattern == "" {
			pattern = "/"
		}
		if rt.methods == nil {
			rt.methods = []string{http.MethodGet, http.MethodHead}
		}
		for _, method := range rt.methods {
			r.Method(method, pattern, rt)
		}
	}
	routesVersion.Add(1)
}

// SSEHandler returns h as an [http.Handler], to be mounted at any place of r and
// for any method, or called by a handler that chooses between a stream and
// another answer.
//
// Prefer [Router.SSE], or mount what SSEHandler returns by chi's Method or Handle:
// the plugin then knows before a request passes the middleware that it is going
// to be a stream. Where it learns that only in the handler, the stream works as
// well, but a compressor among the middleware may hold an idle encoder for it.
func (r *Router) SSEHandler(h Handler, opts ...RouteOption) http.Handler {
	rt := r.newRoute(h, opts)
	if rt.methods != nil {
		panic("sse: WithMethods has no effect on SSEHandler; choose the methods where you mount it")
	}
	routesVersion.Add(1)
	return rt
}

// With is chi's With. The router it returns has the plugin.
func (r *Router) With(middlewares ...func(http.Handler) http.Handler) chi.Router {
	return r.nested(r.Router.With(middlewares...))
}

// Group is chi's Group. The router it hands out and returns has the plugin.
func (r *Router) Group(fn func(r chi.Router)) chi.Router {
	if fn == nil {
		return r.With()
	}
	return r.nested(r.Router.Group(func(sub chi.Router) { fn(r.nested(sub)) }))
}

// Route is chi's Route. The router it hands out and returns has the plugin.
func (r *Router) Route(pattern string, fn func(r chi.Router)) chi.Router {
	if fn == nil {
		panic(fmt.Sprintf("sse: Route without a function on %q", pattern))
	}
	return r.nested(r.Router.Route(pattern, func(sub chi.Router) { fn(r.nested(sub)) }))
}

// Mount is chi's Mount. A Router mounted on another works as a plain chi router
// does, with the sessions of its SSE routes in its own plugin.
func (r *Router) Mount(pattern string, h http.Handler) {
	if sub, ok := h.(*Router); ok {
		h = sub.Router // chi hands its NotFound on to its own type only
	}
	r.Router.Mount(pattern, h)
	routesVersion.Add(1)
}

func (r *Router) nested(sub chi.Router) *Router {
	return &Router{Router: sub, plugin: r.plugin}
}

// RouteOption sets for one route what Config sets for all.
type RouteOption func(*route)

// WithSerializer sets the serializer of the route.
func WithSerializer(s Serializer) RouteOption {
	if s == nil {
		panic("sse: WithSerializer(nil); leave the option out for the plugin's serializer")
	}
	return func(rt *route) { rt.serializer = s }
}

// WithMethods sets the methods that an SSE route answers, in place of GET and
// HEAD.
func WithMethods(methods ...string) RouteOption {
	if len(methods) == 0 {
		panic("sse: WithMethods without a method; leave the option out for GET and HEAD")
	}
	methods = slices.Clone(methods)
	return func(rt *route) { rt.methods = methods }
}

// WithHeartbeat sets the heartbeat of the route's sessions. A zero Period is the
// plugin's; a negative one turns it off.
func WithHeartbeat(h Heartbeat) RouteOption {
	if err := h.check(); err != nil {
		panic(fmt.Sprintf("sse: WithHeartbeat: %v", err))
	}
	return func(rt *route) {
		rt.heartbeat = h
		setDefault(&rt.heartbeat.Period, rt.plugin.cfg.Heartbeat.Period)
	}
}

// WithSessionLimit bounds the sessions of the route at one time. Those beyond are
// turned away as by a draining server; see [Plugin.Shutdown].
func WithSessionLimit(n int) RouteOption {
	if n < 1 {
		panic("sse: WithSessionLimit needs a limit of at least 1; leave the option out for none")
	}
	return func(rt *route) { rt.limit = n }
}

// WithRetry sets the route's Config.Retry; zero tells the clients nothing.
func WithRetry(d time.Duration) RouteOption {
	if _, err := (Event{Retry: d}).AppendText(nil); err != nil {
		panic(fmt.Sprintf("sse: WithRetry: %v", err))
	}
	return func(rt *route) { rt.retry = d }
}

// WithOpenDelay sets the route's Config.OpenDelay.
func WithOpenDelay(d time.Duration) RouteOption {
	if d == 0 {
		panic("sse: WithOpenDelay(0); a negative delay waits for the handler, a tiny one opens at once")
	}
	return func(rt *route) { rt.openDelay = d }
}

// WithWriteTimeout sets the route's Config.WriteTimeout.
func WithWriteTimeout(d time.Duration) RouteOption {
	if d <= 0 {
		panic("sse: WithWriteTimeout needs a positive time; leave the option out for the plugin's")
	}
	return func(rt *route) { rt.writeTimeout = d }
}

// route is an SSE route: the http.Handler that runs its sessions. The plugin
// knows its routes in chi's tree by this type.
type route struct {
	plugin  *Plugin
	handler Handler

	methods      []string // nil: as the form of the route has it
	serializer   Serializer
	heartbeat    Heartbeat
	retry        time.Duration
	openDelay    time.Duration
	writeTimeout time.Duration
	limit        int // 0: none
	live         int // sessions; guarded by plugin.mu
}

func (r *Router) newRoute(h Handler, opts []RouteOption) *route {
	if r.plugin == nil {
		panic("sse: no plugin on this router; make it, or the one it is nested in, by sse.Install(r, sse.Config{})")
	}
	if h == nil {
		panic("sse: a route without a handler")
	}
	cfg := &r.plugin.cfg
	rt := &route{
		plugin:       r.plugin,
		handler:      h,
		serializer:   cfg.Serializer,
		heartbeat:    cfg.Heartbeat,
		retry:        cfg.Retry,
		openDelay:    cfg.OpenDelay,
		writeTimeout: cfg.WriteTimeout,
	}
	for _, opt := range opts {
		opt(rt)
	}
	return rt
}
