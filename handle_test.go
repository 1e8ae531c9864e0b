package sse_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// ownRouter is a router of the application's that has another one inside.
type ownRouter struct {
	chi.Router
	_ []string // such a struct cannot be compared
}

func TestHandleAddsARouteToAnyRouter(t *testing.T) {
	t.Parallel()
	mux := chi.NewRouter()
	mux.Use(mark("outside")) // before Install
	r := sse.Install(mux, sse.Config{Logger: slog.New(slog.DiscardHandler)})
	r.Use(reportIsStream)

	sse.Handle(r, "/own", where)
	sse.Handle(r.With(mark("a")), "/with", where)
	sse.Handle(r.With(mark("a")).With(mark("b")), "/with/with", where)
	r.Group(func(r chi.Router) {
		r.Use(mark("g"))
		sse.Handle(r, "/group", where)
		sse.Handle(r.With(mark("a")), "/group/with", where)
	})
	r.Route("/route/{a}", func(r chi.Router) {
		sse.Handle(r, "/", where)
		sse.Handle(r, "/path", where)
		r.Route("/{b}", func(r chi.Router) {
			sse.Handle(r, "", where)
			sse.Handle(r.With(mark("deep")), "/{c}", where)
		})
	})
	// chi's own routers know nothing of the plugin.
	sse.Handle(mux, "/mux", where)
	sse.Handle(mux.With(mark("a")), "/mux/with", where)
	mux.Group(func(r chi.Router) {
		r.Use(mark("g"))
		sse.Handle(r, "/mux/group", where)
		sse.Handle(r.With(mark("a")), "/mux/group/with", where)
	})
	sub, deeper := chi.NewRouter(), chi.NewRouter()
	sub.Mount("/deeper", deeper)
	sse.Handle(sub, "/events", where)
	r.Mount("/sub/{a}", sub)
	sse.Handle(sub.With(mark("a")), "/with", where)
	sse.Handle(deeper, "/{b}", where)
	sse.Handle(deeper.With(mark("a")), "/with/{b}", where)
	deeper.Route("/route", func(r chi.Router) { sse.Handle(r, "/{b}", where) })
	mux.Route("/mux/route", func(r chi.Router) { sse.Handle(r, "/{b}", where) })
	wrapped := chi.NewRouter()
	r.Route("/wrapped", func(r chi.Router) {
		r.Mount("/", wrapped)
		r.With(mark("w")).Mount("/mounted/with", deeper)
	})
	sse.Handle(wrapped, "/events", where)
	later := chi.NewRouter()
	wrapped.With(mark("l")).Mount("/later", later)
	sse.Handle(later, "/events", where)
	sse.Handle(ownRouter{Router: later}, "/own", where)

	for path, want := range map[string]struct {
		pattern string
		marks   []string
	}{
		"/own":                    {"/own", nil},
		"/with":                   {"/with", []string{"a"}},
		"/with/with":              {"/with/with", []string{"a", "b"}},
		"/group":                  {"/group", []string{"g"}},
		"/group/with":             {"/group/with", []string{"g", "a"}},
		"/route/1":                {"/route/{a} a=1", nil},
		"/route/1/path":           {"/route/{a}/path a=1", nil},
		"/route/1/2":              {"/route/{a}/{b} a=1 b=2", nil},
		"/route/1/2/3":            {"/route/{a}/{b}/{c} a=1 b=2 c=3", []string{"deep"}},
		"/mux":                    {"/mux", nil},
		"/mux/with":               {"/mux/with", []string{"a"}},
		"/mux/group":              {"/mux/group", []string{"g"}},
		"/mux/group/with":         {"/mux/group/with", []string{"g", "a"}},
		"/mux/route/2":            {"/mux/route/{b} b=2", nil},
		"/sub/1/events":           {"/sub/{a}/events a=1", nil},
		"/sub/1/with":             {"/sub/{a}/with a=1", []string{"a"}},
		"/sub/1/deeper/2":         {"/sub/{a}/deeper/{b} a=1 b=2", nil},
		"/sub/1/deeper/with/2":    {"/sub/{a}/deeper/with/{b} a=1 b=2", []string{"a"}},
		"/sub/1/deeper/route/2":   {"/sub/{a}/deeper/route/{b} a=1 b=2", nil},
		"/wrapped/events":         {"/wrapped/events", nil},
		"/wrapped/later/events":   {"/wrapped/later/events", []string{"l"}},
		"/wrapped/later/own":      {"/wrapped/later/own", []string{"l"}},
		"/wrapped/mounted/with/2": {"/wrapped/mounted/with/{b} b=2", []string{"w"}},
	} {
		rec := record(r, http.MethodGet, path)
		require.Equal(t, "data: "+want.pattern+"\n\n", rec.Body.String(), path)
		require.Equal(t, "true", rec.Header().Get("Is-Stream"), path)
		require.Equal(t, append([]string{"outside"}, want.marks...), rec.Header()["Mark"], path)
		rec = record(r, http.MethodOptions, path)
		require.Equal(t, "GET, HEAD, OPTIONS", rec.Header().Get("Allow"), path)
	}
}

