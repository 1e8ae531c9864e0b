package sse_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// tellIsStream says in a header whether sse.IsStream took the request for a stream.
func tellIsStream(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Is-Stream", strconv.FormatBool(sse.IsStream(r)))
		next.ServeHTTP(w, r)
	})
}

// where sends the pattern that matched, and the URL parameters.
func where(s *sse.ServerSession) error {
	rctx := chi.RouteContext(s.Context())
	text := rctx.RoutePattern()
	for i, key := range rctx.URLParams.Keys {
		if key != "*" || rctx.URLParams.Values[i] != "" {
			text += fmt.Sprintf(" %s=%s", key, rctx.URLParams.Values[i])
		}
	}
	return s.SendData(text)
}

func plain(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "plain") }

// mark is a middleware that leaves its name in a header.
func mark(name string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("Mark", name)
			next.ServeHTTP(w, r)
		})
	}
}

func TestRouteNestedRoutersKeepThePlugin(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(tellIsStream)
	p := r.Plugin()

	has := func(r chi.Router) *sse.Router {
		require.Same(t, p, sse.From(r).Plugin())
		return sse.From(r)
	}
	has(r).SSE("/own", where)
	has(r.With(mark("a"))).SSE("/with", where)
	has(has(r.With(mark("a"))).With(mark("b"))).SSE("/with/with", where)
	r.Group(func(r chi.Router) {
		r.Use(mark("g"))
		has(r).SSE("/group", where)
		has(r.With(mark("a"))).SSE("/group/with", where)
		r.Group(func(r chi.Router) {
			r.Use(mark("h"))
			has(r).SSE("/group/group", where)
		})
		r.Route("/group/route", func(r chi.Router) {
			r.Use(mark("r"))
			has(r).SSE("/{id}", where)
		})
	})
	r.Route("/route/{a}", func(r chi.Router) {
		has(r).SSE("", where)
		has(r).SSE("/path", where)
		r.Route("/{b}", func(r chi.Router) {
			has(r).SSE("/", where)
			has(has(r).With(mark("deep"))).SSE("/{c}", where)
			r.Group(func(r chi.Router) { has(r).SSE("/x/{d}", where) })
		})
	})
	// What they return, and not only what they hand out, has it too.
	has(r.Group(func(chi.Router) {})).SSE("/returned/group", where)
	has(r.Group(nil)).SSE("/returned/nil", where)
	has(r.Route("/returned/route", func(r chi.Router) { r.Get("/plain", plain) })).SSE("/sse", where)

	for path, want := range map[string]string{
		"/own":                "/own",
		"/with":               "/with",
		"/with/with":          "/with/with",
		"/group":              "/group",
		"/group/with":         "/group/with",
		"/group/group":        "/group/group",
		"/group/route/7":      "/group/route/{id} id=7",
		"/route/1":            "/route/{a} a=1",
		"/route/1/":           "/route/{a} a=1",
		"/route/1/path":       "/route/{a}/path a=1",
		"/route/1/2":          "/route/{a}/{b} a=1 b=2",
		"/route/1/2/":         "/route/{a}/{b} a=1 b=2",
		"/route/1/2/3":        "/route/{a}/{b}/{c} a=1 b=2 c=3",
		"/route/1/2/x/3":      "/route/{a}/{b}/x/{d} a=1 b=2 d=3",
		"/returned/group":     "/returned/group",
		"/returned/nil":       "/returned/nil",
		"/returned/route/sse": "/returned/route/sse",
	} {
		rec := record(r, "GET", path)
		require.Equal(t, "data: "+want+"\n\n", rec.Body.String(), path)
		require.Equal(t, "true", rec.Header().Get("Is-Stream"), path)
	}
	for path, want := range map[string][]string{
		"/own":           nil,
		"/with/with":     {"a", "b"},
		"/group/with":    {"g", "a"},
		"/group/group":   {"g", "h"},
		"/group/route/7": {"g", "r"},
		"/route/1/2/3":   {"deep"},
	} {
		require.Equal(t, want, record(r, "GET", path).Header()["Mark"], path)
	}
	rec := record(r, "GET", "/returned/route/plain")
	require.Equal(t, "plain", rec.Body.String())
	require.Equal(t, "false", rec.Header().Get("Is-Stream"))
}

