package middleware

import (
	"net/http"

	"github.com/chi-sse/sse"
)

// Except returns mw for all requests but those for SSE routes, which pass it by.
// It is for middleware that makes sense only for short responses: a limit on
// concurrent requests, a log of bodies, a body rewriter.
//
// Which requests those are is known from the plugin's routes ([sse.IsStream]), so
// use it on a router that has the plugin, or on one nested in it. A middleware
// that rewrites paths, as chi's StripSlashes does, belongs before it.
func Except(mw func(http.Handler) http.Handler) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		with := mw(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if sse.IsStream(r) {
				next.ServeHTTP(w, r)
				return
			}
			with.ServeHTTP(w, r)
		})
	}
}