// The route has the options that it is given, the defaults of its own plugin, and a place in it.
func TestHandleUsesThePluginOfTheRouter(t *testing.T) {
	t.Parallel()
	for _, nested := range []bool{false, true} {
		var outerOpens, opens int
		outer := newRouter(sse.Config{OnOpen: func(*sse.ServerSession) { outerOpens++ }})
		r := newRouter(sse.Config{Serializer: fields, OnOpen: func(*sse.ServerSession) { opens++ }})
		sub := chi.NewRouter()
		r.Mount("/sub", sub)
		prefix := ""
		if nested { // now the routes of both plugins have sub
			prefix = "/outer"
			outer.Mount(prefix, r)
		}
		answer := func(s *sse.ServerSession) error { return s.SendData(struct{ A int }{7}) }
		perUser := sse.WithSessionLimitBy(1, func(*http.Request) string { return "ann" })
		sse.Handle(sub, "/get", answer, perUser)
		sse.Handle(sub, "/post", answer, sse.WithMethods(http.MethodPost, "QUERY"), sse.WithSerializer(sse.JSON))
		sse.Handle(sub, "/full", func(s *sse.ServerSession) error {
			rec := record(r, http.MethodGet, "/sub/get") // is counted together
			require.Equal(t, http.StatusTooManyRequests, rec.Code)
			return s.Open()
		}, perUser)

		sse.Handle(r.Router, "/own", answer) // the chi.Mux
		root := http.Handler(r)
		if nested {
			root = outer
		}
		require.Equal(t, "data: struct { A int } {A:7}\n\n", record(root, http.MethodGet, prefix+"/sub/get").Body.String())
		require.Equal(t, "data: struct { A int } {A:7}\n\n", record(root, http.MethodGet, prefix+"/own").Body.String())
		require.Equal(t, "data: {\"A\":7}\n\n", record(root, http.MethodPost, prefix+"/sub/post").Body.String())
		require.Equal(t, "data: {\"A\":7}\n\n", record(root, "QUERY", prefix+"/sub/post").Body.String())
		require.Equal(t, http.StatusMethodNotAllowed, record(root, http.MethodGet, prefix+"/sub/post").Code)
		require.Equal(t, ": open\n\n", record(root, http.MethodGet, prefix+"/sub/full").Body.String())
		require.Equal(t, 5, opens)
		require.Zero(t, outerOpens)
	}
}

// A router of two plugins has one route, whose sessions belong to the plugin of the request, with its
// defaults and its limits.
func TestHandleOnARouterOfTwoPlugins(t *testing.T) {
	t.Parallel()
	sub := chi.NewRouter()
	open := func(s *sse.ServerSession) error { return s.SendData(7) }
	sse.Handle(sub, "/", open, sse.WithSessionLimit(1))
	var inner http.Handler
	calls := 0
	sse.Handle(sub, "/full", func(s *sse.ServerSession) error {
		if calls++; calls > 1 {
			return s.Open()
		}
		require.Equal(t, http.StatusServiceUnavailable, record(inner, http.MethodGet, "/sub/full").Code)
		require.Equal(t, "data: 7\n\n", record(inner, http.MethodGet, "/sub").Body.String())
		return s.Open()
	}, sse.WithSessionLimit(1))
	for _, cfg := range []sse.Config{{}, {Retry: time.Second}} {
		opened := 0
		cfg.OnOpen = func(*sse.ServerSession) { opened++ }
		r := newRouter(cfg)
		r.Mount("/sub", sub)
		retry := ""
		if cfg.Retry > 0 {
			retry = "retry: 1000\n\n"
		}
		inner = r
		require.Equal(t, retry+"data: 7\n\n", record(r, http.MethodGet, "/sub").Body.String())
		require.Equal(t, 1, opened)
	}
	inner = newRouter(sse.Config{})
	inner.(*sse.Router).Mount("/sub", sub)
	require.Equal(t, ": open\n\n", record(inner, http.MethodGet, "/sub/full").Body.String())

	outer, opened := newRouter(sse.Config{OnOpen: func(*sse.ServerSession) { t.Error("the outer plugin has got the session") }}), 0
	within := newRouter(sse.Config{OnOpen: func(*sse.ServerSession) { opened++ }})
	within.Mount("/sub", sub)
	outer.Mount("/within", within)
	require.Equal(t, "data: 7\n\n", record(outer, http.MethodGet, "/within/sub").Body.String())
	require.Equal(t, 1, opened)
}