func TestRoutePatterns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern string
		paths   map[string]string // to what where sends; "" is no stream, by chi's rules
	}{
		{"", map[string]string{"/": "/", "/x": ""}},
		{"/", map[string]string{"/": "/", "/x": ""}},
		{"/events", map[string]string{"/events": "/events", "/events/": "", "/event": "", "/events/x": ""}},
		{"/events/", map[string]string{"/events/": "/events", "/events": ""}},
		{"/*", map[string]string{"/": "/*", "/x": "/* *=x", "/x/y": "/* *=x/y"}},
		{"/files/*", map[string]string{"/files/a/b.txt": "/files/* *=a/b.txt", "/files": "", "/other": ""}},
		{"/{id}", map[string]string{"/7": "/{id} id=7", "/a b": "/{id} id=a b", "/": "", "/7/8": ""}},
		{"/{id:[0-9]+}", map[string]string{"/7": "/{id:[0-9]+} id=7", "/x": "", "/7x": ""}},
		{"/{from}-{to}", map[string]string{"/a-b": "/{from}-{to} from=a to=b", "/ab": ""}},
		{"/{name}.events", map[string]string{"/clock.events": "/{name}.events name=clock", "/clock.html": ""}},
		{"/a/{x}/b/{y}", map[string]string{"/a/1/b/2": "/a/{x}/b/{y} x=1 y=2", "/a/1/b": ""}},
	} {
		t.Run(tt.pattern, func(t *testing.T) {
			t.Parallel()
			r := newRouter(sse.Config{})
			r.Use(tellIsStream)
			r.SSE(tt.pattern, where)
			for path, want := range tt.paths {
				rec := record(r, "GET", strings.ReplaceAll(path, " ", "%20"))
				require.Equal(t, strconv.FormatBool(want != ""), rec.Header().Get("Is-Stream"), path)
				if want == "" {
					require.Equal(t, http.StatusNotFound, rec.Code, path)
				} else {
					require.Equal(t, "data: "+want+"\n\n", rec.Body.String(), path)
				}
			}
		})
	}
}

func TestRouteIsStreamTellsNeighboursApart(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(tellIsStream)
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
	require.False(t, sse.IsStream(newRequest(t, "GET", "/rooms/1")), "of a request that is with no plugin")
}

// A path that a middleware rewrites leads elsewhere than it seemed at the guard.
func TestRouteIsStreamAfterARewrite(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(middleware.StripSlashes, middleware.PathRewrite("/old", "/new"), tellIsStream)
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

// The catch-all of a single-page application takes the path as it comes; the
// stream is there only behind the rewrite.
func TestRouteIsStreamAfterARewriteBesideACatchAll(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(middleware.StripSlashes, tellIsStream)
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
	r.Use(tellIsStream)
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
		{"GET", "/function", "false"}, // not known beforehand, as documented
		{"GET", "/choice", "false"},
	} {
		rec := record(r, tt.method, tt.path, "Accept", "text/event-stream")
		require.Equal(t, "text/event-stream", rec.Header().Get("Content-Type"), tt.path)
		require.Equal(t, "data: "+tt.path+"\n\n", rec.Body.String())
		require.Equal(t, tt.isStream, rec.Header().Get("Is-Stream"), tt.path)
	}
	require.Equal(t, "plain", record(r, "GET", "/choice").Body.String())
}

func TestRouteWithMethods(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(tellIsStream)
	method := func(s *sse.ServerSession) error { return s.SendData(s.Call().Method) }
	r.SSE("/chat", method, sse.WithMethods("POST", "QUERY"))
	r.Get("/chat", plain)
	r.Route("/place", func(r chi.Router) { sse.From(r).SSE("", method, sse.WithMethods("POST")) })
	r.SSE("/lower", method, sse.WithMethods("get"))

	for _, tt := range []struct {
		method, path string
		status       int
		stream       bool
	}{
		{"POST", "/chat", 200, true},
		{"QUERY", "/chat", 200, true},
		{"GET", "/chat", 200, false},
		{"HEAD", "/chat", 405, false},
		{"PUT", "/chat", 405, false},
		{"POST", "/place", 200, true},
		{"GET", "/place", 405, false},
		{"GET", "/lower", 200, true},
		{"HEAD", "/lower", 405, false},
		{"DELETE", "/lower", 405, false},
	} {
		rec := record(r, tt.method, tt.path)
		require.Equal(t, tt.status, rec.Code, "%s %s", tt.method, tt.path)
		require.Equal(t, strconv.FormatBool(tt.stream), rec.Header().Get("Is-Stream"), "%s %s", tt.method, tt.path)
		if tt.stream {
			require.Equal(t, "data: "+tt.method+"\n\n", rec.Body.String())
		}
	}
	require.Panics(t, func() { r.SSE("/odd", method, sse.WithMethods("NO SUCH")) })
}

