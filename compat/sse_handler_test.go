package compat

// This file proves that the handler that SSEHandler returns also works without the router
// that it comes from.

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"

	"github.com/chi-sse/sse"
)

// TestElsewhere mounts the handler that SSEHandler returns on an http.ServeMux. There is
// neither chi nor the plugin's guard.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	for _, row := range rows() {
		if row.slash || row.head || row.places != nil {
			continue // these rows need chi or the guard
		}
		for _, transport := range transports {
			t.Run(row.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				c := &cell{
					row:   row,
					place: place{name: "elsewhere", outside: true},
					steps: newLockstep(row.pause),
					log:   new(logBuffer),
					ends:  make(ends, 16),
				}
				r := sse.Install(chi.NewRouter(), sse.Config{
					Logger:  slog.New(slog.NewTextHandler(c.log, nil)),
					OnClose: func(_ *sse.ServerSession, end sse.End) { c.ends <- end },
				})
				mux := http.NewServeMux()
				mux.Handle("/events", r.SSEHandler(c.steps.send))
				mux.Handle("/broken", r.SSEHandler(func(s *sse.ServerSession) error {
					return errors.Join(s.Send(sse.Event{Data: "first"}), errors.New("in the middle"))
				}))
				mux.HandleFunc("/ordinary", func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", c.ordinaryType())
					io.WriteString(w, ordinaryBody)
				})
				c.testServer = transport.start(t, chi.Chain(row.use...).Handler(mux))
				c.errorLog.expect(lateTimeout)

				c.stream(t, kinds[0])
				c.ordinary(t)
				assert.Empty(t, c.log.lines())

				call := c.do(t, http.MethodGet, "/broken", "")
				requireFirst(t, call)
				c.requireBroken(t, call)
			})
		}
	}
}