// The first requests come at once, and are of one route: its limit is for all of them.
func TestHandleCountsTheFirstRequestsTogether(t *testing.T) {
	t.Parallel()
	const requests = 50
	for range 20 {
		sub := chi.NewRouter()
		var opened, refused atomic.Int64
		release := make(chan struct{})
		sse.Handle(sub, "/", func(s *sse.ServerSession) error {
			opened.Add(1)
			<-release
			return s.Open()
		}, sse.WithSessionLimit(1))
		r := newRouter(sse.Config{})
		r.Mount("/sub", sub)
		start := make(chan struct{})
		var all sync.WaitGroup
		for range requests {
			all.Go(func() {
				<-start
				if record(r, http.MethodGet, "/sub").Code == http.StatusServiceUnavailable {
					refused.Add(1)
				}
			})
		}
		close(start)
		testkit.Eventually(t, func() bool { return opened.Load()+refused.Load() == requests }, "all requests")
		close(release)
		all.Wait()
		require.EqualValues(t, 1, opened.Load())
	}
}

// Without a plugin, a stream is one of Serve's.
func TestHandleWithoutAPlugin(t *testing.T) {
	t.Parallel()
	r := chi.NewRouter()
	sse.Handle(r.With(mark("a")), "/{b}", where, sse.WithMethods(http.MethodGet, http.MethodPost))
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		rec := record(r, method, "/1")
		require.Equal(t, "data: /{b} b=1\n\n", rec.Body.String())
		require.Equal(t, []string{"a"}, rec.Header()["Mark"])
	}
	require.Equal(t, http.StatusNoContent, record(r, http.MethodOptions, "/1").Code)
	require.Equal(t, http.StatusMethodNotAllowed, record(r, http.MethodDelete, "/1").Code)
}

func TestHandlePanicsAtOnce(t *testing.T) {
	t.Parallel()
	for _, r := range []chi.Router{newRouter(sse.Config{}), chi.NewRouter()} {
		require.Equal(t, "sse: a route without a handler", panicOf(t, func() { sse.Handle(r, "/", nil) }))
		require.Contains(t, panicOf(t, func() { sse.Handle(r, "no slash", where) }), "must begin with '/'")
		heartbeat := func() { sse.Handle(r, "/", where, sse.WithHeartbeat(sse.Heartbeat{Event: sse.Event{Name: "a\nb"}})) }
		require.Contains(t, panicOf(t, heartbeat), "sse: WithHeartbeat")
	}
	require.Equal(t, "sse: Handle without a router", panicOf(t, func() { sse.Handle(nil, "/", where) }))
	for name, do := range map[string]func(){
		"From":                   func() { sse.From(chi.NewRouter()) },
		"From of one that wraps": func() { sse.From(ownRouter{Router: newRouter(sse.Config{})}) },
	} {
		text := panicOf(t, do)
		require.Contains(t, text, "sse: no plugin on this router", name)
		require.Contains(t, text, "sse.Install(r, sse.Config{})", name)
		require.Contains(t, text, "sse.Handle", name)
	}
}

// Routers are made, mounted and used by many goroutines at a time, as in parallel tests.
func TestHandleBesideOthersThatAddRoutes(t *testing.T) {
	t.Parallel()
	var routers sync.WaitGroup
	for range 8 {
		routers.Go(func() {
			r := newRouter(sse.Config{})
			for i := range 50 {
				sub := chi.NewRouter()
				r.Mount(fmt.Sprintf("/%d", i), sub)
				sub.Get("/plain", plain)
				sse.Handle(sub.With(mark("a")), "/events", where)
			}
		})
	}
	routers.Wait()
}