func TestRouteAddedAfterServingBegan(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(tellIsStream)
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

func TestRoutePluginOnASubRouterOfAPlainOne(t *testing.T) {
	t.Parallel()
	sub := newRouter(sse.Config{})
	sub.Use(tellIsStream, middleware.Compress(5))
	sub.SSE("/events/{id}", where)
	sub.SSE("", where, sse.WithMethods("GET"))
	sub.Get("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, strings.Repeat("page ", 1000))
	})
	r := chi.NewRouter()
	r.Use(middleware.RequestID)
	r.Get("/", plain)
	r.Mount("/{tenant}/api", sub)
	srv := serve(t, r)

	for path, want := range map[string]string{
		"/acme/api/events/7": "/{tenant}/api/events/{id} tenant=acme id=7",
		"/acme/api":          "/{tenant}/api tenant=acme",
		"/acme/api/":         "/{tenant}/api tenant=acme",
	} {
		a := get(t, srv, path, "Accept-Encoding", "gzip")
		require.Equal(t, "data: "+want+"\n\n", a.Body, path)
		require.Equal(t, "true", a.Header.Get("Is-Stream"), path)
		require.NotContains(t, a.Header, "Content-Encoding", path)
	}
	a := get(t, srv, "/acme/api/page", "Accept-Encoding", "gzip")
	require.Equal(t, "false", a.Header.Get("Is-Stream"))
	require.Equal(t, "gzip", a.Header.Get("Content-Encoding"))
	require.Equal(t, "plain", get(t, srv, "/").Body)
}

func TestRouteTwoPluginsSideBySide(t *testing.T) {
	t.Parallel()
	a, b := newRouter(sse.Config{Retry: time.Second}), newRouter(sse.Config{Retry: 2 * time.Second})
	for _, r := range []*sse.Router{a, b} {
		r.Use(tellIsStream)
		r.SSE("/events", untilDone)
		r.Get("/plain", plain)
	}
	r := chi.NewRouter()
	r.Mount("/a", a)
	r.Mount("/b", b)
	srv := serve(t, r)

	sa, sb := connect(t, srv, "/a/events"), connect(t, srv, "/b/events")
	require.Equal(t, time.Second, sa.next().Retry)
	require.Equal(t, 2*time.Second, sb.next().Retry)
	for _, s := range []*stream{sa, sb} {
		require.Equal(t, "true", s.Header.Get("Is-Stream"))
		require.Equal(t, "open", s.next().Data)
	}
	require.Equal(t, 1, a.Plugin().Len())
	require.Equal(t, 1, b.Plugin().Len())
	require.Equal(t, "false", get(t, srv, "/b/plain").Header.Get("Is-Stream"))

	require.NoError(t, a.Plugin().Shutdown(t.Context()))
	require.NotZero(t, sa.next().Retry)
	sa.end()
	require.Equal(t, 1, b.Plugin().Len(), "the other's sessions go on")
	require.Equal(t, http.StatusServiceUnavailable, get(t, srv, "/a/events").Status)
	require.Equal(t, "open", connect(t, srv, "/b/events").nextData())
}

func TestRouteTwoPluginsOneInTheOther(t *testing.T) {
	t.Parallel()
	outer, inner := newRouter(sse.Config{}), newRouter(sse.Config{})
	inner.Use(tellIsStream)
	inner.SSE("/events", untilDone)
	inner.SSE("/{id}", where)
	inner.Get("/plain", plain)
	inner.Post("/function", inner.SSEHandler(where).ServeHTTP)
	outer.Use(tellIsStream, middleware.Compress(5))
	outer.SSE("/events", untilDone)
	outer.Mount("/inner", inner)
	srv := serve(t, outer)

	for path, isStream := range map[string]string{"/inner/7": "true", "/inner/plain": "false"} {
		a := get(t, srv, path, "Accept-Encoding", "gzip")
		require.Equal(t, []string{isStream, isStream}, a.Header["Is-Stream"], path)
	}
	a := request(t, srv, "POST", "/inner/function", "Accept-Encoding", "gzip")
	require.Equal(t, "data: /inner/function\n\n", a.Body)
	require.NotEqual(t, "gzip", a.Header.Get("Content-Encoding"))

	so, si := connect(t, srv, "/events"), connect(t, srv, "/inner/events")
	require.Equal(t, "open", so.nextData())
	require.Equal(t, "open", si.nextData())
	require.Equal(t, 1, outer.Plugin().Len())
	require.Equal(t, 1, inner.Plugin().Len(), "its sessions are in its own plugin")
	require.NoError(t, inner.Plugin().Shutdown(t.Context()))
	si.next()
	si.end()
	require.Equal(t, 1, outer.Plugin().Len())
}

