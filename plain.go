package sse

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"weak"
)

// Streams from plain handlers, which have no route, and perhaps no router with the plugin around.

// Serve answers r with a stream. It runs h with the session, and returns when h has returned. Call
// it from any handler, with the ResponseWriter and the request that the handler has got, in place of
// writing a response. The handler may read the request's body before, set fields of the header, and
// give another answer in place of calling Serve. What [Router.SSEHandler] says of methods holds too.
//
// The session belongs to the first of these plugins that there is:
//
//   - the innermost one through whose router the request has come
//   - the one that the request's server was attached to last, by [ListenAndServe] or [Plugin.Attach]
//   - one with a zero [Config] for each [http.Server], or for all requests that come from none.
//     http.Server.Shutdown shuts it down, as [Plugin.Shutdown] does, but does not wait for
//     detached sessions.
//
// So a program without chi can have a Config, limits, and an orderly end: it gives ListenAndServe a
// Router from [Install], and sets http.Server.Handler.
//
// [IsStream] is false for the request, so middleware.Except applies its middleware to it.
//
// If the request has not come through a router with the plugin, nothing keeps what is around the
// handler from the stream:
//
//   - A compressor is told to pass the stream on, by "Content-Encoding: identity". If it has set a
//     Content-Encoding beforehand, or if the writer cannot flush, as that of [http.TimeoutHandler],
//     the client gets a 500, and the log says why ([ErrUnsupported]).
//     One that compresses all the same keeps an encoder, and the session is not detached.
//   - After the deadline of a middleware's context, only a write tells that the client has left.
//   - What a middleware writes when the handler has returned reaches net/http, which logs it.
//   - A middleware must not return before the handler.
//   - A broken stream is aborted by a panic with [http.ErrAbortHandler]. If a middleware recovers
//     from it, the stream looks broken all the same.
//
// opts replace fields of the Config for this session. Options that count or queue the sessions of a
// route need one: WithSessionLimit, WithSessionLimitBy, WithNewestSessionsBy, WithOpenRate and
// WithRecheck. Serve panics for these, and for WithMethods. Make a handler with SSEHandler once, and
// call its ServeHTTP. Serve also panics if h is nil.
func Serve(w http.ResponseWriter, r *http.Request, h Handler, opts ...RouteOption) {
	if h == nil {
		panic("sse: Serve without a handler")
	}
	rt := pluginFor(r.Context()).plain
	if len(opts) > 0 {
		own := *rt
		own.apply(opts)
		rt = &own
	}
	rt.serve(w, r, h)
}

// newPlain returns the route of sessions that Serve serves without options.
func (p *Plugin) newPlain() *route {
	rt := p.newRoute(nil, nil)
	rt.passing = true
	return rt
}

// mustLast panics if the route does not outlive a session.
func (rt *route) mustLast(option string) {
	if rt.passing {
		panic(fmt.Sprintf("sse: %s has no effect in Serve, because it is for all sessions of a route; make a handler with SSEHandler once, and call its ServeHTTP", option))
	}
}

// pluginFor returns the plugin of a session for which Serve is called. ctx is the request's context.
func pluginFor(ctx context.Context) *Plugin {
	if g := guardFrom(ctx); g != nil {
		if p := g.nested.Load(); p != nil {
			return p
		}
		return g.plugin
	}
	if c := connectionOf(ctx); c != nil {
		return c.plugin
	}
	srv, _ := ctx.Value(http.ServerContextKey).(*http.Server)
	return serverPlugins.of(srv)
}

// serverPlugins are the plugins of servers that are not attached to one.
var serverPlugins pluginsOfServers

type pluginsOfServers struct {
	known sync.Map // weak.Pointer[http.Server] -> *Plugin
	mu    sync.Mutex
}

// of returns the plugin of srv, which may be nil.
func (ps *pluginsOfServers) of(srv *http.Server) *Plugin {
	key := weak.Make(srv)
	if p, ok := ps.known.Load(key); ok {
		return p.(*Plugin)
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p, ok := ps.known.Load(key); ok {
		return p.(*Plugin)
	}
	p := newPlugin(nil, Config{})
	if srv != nil {
		srv.RegisterOnShutdown(p.drain)
		runtime.AddCleanup(srv, func(key weak.Pointer[http.Server]) { ps.known.Delete(key) }, key)
	}
	ps.known.Store(key, p)
	return p
}
