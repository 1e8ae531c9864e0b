package sse

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"weak"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

// A plugin does not keep the routes of routers that nobody uses any longer, and they do not keep it.
func TestHandleKeepsNothing(t *testing.T) {
	t.Parallel()
	serve := func(h http.Handler) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
		require.Equal(t, ": open\n\n", rec.Body.String())
	}
	open := func(s *ServerSession) error { return s.Open() }
	r := Install(chi.NewRouter(), Config{})
	r.Get("/", func(w http.ResponseWriter, r *http.Request) {
		sub := chi.NewRouter() // for this request
		Handle(sub, "/", open)
		sub.ServeHTTP(w, r)
	})
	var plugins []weak.Pointer[Plugin]
	shared := chi.NewRouter()
	Handle(shared, "/", open)
	for range 100 {
		serve(r)
		other := Install(chi.NewRouter(), Config{})
		other.Mount("/", shared)
		serve(other)
		plugins = append(plugins, weak.Make(other.plugin))
	}
	testkit.Eventually(t, func() bool {
		runtime.GC()
		routes := 0
		r.plugin.freeRoutes.Range(func(_, _ any) bool { routes++; return true })
		for _, p := range plugins {
			if p.Value() != nil {
				return false
			}
		}
		return routes == 0
	}, "the end of the routes and the plugins")
	runtime.KeepAlive(shared)
	runtime.KeepAlive(r)
}