func TestRouteAddedToTheInnerOfTwoPluginsAfterServingBegan(t *testing.T) {
	t.Parallel()
	outer, inner := newRouter(sse.Config{}), newRouter(sse.Config{})
	inner.SSE("/first", where)
	outer.Use(tellIsStream)
	outer.Mount("/inner", inner)
	require.Equal(t, "true", record(outer, "GET", "/inner/first").Header().Get("Is-Stream"))
	inner.SSE("/second", where)
	rec := record(outer, "GET", "/inner/second")
	require.Equal(t, "data: /inner/second\n\n", rec.Body.String())
	require.Equal(t, "true", rec.Header().Get("Is-Stream"))
}

func TestRouteChiWalkListsTheRoutes(t *testing.T) {
	t.Parallel()
	sub := newRouter(sse.Config{})
	sub.SSE("/events", where)
	r := newRouter(sse.Config{})
	r.SSE("/clock", where)
	r.SSE("/chat", where, sse.WithMethods("POST"))
	r.Get("/plain", plain)
	r.Route("/rooms/{room}", func(r chi.Router) {
		sse.From(r).SSE("/", where)
		sse.From(r).SSE("/{topic}", where)
	})
	r.Mount("/sub", sub)

	var routes []string
	require.NoError(t, chi.Walk(r, func(method, route string, h http.Handler, _ ...func(http.Handler) http.Handler) error {
		require.NotNil(t, h)
		routes = append(routes, method+" "+route)
		return nil
	}))
	slices.Sort(routes)
	require.Equal(t, []string{
		"GET /clock",
		"GET /plain",
		"GET /rooms/{room}/",
		"GET /rooms/{room}/{topic}",
		"GET /sub/events",
		"HEAD /clock",
		"HEAD /rooms/{room}/",
		"HEAD /rooms/{room}/{topic}",
		"HEAD /sub/events",
		"POST /chat",
	}, routes)
	require.True(t, r.Match(chi.NewRouteContext(), "GET", "/rooms/1/2"))
	require.False(t, r.Match(chi.NewRouteContext(), "POST", "/rooms/1/2"))
}

// No middleware is tempted to compress a stream, or holds an encoder for it; the
// handler sees the request as it came.
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

// Handlers that are no streams keep what net/http's writers can do, though the
// guard is on their way.
func TestRouteOrdinaryHandlersKeepTheirWriter(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Get("/function", r.SSEHandler(where).ServeHTTP)
	r.Get("/interfaces", func(w http.ResponseWriter, _ *http.Request) {
		_, flusher := w.(http.Flusher)
		_, hijacker := w.(http.Hijacker)
		_, readerFrom := w.(io.ReaderFrom)
		_, stringWriter := w.(io.StringWriter)
		_, pusher := w.(http.Pusher)
		fmt.Fprint(w, flusher, hijacker, readerFrom, stringWriter, pusher)
	})
	r.Get("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if noError(t, err) {
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhijacked")
		}
	})
	r.Get("/copy", func(w http.ResponseWriter, _ *http.Request) {
		_, err := io.Copy(w, io.LimitReader(strings.NewReader("copied and more"), 6))
		noError(t, err)
	})
	r.Get("/status", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, "created")
	})
	for _, proto := range protocols {
		srv := serve(t, r, proto.setup)
		require.Equal(t, "copied", get(t, srv, "/copy").Body)
		a := get(t, srv, "/status")
		require.Equal(t, http.StatusCreated, a.Status)
		require.Equal(t, "created", a.Body)
		require.Equal(t, "data: /function\n\n", get(t, srv, "/function").Body)
		if proto.proto == "HTTP/1.1" {
			require.Equal(t, "true true true true false", get(t, srv, "/interfaces").Body)
			require.Equal(t, "hijacked", get(t, srv, "/hijack").Body)
		} else {
			require.Equal(t, "true false false true true", get(t, srv, "/interfaces").Body)
		}
	}
}

