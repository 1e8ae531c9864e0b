package compat

// This file proves that the plugin takes nothing away from the ResponseWriter of ordinary
// routes.

import (
	"io"
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestOrdinaryWriter compares the interfaces that the writer of an ordinary route
// implements with and without the plugin. For example, a WebSocket needs an http.Hijacker.
func TestOrdinaryWriter(t *testing.T) {
	t.Parallel()
	for _, row := range rows() {
		if row.server != nil || row.config != nil {
			continue
		}
		for _, place := range row.in() {
			for _, transport := range []transport{http1, http2} {
				t.Run(row.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					var abilities []string
					plain := chi.NewRouter()
					plain.With(row.use...).Get("/ordinary", func(w http.ResponseWriter, r *http.Request) { abilities = abilitiesOf(w, r) })
					transport.start(t, plain).do(t, http.MethodGet, "/ordinary", "")
					want := abilities

					handler := place.build(row.use, sse.Config{}, func(r *sse.Router) {
						r.Method(http.MethodGet, "/events", r.SSEHandler(func(*sse.ServerSession) error { return nil }))
						r.Get("/ordinary", func(w http.ResponseWriter, r *http.Request) { abilities = abilitiesOf(w, r) })
					})
					c := cell{row: row, place: place}
					transport.start(t, handler).do(t, http.MethodGet, c.at("/ordinary"), "")
					require.Subset(t, abilities, want)
				})
			}
		}
	}
}

// abilitiesOf returns the optional interfaces that w implements and that have an effect in
// the request's version of HTTP. chi's Compress implements all of them, but some only
// return an error.
func abilitiesOf(w http.ResponseWriter, r *http.Request) (abilities []string) {
	if _, ok := w.(http.Flusher); ok {
		abilities = append(abilities, "Flusher")
	}
	if _, ok := w.(http.Hijacker); ok && r.ProtoMajor == 1 {
		abilities = append(abilities, "Hijacker")
	}
	if _, ok := w.(io.ReaderFrom); ok && r.ProtoMajor == 1 {
		abilities = append(abilities, "ReaderFrom")
	}
	if _, ok := w.(http.Pusher); ok && r.ProtoMajor == 2 {
		abilities = append(abilities, "Pusher")
	}
	if _, ok := w.(http.CloseNotifier); ok { //nolint:staticcheck // deprecated, but in use
		abilities = append(abilities, "CloseNotifier")
	}
	return abilities
}
