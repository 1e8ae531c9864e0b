package compat

import (
	"io"
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestOrdinaryWriter compares what the writer of an ordinary route can do with and
// without the plugin. A WebSocket, say, needs it to be a Hijacker.
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

// abilitiesOf are those that mean something in the version of HTTP: chi's Compress
// has them all, to return an error.
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
	return abilities
}
