package middleware

// This file defines Except, which keeps a middleware away from streams.

import (
	"net/http"

	"github.com/chi-sse/sse"
)

// Except returns a middleware that applies mw to every request except those for SSE
// routes. Use it for middleware that makes sense only for short responses, such as a limit
// on concurrent requests, a log of bodies, or a body rewriter.
//
// Except finds out with [sse.IsStream] whether a request is for an SSE route. So use it on
// a router on which the plugin is installed, or on a router nested in that one; elsewhere
// mw applies to streams too. Add middleware that rewrites paths, such as chi's
// StripSlashes, before it. A stream that starts within another handler, as by [sse.Serve], is not
// recognized, so mw applies to it.
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
