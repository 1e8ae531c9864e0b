package sse

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
)

// Handler serves a session: it sends events until it has no more of them, or until
// [ServerSession.Done] is closed, and returns. When it returns, the session ends. The package
// documentation says what an error does.
type Handler func(*ServerSession) error

// Router is a [chi.Router] that has the plugin, and can add SSE routes. So can the routers
// that its Route, Group and With return. Get a Router from [Install], or from [From] where
// chi passes a plain chi.Router. [Handle] adds an SSE route to any router.
type Router struct {
	chi.Router
	plugin *Plugin
}

// Plugin returns the plugin that is installed on r.
func (r *Router) Plugin() *Plugin { return r.plugin }

// SSE adds a route at pattern whose requests open sessions. The route answers GET, and HEAD:
// HEAD gets the header that GET would get, without running the handler. [WithMethods] sets
// other methods.
//
// OPTIONS gets 204, with the methods of the pattern in the header Allow. An OPTIONS handler
// that you add at the same pattern, before or after, replaces that. One at a wildcard pattern
// does not.
//
// An empty pattern means the path of the router itself, as chi's "/" does in a nested router.
//
// SSE panics if h is nil.
func (r *Router) SSE(pattern string, h Handler, opts ...RouteOption) {
	rt := r.newRoute(h, opts)
	addRoute(r, pattern, rt, rt.methods)
}

// addRoute adds h, an SSE route, to r, for the methods; nil means GET and HEAD.
func addRoute(r chi.Router, pattern string, h http.Handler, methods []string) {
	if pattern == "" {
		pattern = "/"
	}
	if methods == nil {
		methods = []string{http.MethodGet, http.MethodHead}
	}
	for _, method := range methods {
		r.Method(method, pattern, h)
	}
	addOptions(r, pattern, h)
	routesVersion.Add(1)
}

// SSEHandler returns h as an [http.Handler]. Mount it anywhere on r, for any method, or call
// it from a handler that chooses between a stream and another answer. OPTIONS gets 204 with
// the header Allow, and TRACE and CONNECT get 405, without running h.
//
// If the plugin finds the handler in chi's routes (see [IsStream]), it knows before the middleware
// runs that a request is going to be a stream. If it learns that only in the handler, the stream
// works as well, but a compressor among the middleware may keep an idle encoder for it.
//
// SSEHandler panics if h is nil, and for [WithMethods], which has no effect on it.
func (r *Router) SSEHandler(h Handler, opts ...RouteOption) http.Handler {
	rt := r.newRoute(h, opts)
	if rt.methods != nil {
		panic("sse: WithMethods has no effect on SSEHandler; choose the methods where you mount it")
	}
	routesVersion.Add(1)
	return rt
}

// With is chi's With. The router that it returns has the plugin.
func (r *Router) With(middlewares ...func(http.Handler) http.Handler) chi.Router {
	return r.nested(r.Router.With(middlewares...))
}

// Group is chi's Group. The router that it passes to fn and returns has the plugin.
func (r *Router) Group(fn func(r chi.Router)) chi.Router {
	if fn == nil {
		return r.With()
	}
	return r.nested(r.Router.Group(func(sub chi.Router) { fn(r.nested(sub)) }))
}

// Route is chi's Route. The router that it passes to fn and returns has the plugin. It panics
// if fn is nil.
func (r *Router) Route(pattern string, fn func(r chi.Router)) chi.Router {
	if fn == nil {
		panic(fmt.Sprintf("sse: Route without a function on %q", pattern))
	}
	return r.nested(r.Router.Route(pattern, func(sub chi.Router) { fn(r.nested(sub)) }))
}

// Mount is chi's Mount. A Router can be mounted on another Router. The sessions of its SSE
// routes belong to its own plugin.
func (r *Router) Mount(pattern string, h http.Handler) {
	if routes, ok := reveal(h).(interface {
		http.Handler
		chi.Routes
	}); ok {
		h = routes
	}
	if sub, ok := h.(*Router); ok {
		h = sub.Router // chi passes its NotFound handler only to its own type
	}
	r.Router.Mount(pattern, h)
	routesVersion.Add(1)
}

func (r *Router) nested(sub chi.Router) *Router {
	return &Router{Router: sub, plugin: r.plugin}
}

// RouteOption replaces a field of Config for one route, or sets something that Config does
// not have. Options panic if their argument is invalid.
type RouteOption func(*route)

