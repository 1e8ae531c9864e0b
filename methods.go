package sse

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/go-chi/chi/v5"
)

// The methods of a request for an SSE route. Whatever form the route has, OPTIONS, TRACE and
// CONNECT never get a stream: the answer to OPTIONS says which methods there are (RFC 9110
// §9.3.7), TRACE would send back the request (§9.3.8), and CONNECT asks for a tunnel (§9.3.6).

// opensSessions reports whether a request with the method may get a stream.
func opensSessions(method string) bool {
	return method != http.MethodOptions && method != http.MethodTrace && method != http.MethodConnect
}

// errMethod is the error of a request whose method never gets a stream.
var errMethod = errors.New("sse: an event stream answers no such method")

// serveOther answers a request whose method opens no session: OPTIONS with 204, and the
// others with 405.
func (rt *route) serveOther(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", strings.Join(rt.allowed(r), ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	rt.plugin.cfg.RenderError(w, r.WithContext(r.Context()), &StatusError{http.StatusMethodNotAllowed, errMethod}) // a copy, because chi/render changes it
}

// allowed returns the methods that the target of r answers, as chi's tree says, which may have
// other handlers for some of them. Outside of a router with the plugin it returns the usual ones.
func (rt *route) allowed(r *http.Request) []string {
	methods := []string{http.MethodOptions}
	if g := guardFrom(r.Context()); g != nil {
		for method := range g.plugin.methods(r, int(g.depth)) {
			if opensSessions(method) && method != "*" { // chi's name for all
				methods = append(methods, method)
			}
		}
	}
	if len(methods) == 1 {
		methods = append(methods, http.MethodGet, http.MethodHead, http.MethodPost)
	}
	slices.Sort(methods)
	return methods
}

// methods returns the methods of the pattern that chi has matched, or nil if it has matched
// none of p's.
func (p *Plugin) methods(r *http.Request, depth int) methodTargets {
	outer := chi.RouteContext(r.Context())
	if outer == nil {
		return nil
	}
	return p.table().targets[matchedPattern(outer, depth)]
}

// addOptions makes h, an SSE route, answer OPTIONS at pattern, unless r has a handler for that.
func addOptions(r chi.Router, pattern string, h http.Handler) {
	// The pattern itself is a path that it matches, unless it has a regular expression. So the
	// tree is searched first: to list all routes for each would take long with thousands.
	found := r.Find(chi.NewRouteContext(), http.MethodOptions, pattern)
	if found != "" || strings.Contains(pattern, ":") {
		for _, known := range r.Routes() {
			if known.Pattern == pattern && known.Handlers[http.MethodOptions] != nil {
				return
			}
		}
	}
	r.Method(http.MethodOptions, pattern, h)
}
