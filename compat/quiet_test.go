package compat

// This file proves that the opening and the heartbeats of a stream get through every
// compressor and wrapper, even though they are small and the handler sends nothing.

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestQuietStream has a handler that sends nothing. The stream opens by itself, and its
// heartbeats arrive, although another goroutine sends them and they are smaller than the
// threshold of a compressor.
func TestQuietStream(t *testing.T) {
	t.Parallel()
	const (
		beat = ": heartbeat\n\n"
		want = ": open\n\n" + beat + beat
	)
	cfg := sse.Config{OpenDelay: 20 * time.Millisecond, Heartbeat: sse.Heartbeat{Period: 20 * time.Millisecond}}
	for _, row := range rows() {
		if !row.wraps || row.server != nil {
			continue
		}
		for _, place := range row.in() {
			for _, transport := range []transport{http1, http2} {
				t.Run(row.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					read := make(signal)
					s := newFixture(t, row.use, place, transport, cfg, func(s *sse.ServerSession) error {
						return read.await(s)
					})
					if place.outside && row.late != "" {
						s.errorLog.expect(row.late)
					}
					for _, k := range kinds {
						t.Log("a route by", k.name)
						call := s.do(t, k.method, place.prefix+k.path, k.body)
						require.Equal(t, http.StatusOK, call.StatusCode)
						requireNext(t, call, want)
						read.give(t)
						rest, err := io.ReadAll(call.Body)
						require.NoError(t, err)
						require.Empty(t, strings.ReplaceAll(string(rest), beat, ""))
						require.Equal(t, sse.EndReturned, s.ends.next(t).Reason)
						s.requireOrdinary(t, place.prefix)
					}
					require.Empty(t, s.log.lines())
				})
			}
		}
	}
}