// WithSerializer replaces Config.Serializer for the route, and hub.Config.Serializer for what
// the route's sessions send by themselves. s must not be nil.
func WithSerializer(s Serializer) RouteOption {
	if s == nil {
		panic("sse: WithSerializer(nil); leave the option out for the plugin's serializer")
	}
	return func(rt *route) { rt.serializer = s }
}

// WithMethods sets the methods that an SSE route answers, in place of GET and HEAD. There
// must be at least one. OPTIONS, TRACE and CONNECT cannot open a session.
func WithMethods(methods ...string) RouteOption {
	if len(methods) == 0 {
		panic("sse: WithMethods without a method; leave the option out for GET and HEAD")
	}
	for _, method := range methods {
		if !opensSessions(strings.ToUpper(method)) {
			panic(fmt.Sprintf("sse: WithMethods(%q): OPTIONS, TRACE and CONNECT cannot open a session; any other method can", method))
		}
	}
	methods = slices.Clone(methods)
	return func(rt *route) {
		rt.mustLast("WithMethods")
		rt.methods = methods
	}
}

// WithHeartbeat replaces Config.Heartbeat for the route. A zero Period means the Period of
// Config.Heartbeat. A negative Period turns heartbeats off. h.Event must be an event that can
// be encoded.
func WithHeartbeat(h Heartbeat) RouteOption {
	if err := h.check(); err != nil {
		panic(fmt.Sprintf("sse: WithHeartbeat: %v", err))
	}
	return func(rt *route) {
		rt.heartbeat = h
		setDefault(&rt.heartbeat.Period, rt.plugin.cfg.Heartbeat.Period)
	}
}

// WithRetry replaces Config.Retry for the route. Zero tells clients no reconnection time, but
// 3 seconds on a route with [WithMaxAge].
func WithRetry(d time.Duration) RouteOption {
	if _, err := (Event{Retry: d}).AppendText(nil); err != nil {
		panic(fmt.Sprintf("sse: WithRetry: %v", err))
	}
	return func(rt *route) { rt.retry = d }
}

// WithOpenDelay replaces Config.OpenDelay for the route, for every method. Without either, only a
// session of GET opens by time: the handler of another method, which reads a body or asks another
// service, can answer with a status however long that takes. d must not be 0; a negative d waits
// for the handler.
func WithOpenDelay(d time.Duration) RouteOption {
	if d == 0 {
		panic("sse: WithOpenDelay(0); a negative delay waits for the handler, a tiny one opens at once")
	}
	return func(rt *route) { rt.openDelay = d }
}

// WithWriteTimeout replaces Config.WriteTimeout for the route. d must be positive.
func WithWriteTimeout(d time.Duration) RouteOption {
	if d <= 0 {
		panic("sse: WithWriteTimeout needs a positive time; leave the option out for the plugin's")
	}
	return func(rt *route) { rt.writeTimeout = d }
}

// route is an SSE route: the http.Handler that serves its sessions (see serve.go). The guard
// recognizes SSE routes in chi's tree by this type.
type route struct {
	plugin  *Plugin
	handler Handler
	passing bool // it is for one session, or for those that Serve serves without options

	methods      []string   // nil for an SSEHandler, which is mounted for some
	serializer   Serializer // of WithSerializer; nil: none
	heartbeat    Heartbeat
	retry        time.Duration
	openDelay    time.Duration // 0: the default, which depends on the method
	writeTimeout time.Duration
	limit        int           // 0: no limit
	live         int           // sessions; guarded by plugin.mu
	keyLimits    []*keyLimit   // nil: none
	rate         *openRate     // nil: no limit
	maxAge       time.Duration // 0: none
	rechecks     *rechecks     // nil: none
}

func (r *Router) newRoute(h Handler, opts []RouteOption) *route {
	if r.plugin == nil {
		panic(noPlugin(r.Router))
	}
	if h == nil {
		panic(noHandler)
	}
	return r.plugin.newRoute(h, opts)
}

const noHandler = "sse: a route without a handler"

func (p *Plugin) newRoute(h Handler, opts []RouteOption) *route {
	cfg := &p.cfg
	rt := &route{
		plugin:       p,
		handler:      h,
		heartbeat:    cfg.Heartbeat,
		retry:        cfg.Retry,
		openDelay:    cfg.OpenDelay,
		writeTimeout: cfg.WriteTimeout,
	}
	rt.apply(opts)
	return rt
}

func (rt *route) apply(opts []RouteOption) {
	for _, opt := range opts {
		opt(rt)
	}
	if rt.maxAge > 0 {
		setDefault(&rt.retry, usualRetry) // so that the next opening replaces what the farewell says
	}
}
