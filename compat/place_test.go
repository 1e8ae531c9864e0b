package compat

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
)

// chain is middleware, outermost first.
type chain = []func(http.Handler) http.Handler

// place is where middleware stands to the plugin.
type place struct {
	name    string
	prefix  string // of the paths
	outside bool   // the plugin's guard is behind the middleware
	unsplit bool   // chi has not routed the request before the middleware sees it
	routed  bool   // chi has a route context for the middleware, and routes behind it
	build   func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler
}

var (
	// after is how it should be: the plugin is installed first.
	after = place{
		name: "after", unsplit: true, routed: true,
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			r := sse.Install(chi.NewRouter(), cfg)
			r.Use(mw...)
			routes(r)
			return r
		},
	}
	// with is middleware for single routes.
	with = place{
		name: "with",
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			r := sse.Install(chi.NewRouter(), cfg)
			routes(sse.From(r.With(mw...)))
			return r
		},
	}
	// nested is middleware of a router inside the one that has the plugin.
	nested = place{
		name: "nested", prefix: "/nested", unsplit: true, routed: true,
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			r := sse.Install(chi.NewRouter(), cfg)
			r.Route("/nested", func(sub chi.Router) {
				sub.Use(mw...)
				routes(sse.From(sub))
			})
			return r
		},
	}
	// before is middleware of the same router that was there before the plugin.
	before = place{
		name: "before", outside: true, unsplit: true, routed: true,
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			plain := chi.NewRouter()
			plain.Use(mw...)
			routes(sse.Install(plain, cfg))
			return plain
		},
	}
	// mounted is middleware of a chi router on which the one with the plugin is
	// mounted.
	mounted = place{
		name: "mounted", prefix: "/mounted", outside: true, unsplit: true, routed: true,
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			r := sse.Install(chi.NewRouter(), cfg)
			routes(r)
			plain := chi.NewRouter()
			plain.Use(mw...)
			plain.Mount("/mounted", r)
			return plain
		},
	}
	// around is what stands between http.Server and the router.
	around = place{
		name: "around", outside: true, unsplit: true,
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			r := sse.Install(chi.NewRouter(), cfg)
			routes(r)
			return chi.Chain(mw...).Handler(r)
		},
	}

	places = []place{after, with, nested, before, mounted, around}
)
