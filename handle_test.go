package sse_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// ownRouter is a router of the application's that has another one inside.
type ownRouter struct {
	chi.Router
	_ []string // such a struct cannot be compared
}

func TestHandleAddsARouteToAnyRouterOfAnInstalledOne(t *testing.T) {
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
	r.Mount("/sub/{a}", sub)
	sse.Handle(sub, "/events", where)
	sse.Handle(sub.With(mark("a")), "/with", where)
	sse.Handle(deeper, "/{b}", where)
	sse.Handle(deeper.With(mark("a")), "/with/{b}", where)
	sse.From(deeper).Route("/route", func(r chi.Router) { sse.Handle(r, "/{b}", where) })
	sse.From(mux).Route("/mux/route", func(r chi.Router) { sse.Handle(r, "/{b}", where) })
	wrapped := chi.NewRouter()
	r.Route("/wrapped", func(r chi.Router) {
		r.Mount("/", wrapped)
		r.With(mark("w")).Mount("/mounted/with", deeper)
	})
	sse.Handle(wrapped, "/events", where)
	later := chi.NewRouter()
	sse.From(wrapped).With(mark("l")).Mount("/later", later)
	sse.Handle(later, "/events", where)

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

func TestHandlePanicsWithoutAPlugin(t *testing.T) {
	t.Parallel()
	sub := chi.NewRouter()
	newRouter(sse.Config{}).Mount("/sub", sub)
	for name, do := range map[string]func(){
		"a router of its own":         func() { sse.Handle(chi.NewRouter(), "/", where) },
		"one that is mounted on none": func() { r := chi.NewRouter(); chi.NewRouter().Mount("/", r); sse.Handle(r, "/", where) },
		"one that is mounted later":   func() { sub.Route("/", func(r chi.Router) { sse.Handle(r, "/", where) }) },
		"With":                        func() { sse.Handle(chi.NewRouter().With(mark("a")), "/", where) },
		"From":                        func() { sse.From(chi.NewRouter()) },
		"one that is mounted by chi":  func() { r := chi.NewRouter(); sub.Mount("/r", r); sse.Handle(r, "/", where) },
		"From of one that wraps":      func() { sse.From(ownRouter{Router: sub}) },
	} {
		text := panicOf(t, do)
		require.Contains(t, text, "sse: no plugin on this router", name)
		require.Contains(t, text, "sse.Install(r, sse.Config{})", name)
		require.Contains(t, text, "mount", name)
	}
	for _, r := range []chi.Router{newRouter(sse.Config{}), sub} {
		require.Equal(t, "sse: a route without a handler", panicOf(t, func() { sse.Handle(r, "/", nil) }))
	}
}

func TestHandlePanicsIfTwoPluginsHaveTheRouter(t *testing.T) {
	t.Parallel()
	r, other, sub := newRouter(sse.Config{}), newRouter(sse.Config{}), chi.NewRouter()
	r.Mount("/sub", sub)
	r.Mount("/again", sub)
	sse.Handle(sub, "/", where)
	other.Mount("/sub", sub)
	require.Contains(t, panicOf(t, func() { sse.Handle(sub, "/more", where) }), "two plugins")
	runtime.KeepAlive(r)
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
				panicOf(t, func() { sse.Handle(chi.NewRouter(), "/", where) })
			}
		})
	}
	routers.Wait()
}
