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

func TestRoutePathlessHandlersAreKnownIfMountedAsThey(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(reportIsStream)
	h := r.SSEHandler(where)
	r.Handle("/handle", h)
	r.Method("POST", "/method", h)
	r.Get("/function", h.ServeHTTP)
	r.With(mark("a")).Handle("/with", h)
	r.Get("/choice", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/event-stream" {
			h.ServeHTTP(w, r)
			return
		}
		plain(w, r)
	})
	for _, tt := range []struct{ method, path, isStream string }{
		{"GET", "/handle", "true"},
		{"PUT", "/handle", "true"},
		{"POST", "/method", "true"},
		{"GET", "/with", "true"},
		{"GET", "/function", "false"}, // the guard cannot know, as documented
		{"GET", "/choice", "false"},
	} {
		rec := record(r, tt.method, tt.path, "Accept", "text/event-stream")
		require.Equal(t, "text/event-stream", rec.Header().Get("Content-Type"), tt.path)
		require.Equal(t, "data: "+tt.path+"\n\n", rec.Body.String())
		require.Equal(t, tt.isStream, rec.Header().Get("Is-Stream"), tt.path)
	}
	require.Equal(t, "plain", record(r, "GET", "/choice").Body.String())
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

// The guard hides Accept-Encoding from middleware, so that none compresses a stream or keeps
// an encoder for it. The handler sees the request as the client sent it.
func TestRouteMiddlewareSeesNoAcceptEncodingOfAStream(t *testing.T) {
	t.Parallel()
	var seen string
	see := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = r.Header.Get("Accept-Encoding")
			next.ServeHTTP(w, r)
		})
	}
	r := newRouter(sse.Config{})
	r.Use(see, middleware.Compress(5, "text/*"))
	r.SSE("/events", func(s *sse.ServerSession) error { return s.SendData(s.Call().Header.Get("Accept-Encoding")) })
	r.Get("/plain", plain)
	rec := record(r, http.MethodGet, "/events", "Accept-Encoding", "gzip")
	require.Empty(t, seen)
	require.Equal(t, "data: gzip\n\n", rec.Body.String())
	require.NotContains(t, rec.Header(), "Content-Encoding")
	record(r, http.MethodGet, "/plain", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", seen)
}
