package main

import "net/http"

// allowOrigin is middleware that refuses requests of pages of other origins, except one, which
// may use the streams with the user's cookies. "" allows no other origin.
func allowOrigin(allowed string) func(http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	if allowed != "" {
		if err := protection.AddTrustedOrigin(allowed); err != nil {
			panic(err) // the origin is not one
		}
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Add("Vary", "Origin") // a cache must not give one origin what is for another
			if allowed != "" && r.Header.Get("Origin") == allowed {
				h.Set("Access-Control-Allow-Origin", allowed) // "*" is not for cookies
				h.Set("Access-Control-Allow-Credentials", "true")
			}
			asPost := r.WithContext(r.Context()) // a copy
			asPost.Method = http.MethodPost      // a GET is not harmless: it opens a stream
			if protection.Check(asPost) != nil {
				http.Error(w, "pages of this origin may not do this", http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
