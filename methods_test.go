package sse_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// neverRuns is the handler of a stream that is not meant to run.
func neverRuns(t *testing.T) sse.Handler {
	t.Helper()
	return func(s *sse.ServerSession) error {
		t.Errorf("the handler ran for %s %s", s.Call().Method, s.Call().URL)
		return nil
	}
}

// In every form of route, OPTIONS gets 204 and the methods, TRACE and CONNECT get 405, and none
// of them runs the handler or opens a session.
func TestMethodsThatOpenNoSession(t *testing.T) {
	t.Parallel()
	h := neverRuns(t)
	for _, proto := range protocols {
		r := newRouter(sse.Config{OnClose: func(*sse.ServerSession, sse.End) { t.Error("there was a session") }})
		r.SSE("/path", h)
		r.SSE("/methods", h, sse.WithMethods("POST"))
		r.SSE("/mixed", h, sse.WithMethods("POST"))
		r.Get("/mixed", plain)
		r.SSE("/regexp/{id:[0-9]+}", h)
		r.Route("/route", func(r chi.Router) {
			sse.From(r).SSE("", h)
			r.Post("/", plain)
		})
		r.Route("/slash", func(r chi.Router) { sse.From(r).SSE("/", h) })
		r.Group(func(r chi.Router) { sse.From(r).SSE("/group", h) })
		sse.From(r.With(mark("a"))).SSE("/with", h)
		r.Handle("/handle", r.SSEHandler(h))
		r.HandleFunc("/function", r.SSEHandler(h).ServeHTTP)
		r.Method(http.MethodGet, "/method", r.SSEHandler(h))
		sub := newRouter(sse.Config{})
		sub.SSE("/events", h)
		r.Mount("/mounted", sub)
		srv := serve(t, r, proto.Setup)
		const all = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY"
		for path, allow := range map[string]string{
			"/path":           "GET, HEAD, OPTIONS",
			"/methods":        "OPTIONS, POST",
			"/mixed":          "GET, OPTIONS, POST",
			"/regexp/7":       "GET, HEAD, OPTIONS",
			"/route":          "GET, HEAD, OPTIONS, POST",
			"/route/":         "GET, HEAD, OPTIONS, POST",
			"/slash":          "GET, HEAD, OPTIONS",
			"/group":          "GET, HEAD, OPTIONS",
			"/with":           "GET, HEAD, OPTIONS",
			"/mounted/events": "GET, HEAD, OPTIONS",
			"/handle":         all,
			"/function":       all,
		} {
			a := request(t, srv, http.MethodOptions, path)
			require.Equal(t, http.StatusNoContent, a.Status, path)
			require.Equal(t, []string{allow}, a.Header["Allow"], path)
			require.Empty(t, a.Body)
			require.NotContains(t, a.Header, "Content-Type", path)
			a = request(t, srv, http.MethodTrace, path)
			require.Equal(t, http.StatusMethodNotAllowed, a.Status, path)
			require.ElementsMatch(t, strings.Split(allow, ", "), strings.Split(strings.Join(a.Header["Allow"], ", "), ", "), path)
			require.NotContains(t, a.Header.Get("Content-Type"), "event-stream", path)
			// net/http's clients cannot send CONNECT with a path.
			require.Equal(t, http.StatusMethodNotAllowed, record(r, http.MethodConnect, path).Code, path)
		}
		// Here the application has named the methods to chi.
		require.Equal(t, http.StatusMethodNotAllowed, request(t, srv, http.MethodOptions, "/method").Status)
		require.Equal(t, http.StatusMethodNotAllowed, request(t, srv, http.MethodTrace, "/method").Status)
	}
}

// A handler that stands anywhere else knows no methods, and names the usual ones.
func TestMethodsOfAHandlerOutsideOfChi(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.Handle("/events", newRouter(sse.Config{}).SSEHandler(neverRuns(t)))
	rec := record(mux, http.MethodOptions, "/events")
	require.Equal(t, http.StatusNoContent, rec.Code)
	require.Equal(t, "GET, HEAD, OPTIONS, POST", rec.Header().Get("Allow"))
	require.Equal(t, http.StatusMethodNotAllowed, record(mux, http.MethodTrace, "/events").Code)
}

// An OPTIONS request is no stream, so middleware that is kept off streams runs for it.
func TestMethodsThatOpenNoSessionAreNoStreams(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(reportIsStream)
	r.SSE("/path", neverRuns(t))
	r.Handle("/handle", r.SSEHandler(neverRuns(t)))
	for _, method := range []string{http.MethodOptions, http.MethodTrace, http.MethodConnect} {
		for _, path := range []string{"/path", "/handle"} {
			require.Equal(t, "false", record(r, method, path).Header().Get("Is-Stream"), "%s %s", method, path)
		}
	}
}

// An OPTIONS handler of the application's own answers, in whatever order it is added.
func TestMethodsOptionsHandlerOfTheApplication(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"/events", "/rooms/{id}", "/num/{id:[0-9]+}", "/all/*"} {
		for _, before := range []bool{true, false} {
			r := newRouter(sse.Config{})
			add := func() { r.Options(pattern, plain) }
			if before {
				add()
			}
			r.SSE(pattern, where)
			if !before {
				add()
			}
			path := strings.NewReplacer("{id}", "7", "{id:[0-9]+}", "7", "*", "x").Replace(pattern)
			require.Equal(t, "plain", record(r, http.MethodOptions, path).Body.String(), "%s, before: %v", pattern, before)
		}
	}
	// One that was added for all paths is not for this pattern.
	r := newRouter(sse.Config{})
	r.Options("/*", plain)
	r.SSE("/events", where)
	require.Equal(t, http.StatusNoContent, record(r, http.MethodOptions, "/events").Code)
	require.Equal(t, "plain", record(r, http.MethodOptions, "/other").Body.String())
}

// The 405 is rendered as every other error is.
func TestMethodsAreRefusedByRenderError(t *testing.T) {
	t.Parallel()
	var got error
	r := newRouter(sse.Config{RenderError: func(w http.ResponseWriter, _ *http.Request, err error) {
		got = err
		w.WriteHeader(http.StatusTeapot)
	}})
	r.Handle("/", r.SSEHandler(neverRuns(t)))
	rec := httptest.NewRecorder()
	r.ServeHTTP(rec, newRequest(t, http.MethodTrace, "/"))
	require.Equal(t, http.StatusTeapot, rec.Code)
	var status *sse.StatusError
	require.ErrorAs(t, got, &status)
	require.Equal(t, http.StatusMethodNotAllowed, status.Status)
}

// A path-less stream leaves the other methods of its path to their handlers.
func TestMethodsOfAPathlessStreamAreGETAndHEAD(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"say", "stream"} {
		r := newRouter(sse.Config{})
		r.Route("/rooms/{room}", func(r chi.Router) {
			if first == "say" {
				r.Post("/", plain)
			}
			sse.From(r).SSE("", where)
			if first == "stream" {
				r.Post("/", plain)
			}
		})
		srv := serve(t, r)
		require.Equal(t, "plain", request(t, srv, http.MethodPost, "/rooms/1").Body, first)
		require.Equal(t, "data: /rooms/{room} room=1\n\n", get(t, srv, "/rooms/1").Body, first)
		a := request(t, srv, http.MethodPut, "/rooms/1")
		require.Equal(t, http.StatusMethodNotAllowed, a.Status, first)
		testkit.NoError(t, a.Err)
	}
}
