package sse_test

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// reportIsStream is a middleware that adds a header with the result of sse.IsStream.
func reportIsStream(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Is-Stream", strconv.FormatBool(sse.IsStream(r)))
		next.ServeHTTP(w, r)
	})
}

func TestRouteIsStreamTellsNeighboursApart(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(reportIsStream)
	r.SSE("/rooms/{room}", where)
	r.Get("/rooms/list", plain)
	r.Post("/rooms/{room}", plain)
	r.Get("/rooms/{room}/members", plain)
	r.Get("/users/{user}", plain)
	r.SSE("/users/online", where)
	r.Route("/nested", func(r chi.Router) {
		r.Get("/", plain)
		sse.From(r).SSE("/{x}", where)
		r.Get("/static", plain)
		r.Mount("/mounted", http.HandlerFunc(plain))
	})
	r.SSE("/num/{n:[0-9]+}", where)
	r.Get("/num/{word:[a-z]+}", plain)
	r.SSE("/all/*", where)
	r.Get("/all/but/this", plain)
	r.Handle("/any", http.HandlerFunc(plain))

	for _, tt := range []struct {
		method, path string
		stream       bool
	}{
		{"GET", "/rooms/1", true},
		{"HEAD", "/rooms/1", true},
		{"GET", "/rooms/list", false},
		{"POST", "/rooms/1", false},
		{"GET", "/rooms/1/members", false},
		{"GET", "/users/1", false},
		{"GET", "/users/online", true},
		{"GET", "/nested", false},
		{"GET", "/nested/", false},
		{"GET", "/nested/1", true},
		{"GET", "/nested/static", false},
		{"GET", "/nested/mounted/1", false},
		{"GET", "/num/1", true},
		{"GET", "/num/one", false},
		{"GET", "/all/other", true},
		{"GET", "/all/but/that", true},
		{"GET", "/all/but/this", false},
		{"GET", "/any", false},
	} {
		rec := record(r, tt.method, tt.path)
		require.Equal(t, http.StatusOK, rec.Code, "%s %s", tt.method, tt.path)
		require.Equal(t, strconv.FormatBool(tt.stream), rec.Header().Get("Is-Stream"), "%s %s", tt.method, tt.path)
		require.Equal(t, tt.stream, rec.Header().Get("Content-Type") == "text/event-stream", "%s %s", tt.method, tt.path)
	}
	for _, path := range []string{"/", "/none", "/rooms", "/num/1x"} {
		rec := record(r, "GET", path)
		require.Equal(t, http.StatusNotFound, rec.Code)
		require.Equal(t, "false", rec.Header().Get("Is-Stream"), path)
	}
	require.False(t, sse.IsStream(newRequest(t, "GET", "/rooms/1")), "a request that no plugin handles is not a stream")
}

// The guard sees the path as the client sent it. A middleware inside the guard may rewrite
// the path, and IsStream must report on the new path.
func TestRouteIsStreamAfterARewrite(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(middleware.StripSlashes, middleware.PathRewrite("/old", "/new"), reportIsStream)
	r.SSE("/events", where)
	r.SSE("/new/events", where)
	r.Get("/plain", plain)
	for path, stream := range map[string]string{
		"/events": "true", "/events/": "true", "/plain": "false", "/plain/": "false", "/old/events": "true",
	} {
		rec := record(r, "GET", path)
		require.Equal(t, http.StatusOK, rec.Code, path)
		require.Equal(t, stream, rec.Header().Get("Is-Stream"), path)
	}
}

// Before the rewrite, the path matches the catch-all route of a single-page application.
// Only after the rewrite does it match the route of the stream.
func TestRouteIsStreamAfterARewriteBesideACatchAll(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(middleware.StripSlashes, reportIsStream)
	r.SSE("/events", where)
	r.Get("/*", plain)
	for path, stream := range map[string]string{"/events": "true", "/events/": "true", "/page": "false", "/page/": "false"} {
		rec := record(r, "GET", path)
		require.Equal(t, stream, strconv.FormatBool(rec.Header().Get("Content-Type") == "text/event-stream"), path)
		require.Equal(t, stream, rec.Header().Get("Is-Stream"), path)
	}
}