func TestRouteMisusePanicsWithAdvice(t *testing.T) {
	t.Parallel()
	router := func() *sse.Router { return newRouter(sse.Config{}) }
	install := func(cfg sse.Config) func() { return func() { sse.Install(chi.NewRouter(), cfg) } }
	for name, tt := range map[string]struct {
		do   func()
		want []string
	}{
		"install after a route": {func() {
			r := chi.NewRouter()
			r.Get("/", plain)
			sse.Install(r, sse.Config{})
		}, []string{"after routes", "sse.Install(chi.NewRouter()"}},
		"install twice":                {func() { sse.Install(router(), sse.Config{}) }, []string{"already"}},
		"install on a nested router":   {func() { sse.Install(router().With(), sse.Config{}) }, []string{"already"}},
		"nil handler":                  {func() { router().SSE("/", nil) }, []string{"without a handler"}},
		"nil path-less handler":        {func() { router().SSEHandler(nil) }, []string{"without a handler"}},
		"methods of a path-less one":   {func() { router().SSEHandler(where, sse.WithMethods("GET")) }, []string{"WithMethods", "SSEHandler"}},
		"no methods":                   {func() { sse.WithMethods() }, []string{"WithMethods"}},
		"no serializer":                {func() { sse.WithSerializer(nil) }, []string{"WithSerializer"}},
		"no session limit":             {func() { sse.WithSessionLimit(0) }, []string{"WithSessionLimit"}},
		"negative session limit":       {func() { sse.WithSessionLimit(-1) }, []string{"WithSessionLimit"}},
		"no open delay":                {func() { sse.WithOpenDelay(0) }, []string{"WithOpenDelay", "negative"}},
		"no write timeout":             {func() { sse.WithWriteTimeout(0) }, []string{"WithWriteTimeout"}},
		"negative write timeout":       {func() { sse.WithWriteTimeout(-1) }, []string{"WithWriteTimeout"}},
		"retry below a millisecond":    {func() { sse.WithRetry(time.Microsecond) }, []string{"WithRetry", "millisecond"}},
		"negative retry":               {func() { sse.WithRetry(-time.Second) }, []string{"WithRetry", "negative"}},
		"heartbeat with a broken name": {func() { sse.WithHeartbeat(sse.Heartbeat{Event: sse.Event{Name: "a\nb"}}) }, []string{"WithHeartbeat", "Name"}},
		"route without a function":     {func() { router().Route("/rooms", nil) }, []string{"/rooms"}},
		"Config.WriteTimeout":          {install(sse.Config{WriteTimeout: -1}), []string{"WriteTimeout"}},
		"Config.MaxSessions":           {install(sse.Config{MaxSessions: -1}), []string{"MaxSessions"}},
		"Config.Retry":                 {install(sse.Config{Retry: time.Nanosecond}), []string{"Config.Retry", "millisecond"}},
		"Config.Heartbeat":             {install(sse.Config{Heartbeat: sse.Heartbeat{Event: sse.Event{ID: "a\x00"}}}), []string{"Config.Heartbeat", "ID"}},
		"Error with a success":         {func() { _ = sse.Error(http.StatusOK, nil) }, []string{"200", "4xx"}},
		"Error with no status":         {func() { _ = sse.Error(0, nil) }, []string{"status 0"}},
		"Error beyond":                 {func() { _ = sse.Error(600, nil) }, []string{"600"}},
	} {
		text := panicOf(t, tt.do)
		require.True(t, strings.HasPrefix(text, "sse: "), "%s: %s", name, text)
		for _, want := range tt.want {
			require.Contains(t, text, want, name)
		}
	}
}

