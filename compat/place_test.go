package compat

// This file defines the places of the matrix: where middleware is relative to the plugin.

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
)

// chain is a list of middleware, with the outermost first.
type chain = []func(http.Handler) http.Handler

// place represents a position of middleware relative to the plugin.
type place struct {
	name          string
	prefix        string // the prefix of all paths
	outside       bool   // the middleware runs before the plugin's guard
	beforeRouting bool   // the middleware runs before chi has routed the request
	routed        bool   // chi has made a route context before the middleware, and routes after it
	build         func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler
}

var (
	// after is the recommended place: the plugin is installed first.
	after = place{
		name: "after", beforeRouting: true, routed: true,
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			r := sse.Install(chi.NewRouter(), cfg)
			r.Use(mw...)
			routes(r)
			return r
		},
	}
	// with is for middleware of single routes.
	with = place{
		name: "with",
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			r := sse.Install(chi.NewRouter(), cfg)
			routes(sse.From(r.With(mw...)))
			return r
		},
	}
	// nested is for middleware of a router that is nested in the one with the plugin.
	nested = place{
		name: "nested", prefix: "/nested", beforeRouting: true, routed: true,
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			r := sse.Install(chi.NewRouter(), cfg)
			r.Route("/nested", func(sub chi.Router) {
				sub.Use(mw...)
				routes(sse.From(sub))
			})
			return r
		},
	}
	// before is for middleware that the same router used before the plugin was installed.
	before = place{
		name: "before", outside: true, beforeRouting: true, routed: true,
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			plain := chi.NewRouter()
			plain.Use(mw...)
			routes(sse.Install(plain, cfg))
			return plain
		},
	}
	// mounted is for middleware of a chi router on which the one with the plugin is mounted.
	mounted = place{
		name: "mounted", prefix: "/mounted", outside: true, beforeRouting: true, routed: true,
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			r := sse.Install(chi.NewRouter(), cfg)
			routes(r)
			plain := chi.NewRouter()
			plain.Use(mw...)
			plain.Mount("/mounted", r)
			return plain
		},
	}
	// around is for middleware between http.Server and the router.
	around = place{
		name: "around", outside: true, beforeRouting: true,
		build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
			r := sse.Install(chi.NewRouter(), cfg)
			routes(r)
			return chi.Chain(mw...).Handler(r)
		},
	}

	places = []place{after, with, nested, before, mounted, around}
)
