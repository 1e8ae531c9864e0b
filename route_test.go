package sse_test

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// mark returns a middleware that adds its name to the header "Mark".
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
	r.Use(reportIsStream)
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
	// The routers that Group and Route return have the plugin too.
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
		paths   map[string]string // from the path to what where sends; "" if by chi's rules no route matches
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
			r.Use(reportIsStream)
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

func TestRouteWithMethods(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(reportIsStream)
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
		"OPTIONS /chat",
		"OPTIONS /clock",
		"OPTIONS /rooms/{room}/",
		"OPTIONS /rooms/{room}/{topic}",
		"OPTIONS /sub/events",
		"POST /chat",
	}, routes)
	require.True(t, r.Match(chi.NewRouteContext(), "GET", "/rooms/1/2"))
	require.False(t, r.Match(chi.NewRouteContext(), "POST", "/rooms/1/2"))
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
		"methods without a stream":     {func() { sse.WithMethods("GET", "options") }, []string{"WithMethods", "options", "any other"}},
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

// One option may be used for routes of several plugins. Each route takes its defaults from its
// own plugin.
func TestRouteWithHeartbeatTakesThePeriodOfEachPlugin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		option := sse.WithHeartbeat(sse.Heartbeat{Event: sse.Event{Name: "beat"}}) // without a period
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
	message := "sse: no plugin on this router (*chi.Mux); use the router that sse.Install(r, sse.Config{}) returns, " +
		"or one that its Route, Group or With passes on, or add the route with sse.Handle"
	require.PanicsWithValue(t, message, func() { r.SSE("/", func(*sse.ServerSession) error { return nil }) })
}
