package main

import (
	"net/http"

	"github.com/chi-sse/sse/middleware"
)

// allowOrigin is middleware that refuses requests of pages of other origins, except one, which
// may use the streams with the user's cookies. "" allows no other origin.
func allowOrigin(allowed string) func(http.Handler) http.Handler {
	var origins []string
	if allowed != "" {
		origins = []string{allowed}
	}
	sameOrigin := middleware.SameOrigin(origins...) // a GET is not harmless: it opens a stream
	return func(next http.Handler) http.Handler {
		next = sameOrigin(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Add("Vary", "Origin") // a cache must not give one origin what is for another
			if allowed != "" && r.Header.Get("Origin") == allowed {
				h.Set("Access-Control-Allow-Origin", allowed) // "*" is not for cookies
				h.Set("Access-Control-Allow-Credentials", "true")
			}
			next.ServeHTTP(w, r)
		})
	}
}
