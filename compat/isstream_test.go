package compat

// This file proves that IsStream is right in the middleware of nested routers.

import (
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestIsStream calls IsStream in the middleware of a nested router. A path there is
// relative, and the root has another kind of route with the same path.
func TestIsStream(t *testing.T) {
	t.Parallel()
	stream := func(*sse.ServerSession) error { return nil }
	ordinary := func(http.ResponseWriter, *http.Request) {}
	for _, tt := range []struct {
		name, path string
		use        chain
		want       bool
	}{
		{"stream at the root", "/one", nil, true},
		{"ordinary at the root", "/two", nil, false},
		{"ordinary where the root has a stream", "/nested/one", nil, false},
		{"stream where the root has an ordinary route", "/nested/two", nil, true},
		{"rewritten, ordinary where the root has a stream", "/nested/one/", chain{middleware.StripSlashes}, false},
		{"rewritten, stream where the root has an ordinary route", "/nested/two/", chain{middleware.StripSlashes}, true},
		{"deeper, ordinary where the root has a stream", "/nested/deeper/one", nil, false},
		{"deeper, stream where the root has an ordinary route", "/nested/deeper/two", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []bool
			ask := func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					got = append(got, sse.IsStream(r))
					next.ServeHTTP(w, r)
				})
			}
			r := sse.Install(chi.NewRouter(), sse.Config{})
			if len(tt.use) == 0 {
				r.Use(ask) // with a rewriter, the root still sees the path as it was sent
			}
			r.SSE("/one", stream)
			r.Get("/two", ordinary)
			r.Route("/nested", func(r chi.Router) {
				r.Use(tt.use...)
				r.Use(ask)
				r.Get("/one", ordinary)
				sse.From(r).SSE("/two", stream)
				r.Route("/deeper", func(r chi.Router) {
					r.Use(ask)
					r.Get("/one", ordinary)
					sse.From(r).SSE("/two", stream)
				})
			})
			call := http1.start(t, r).do(t, http.MethodGet, tt.path, "")
			require.Equal(t, http.StatusOK, call.StatusCode)
			require.NotEmpty(t, got)
			for _, got := range got {
				require.Equal(t, tt.want, got)
			}
		})
	}
}