func TestRoutePathlessHandlersAreKnown(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(reportIsStream)
	h := r.SSEHandler(func(s *sse.ServerSession) error { return s.SendData("stream") })
	choice := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/event-stream" {
			h.ServeHTTP(w, r)
			return
		}
		plain(w, r)
	}
	var ordinary http.Handler = http.HandlerFunc(plain)
	rest := func(routes ...func(chi.Router)) *chi.Mux {
		sub := chi.NewRouter()
		for _, route := range routes {
			route(sub)
		}
		return sub
	}
	get := func(pattern string) func(chi.Router) {
		return func(r chi.Router) {
			r.Get(pattern, h.ServeHTTP)
			r.Get(pattern+"/plain", ordinary.ServeHTTP)
		}
	}
	mark := mark("a")

	r.Handle("/handle", h)
	r.Method("POST", "/method", h)
	r.With(mark).Handle("/with", h)
	r.Get("/get", h.ServeHTTP)
	r.Get("/get/plain", ordinary.ServeHTTP)
	r.Post("/post", h.ServeHTTP)
	r.HandleFunc("/func", h.ServeHTTP)
	r.With(mark).Get("/with/get", h.ServeHTTP)
	r.With(func(next http.Handler) http.Handler { return http.StripPrefix("/strip", next) }).Get("/strip/with", h.ServeHTTP)
	r.Mount("/mount", h)
	r.Mount("/mount/func", http.HandlerFunc(h.ServeHTTP))
	r.Mount("/sub", rest(get("/get")))
	r.Mount("/sub/func", http.HandlerFunc(rest(get("/get")).ServeHTTP))
	var nested chi.Router = newRouter(sse.Config{})
	get("/get")(nested)
	r.Mount("/sub/router", http.HandlerFunc(nested.ServeHTTP))
	r.Handle("/handler/*", rest(func(r chi.Router) { r.Use(reportIsStream) }, get("/handler/{id}"), func(r chi.Router) {
		r.Handle("/handler/deep/*", rest(get("/handler/deep/{id}")))
		r.Mount("/handler/mount/{x}", rest(func(r chi.Router) { r.Handle("/more/*", rest(get("/more/{id}"))) }))
	}))
	own := newRouter(sse.Config{})
	get("/handler")(own)
	r.Handle("/handler", own)
	r.Get("/choice", choice)
	r.Handle("/strip/*", http.StripPrefix("/strip", h))
	r.Handle("/serve", streamOf(func(s *sse.ServerSession) error { return s.SendData("stream") }))
	r.Handle("/wrapped", mark(h))

	for _, tt := range []struct {
		method, path string
		known        bool
	}{
		{"GET", "/handle", true},
		{"PUT", "/handle", true},
		{"POST", "/method", true},
		{"GET", "/with", true},
		{"GET", "/get", true},
		{"POST", "/post", true},
		{"DELETE", "/func", true},
		{"GET", "/with/get", true},
		{"GET", "/strip/with", true},
		{"GET", "/mount", true},
		{"GET", "/mount/", true},
		{"POST", "/mount/x/y", true},
		{"GET", "/mount/func/x", true},
		{"GET", "/sub/get", true},
		{"GET", "/sub/func/get", true},
		{"GET", "/sub/router/get", true},
		{"GET", "/handler/7", true},
		{"GET", "/handler/deep/7", true},
		{"GET", "/handler/mount/1/more/7", true},
		{"GET", "/handler", true},
		// These cannot be known, as documented.
		{"GET", "/choice", false},
		{"GET", "/strip/x", false},
		{"GET", "/serve", false},
		{"GET", "/wrapped", false},
	} {
		rec := record(r, tt.method, tt.path, "Accept", "text/event-stream")
		require.Equal(t, "data: stream\n\n", rec.Body.String(), tt.path)
		for _, known := range rec.Header()["Is-Stream"] {
			require.Equal(t, strconv.FormatBool(tt.known), known, tt.path)
		}
	}
	for _, path := range []string{"/choice", "/get/plain", "/sub/get/plain", "/handler/7/plain", "/handler/deep/7/plain", "/handler/mount/1/more/7/plain"} {
		rec := record(r, "GET", path)
		require.Equal(t, "plain", rec.Body.String(), path)
		for _, known := range rec.Header()["Is-Stream"] {
			require.Equal(t, "false", known, path)
		}
	}
	require.Equal(t, "false", record(r, "OPTIONS", "/mount").Header().Get("Is-Stream"))
}

// To look up a request ends, even where serving it would not.
func TestRouteARouterThatIsItsOwnHandler(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Is-Stream", strconv.FormatBool(sse.IsStream(r)))
		})
	})
	r.Handle("/*", r.Router)
	require.Equal(t, "false", record(r, "GET", "/x").Header().Get("Is-Stream"))
}

func TestRouteAddedAfterServingBegan(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(reportIsStream)
	r.SSE("/first", where)
	var later chi.Router
	r.Route("/nested", func(r chi.Router) {
		r.Get("/plain", plain)
		later = r
	})
	expect := func(path, isStream string) {
		t.Helper()
		rec := record(r, "GET", path)
		require.Equal(t, http.StatusOK, rec.Code, path)
		require.Equal(t, isStream, rec.Header().Get("Is-Stream"), path)
	}
	expect("/first", "true")
	expect("/nested/plain", "false")

	r.SSE("/second", where)
	expect("/second", "true")
	sse.From(later).SSE("/{id}", where)
	expect("/nested/7", "true")
	expect("/nested/plain", "false")
	r.Get("/third", plain)
	expect("/third", "false")

	sub := chi.NewRouter()
	sub.Get("/plain", plain)
	sub.Handle("/sse", r.SSEHandler(where))
	r.Mount("/mounted", sub)
	expect("/mounted/plain", "false")
	expect("/mounted/sse", "true")
	expect("/first", "true")
}

func TestRouteAddedToTheInnerOfTwoPluginsAfterServingBegan(t *testing.T) {
	t.Parallel()
	outer, inner := newRouter(sse.Config{}), newRouter(sse.Config{})
	inner.SSE("/first", where)
	outer.Use(reportIsStream)
	outer.Mount("/inner", inner)
	require.Equal(t, "true", record(outer, "GET", "/inner/first").Header().Get("Is-Stream"))
	inner.SSE("/second", where)
	rec := record(outer, "GET", "/inner/second")
	require.Equal(t, "data: /inner/second\n\n", rec.Body.String())
	require.Equal(t, "true", rec.Header().Get("Is-Stream"))
}
