package compat

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

// TestElsewhere serves what SSEHandler returns without the router it comes from,
// where there is neither a guard nor chi.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	for _, row := range rows() {
		if row.slash || row.head || row.places != nil {
			continue // they need chi, or the guard
		}
		for _, transport := range transports {
			t.Run(row.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				c := &cell{
					row:   row,
					place: place{name: "elsewhere", outside: true},
					steps: newLockstep(row.pause),
					log:   new(logbook),
					ends:  make(ends, 16),
				}
				c.wraps = true // or so the plugin must think, which does not see the connection
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
				c.site = transport.start(t, chi.Chain(row.use...).Handler(mux))
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
