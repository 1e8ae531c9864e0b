package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/middleware"
)

// mark is a middleware that adds a Mark header to the response.
func mark(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Mark", r.URL.Path)
		next.ServeHTTP(w, r)
	})
}

func stream(s *sse.ServerSession) error { return s.SendData("stream") }

func plain(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("plain")) }

// serve sends a request to h and returns the response.
func serve(h http.Handler, method, target string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, http.NoBody)
	if header != nil {
		r.Header = header
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestExcept(t *testing.T) {
	t.Parallel()
	type row struct {
		method, path string
		status       int
		marked       bool
	}
	for name, tt := range map[string]struct {
		build func() http.Handler
		rows  []row
	}{
		"on the router that has the plugin": {
			func() http.Handler {
				r := sse.Install(chi.NewRouter(), sse.Config{})
				r.Use(middleware.Except(mark))
				r.SSE("/events", stream)
				r.SSE("/rooms/{room}", stream)
				r.Get("/rooms/list", plain)
				r.Get("/plain", plain)
				r.Handle("/handler", r.SSEHandler(stream))
				return r
			},
			[]row{
				{"GET", "/events", 200, false},
				{"HEAD", "/events", 200, false},
				{"GET", "/rooms/1", 200, false},
				{"GET", "/handler", 200, false},
				{"POST", "/handler", 200, false},
				{"POST", "/events", 405, true},
				{"GET", "/rooms/list", 200, true},
				{"GET", "/plain", 200, true},
				{"GET", "/none", 404, true},
				{"GET", "/events/", 404, true},
			},
		},
		"behind a middleware that rewrites paths": {
			func() http.Handler {
				r := sse.Install(chi.NewRouter(), sse.Config{})
				r.Use(chimiddleware.StripSlashes, middleware.Except(mark))
				r.SSE("/events", stream)
				r.Get("/plain", plain)
				return r
			},
			[]row{
				{"GET", "/events", 200, false},
				{"GET", "/events/", 200, false},
				{"GET", "/plain/", 200, true},
				{"GET", "/none/", 404, true},
			},
		},
		"on nested routers": {
			func() http.Handler {
				r := sse.Install(chi.NewRouter(), sse.Config{})
				r.Route("/route", func(r chi.Router) {
					r.Use(middleware.Except(mark))
					sse.From(r).SSE("", stream)
					sse.From(r).SSE("/events", stream)
					r.Get("/plain", plain)
				})
				r.Group(func(r chi.Router) {
					r.Use(middleware.Except(mark))
					sse.From(r).SSE("/group/events", stream)
					r.Get("/group/plain", plain)
				})
				with := r.With(middleware.Except(mark))
				sse.From(with).SSE("/with/events", stream)
				with.Get("/with/plain", plain)
				r.Get("/outside", plain)
				return r
			},
			[]row{
				{"GET", "/route", 200, false},
				{"GET", "/route/events", 200, false},
				{"GET", "/route/plain", 200, true},
				{"GET", "/group/events", 200, false},
				{"GET", "/group/plain", 200, true},
				{"GET", "/with/events", 200, false},
				{"GET", "/with/plain", 200, true},
				{"GET", "/outside", 200, false},
			},
		},
		"on a mounted router with the plugin": {
			func() http.Handler {
				sub := sse.Install(chi.NewRouter(), sse.Config{})
				sub.Use(middleware.Except(mark))
				sub.SSE("/events", stream)
				sub.Get("/plain", plain)
				r := chi.NewRouter()
				r.Mount("/sub", sub)
				return r
			},
			[]row{{"GET", "/sub/events", 200, false}, {"GET", "/sub/plain", 200, true}},
		},
		"before a stream that is mounted as a function": {
			func() http.Handler {
				r := sse.Install(chi.NewRouter(), sse.Config{})
				r.Use(middleware.Except(mark))
				h := r.SSEHandler(stream)
				r.Get("/value", h.ServeHTTP)
				r.Get("/function", func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) })
				return r
			},
			[]row{{"GET", "/value", 200, false}, {"GET", "/function", 200, true}},
		},
		"outside the plugin, where all are alike": {
			func() http.Handler {
				sub := sse.Install(chi.NewRouter(), sse.Config{})
				sub.SSE("/events", stream)
				r := chi.NewRouter()
				r.Use(middleware.Except(mark))
				r.Mount("/", sub)
				return r
			},
			[]row{{"GET", "/events", 200, true}},
		},
		"twice, one in the other": {
			func() http.Handler {
				r := sse.Install(chi.NewRouter(), sse.Config{})
				r.Use(middleware.Except(middleware.Except(mark)))
				r.SSE("/events", stream)
				r.Get("/plain", plain)
				return r
			},
			[]row{{"GET", "/events", 200, false}, {"GET", "/plain", 200, true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := tt.build()
			for _, row := range tt.rows {
				w := serve(h, row.method, row.path, nil)
				require.Equal(t, row.status, w.Code, "%s %s", row.method, row.path)
				require.Equal(t, row.marked, w.Header().Get("Mark") != "", "%s %s", row.method, row.path)
				require.LessOrEqual(t, len(w.Header()["Mark"]), 1, "%s %s", row.method, row.path)
			}
		})
	}
}

// Except must call mw only once and not for each request, because a middleware such as a
// limit has state.
func TestExceptMakesTheMiddlewareOnce(t *testing.T) {
	t.Parallel()
	made := 0
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.Use(middleware.Except(func(next http.Handler) http.Handler {
		made++
		return next
	}))
	r.SSE("/events", stream)
	r.Get("/plain", plain)
	for range 3 {
		require.Equal(t, "plain", serve(r, "GET", "/plain", nil).Body.String())
		require.Equal(t, "data: stream\n\n", serve(r, "GET", "/events", nil).Body.String())
	}
	require.Equal(t, 1, made)
}