func TestRouteNotFoundAndMethodNotAllowedAreInherited(t *testing.T) {
	t.Parallel()
	answer := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, text)
		}
	}
	own := newRouter(sse.Config{})
	own.SSE("/events", where)
	own.NotFound(answer(404, "own not found"))
	mounted := newRouter(sse.Config{})
	mounted.SSE("/events", where)
	before := newRouter(sse.Config{})
	before.SSE("/events", where)

	r := newRouter(sse.Config{})
	r.Mount("/before", before)
	r.NotFound(answer(404, "not found"))
	r.MethodNotAllowed(answer(405, "not allowed"))
	r.SSE("/events", where)
	r.Mount("/own", own)
	r.Mount("/mounted", mounted)
	r.Route("/route", func(r chi.Router) { sse.From(r).SSE("/events", where) })

	for _, tt := range []struct{ method, path, want string }{
		{"GET", "/none", "not found"},
		{"GET", "/before/none", "not found"},
		{"GET", "/mounted/none", "not found"},
		{"GET", "/route/none", "not found"},
		{"GET", "/own/none", "own not found"},
		{"POST", "/events", "not allowed"},
		{"POST", "/before/events", "not allowed"},
		{"POST", "/mounted/events", "not allowed"},
		{"POST", "/route/events", "not allowed"},
		{"POST", "/own/events", "not allowed"},
	} {
		require.Equal(t, tt.want, record(r, tt.method, tt.path).Body.String(), "%s %s", tt.method, tt.path)
	}
}

// chi takes its route contexts from a pool and gives them to other requests.
func TestRouteParametersOfCallOutliveTheHandler(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	type kept struct {
		s    *sse.ServerSession
		want string
	}
	keep := make(chan kept, 10_000)
	r.Route("/rooms/{room}", func(r chi.Router) {
		sse.From(r).SSE("/members/{member}", func(s *sse.ServerSession) error {
			keep <- kept{s, chi.URLParam(s.Call(), "room") + "/" + chi.URLParam(s.Call(), "member")}
			return nil
		})
	})
	r.Get("/other/{room}/{member}/{more}", plain)
	r.Get("/*", plain)

	check := func(k kept) {
		got := chi.URLParam(k.s.Call(), "room") + "/" + chi.URLParamFromCtx(k.s.Context(), "member")
		assert.Equal(t, k.want, got)
		assert.Equal(t, k.want, k.s.Call().PathValue("room")+"/"+k.s.Call().PathValue("member"))
		assert.Equal(t, "/rooms/{room}/members/{member}", chi.RouteContext(k.s.Context()).RoutePattern())
		assert.Empty(t, chi.RouteContext(k.s.Context()).URLParam("more"))
	}
	var clients, readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for k := range keep {
				for range 3 {
					check(k)
				}
			}
		})
	}
	for c := range 4 {
		clients.Go(func() {
			for i := range 300 {
				path := fmt.Sprintf("/rooms/r%d-%d/members/m%d", c, i, i)
				assert.Equal(t, http.StatusOK, record(r, "GET", path).Code)
				assert.Equal(t, "plain", record(r, "GET", fmt.Sprintf("/other/x%d/y/z", i)).Body.String())
				assert.Equal(t, "plain", record(r, "GET", "/what/ever").Body.String())
			}
		})
	}
	clients.Wait()
	close(keep)
	readers.Wait()
}

func TestRouteWithMethodsKeepsACopy(t *testing.T) {
	t.Parallel()
	methods := []string{"POST"}
	option := sse.WithMethods(methods...)
	methods[0] = "DELETE"
	r := newRouter(sse.Config{})
	r.SSE("/", where, option)
	require.Equal(t, http.StatusOK, record(r, "POST", "/").Code)
	require.Equal(t, http.StatusMethodNotAllowed, record(r, "DELETE", "/").Code)
}

// An option may be used for routes of several plugins: each has its own defaults.
func TestRouteWithHeartbeatTakesThePeriodOfEachPlugin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		option := sse.WithHeartbeat(sse.Heartbeat{Event: sse.Event{Name: "beat"}}) // the period is the plugin's
		for _, period := range []time.Duration{time.Second, time.Minute} {
			r := newRouter(sse.Config{Heartbeat: sse.Heartbeat{Period: period}})
			r.SSE("/", untilDone, option)
			s := servePipe(t, r).connect("/")
			require.Equal(t, "open", s.next().Data)
			require.Equal(t, "beat", s.next().Name)
			began := time.Now()
			require.Equal(t, "beat", s.next().Name)
			require.Equal(t, period, time.Since(began))
			s.leave()
		}
	})
}

func TestRouterWithoutAPluginNamesInstall(t *testing.T) {
	t.Parallel()
	r := &sse.Router{Router: chi.NewRouter()}
	message := "sse: no plugin on this router; make it, or the one it is nested in, by sse.Install(r, sse.Config{})"
	require.PanicsWithValue(t, message, func() { r.SSE("/", func(*sse.ServerSession) error { return nil }) })
}
