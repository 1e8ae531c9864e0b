package compat

// This file proves that Plugin.Shutdown tells every client when to come back, no matter
// which middleware is in between.

import (
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestShutdown shuts the plugin down. An open stream ends with a reconnection time. A
// browser that connects after that gets a stream with nothing but a reconnection time, and
// any other client gets a status.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, row := range rows() {
		if !row.wraps || row.server != nil || row.slash {
			continue
		}
		for _, place := range row.in() {
			for _, transport := range []transport{http1, http2} {
				t.Run(row.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					for _, k := range kinds {
						t.Log("a route by", k.name)
						s := newFixture(t, row.use, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
							if err := s.Send(sse.Event{Data: "first"}); err != nil {
								return err
							}
							return untilDone(s)
						})
						call := s.do(t, k.method, place.prefix+k.path, k.body)
						requireFirst(t, call)
						require.NoError(t, s.plugin.Shutdown(t.Context()))
						require.Equal(t, sse.EndShutdown, s.ends.next(t).Reason)
						rest, err := io.ReadAll(call.Body)
						require.NoError(t, err)
						require.Regexp(t, `^retry: [0-9]+\n\n$`, string(rest))

						if k.method == http.MethodGet {
							s.agent = "Mozilla/5.0"
							call = s.do(t, k.method, place.prefix+k.path, k.body)
							require.Equal(t, http.StatusOK, call.StatusCode)
							require.Equal(t, "text/event-stream", call.Header.Get("Content-Type"))
							body, err := io.ReadAll(call.Body)
							require.NoError(t, err)
							require.Regexp(t, `^retry: [0-9]+\n: shutting down\n\n$`, string(body))
						}
						s.agent = "Go"
						call = s.do(t, k.method, place.prefix+k.path, k.body)
						require.Equal(t, http.StatusServiceUnavailable, call.StatusCode)
						after, err := strconv.Atoi(call.Header.Get("Retry-After"))
						require.NoError(t, err)
						require.Positive(t, after)
						body, err := io.ReadAll(call.Body)
						require.NoError(t, err)
						require.Contains(t, decoded(t, call.Header.Get("Content-Encoding"), body), "shutting down")
						s.requireOrdinary(t, place.prefix)
					}
				})
			}
		}
	}
}
