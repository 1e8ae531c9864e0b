package compat

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestWriteTimeoutOutOfReach has a writer outside of the plugin that bars the way
// to the connection's deadlines, and a server whose WriteTimeout will end every
// stream. The plugin cannot lift it. It may refuse the stream, or say what is going
// to happen to it; but streams must not end early with nobody being told why.
func TestWriteTimeoutOutOfReach(t *testing.T) {
	t.Parallel()
	logging := wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &loggingWriter{ResponseWriter: w} })
	for _, place := range places {
		if !place.outside {
			continue // where the guard reaches past it
		}
		for _, transport := range transports {
			t.Run(place.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				s := newStage(t, chain{logging}, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
					for range 5 {
						if err := s.Send(sse.Event{Data: "first"}); err != nil {
							return err
						}
						if err := wait(s, 300*time.Millisecond); err != nil {
							return err
						}
					}
					return nil
				}, func(s *http.Server) { s.WriteTimeout = time.Second })
				call := s.do(t, http.MethodGet, place.prefix+"/events", "")
				body, err := io.ReadAll(call.Body)
				s.close() // the log is written by then
				if call.StatusCode == http.StatusInternalServerError {
					require.Contains(t, string(body), "*compat.loggingWriter")
					return
				}
				require.Error(t, err, "the stream has outlived the timeout: how?")
				require.NotEmpty(t, s.log.all(), "the stream has ended early, and nothing is logged")
				require.Contains(t, s.log.all()[0], outOfReach)
				require.Contains(t, s.log.all()[0], "*compat.loggingWriter")
			})
		}
	}
}
