package compat

// This file proves that a router with the plugin can be mounted on another one with it.

import (
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
)

// TestPluginInPlugin installs the plugin on a router and on another that is mounted on it.
// The guard of the outer plugin comes first, no matter to which router the route belongs.
func TestPluginInPlugin(t *testing.T) {
	t.Parallel()
	in := []place{
		{
			name: "outer", prefix: "/mounted", beforeRouting: true, routed: true,
			build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
				inner, outer := sse.Install(chi.NewRouter(), cfg), sse.Install(chi.NewRouter(), cfg)
				outer.Use(mw...)
				outer.Mount("/mounted", inner)
				routes(inner)
				return outer
			},
		},
		{
			name: "inner", prefix: "/mounted", beforeRouting: true, routed: true,
			build: func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
				inner, outer := sse.Install(chi.NewRouter(), cfg), sse.Install(chi.NewRouter(), cfg)
				inner.Use(mw...)
				outer.Mount("/mounted", inner)
				routes(inner)
				return outer
			},
		},
	}
	for _, row := range rows() {
		if row.server != nil || row.config != nil {
			continue
		}
		for _, place := range in {
			for _, transport := range []transport{http1, http2} {
				t.Run(row.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					newCell(t, row, place, transport).allKinds(t)
				})
			}
		}
	}
}
