package compat

// This file proves that nothing ends a stream early without a log line, even if the plugin
// cannot lift the server's WriteTimeout.

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestWriteTimeoutOutOfReach has a writer outside of the plugin that hides the connection's
// deadlines, and a server whose WriteTimeout ends every stream. The plugin cannot lift that
// timeout. It may refuse the stream, or log what is going to happen. But no stream may end
// early without a log line that says why.
func TestWriteTimeoutOutOfReach(t *testing.T) {
	t.Parallel()
	logging := wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &loggingWriter{ResponseWriter: w} })
	for _, place := range places {
		if !place.outside {
			continue // here the guard reaches the connection past the writer
		}
		for _, transport := range transports {
			t.Run(place.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				s := newFixture(t, chain{logging}, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
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
				s.close() // after this, everything has been logged
				if call.StatusCode == http.StatusInternalServerError {
					require.Contains(t, string(body), "*compat.loggingWriter")
					return
				}
				require.Error(t, err, "the stream must not outlive WriteTimeout here")
				require.NotEmpty(t, s.log.all(), "the stream ended early, and the plugin logged nothing")
				require.Contains(t, s.log.all()[0], outOfReach)
				require.Contains(t, s.log.all()[0], "*compat.loggingWriter")
			})
		}
	}
}
