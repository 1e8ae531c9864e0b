package compat

// This file proves that CORS middleware answers preflight requests for streams, and that other
// OPTIONS requests reach the plugin, which answers them without running the handler.

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		for _, transport := range []transport{http1, http2} {
			t.Run(place.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				s := newFixture(t, chain{corsAll}, place, transport, sse.Config{}, func(*sse.ServerSession) error {
					t.Error("the handler ran")
					return nil
				})
				call := s.do(t, http.MethodOptions, place.prefix+"/events", "")
				require.Equal(t, http.StatusNoContent, call.StatusCode)
				require.Equal(t, "GET, HEAD, OPTIONS", call.Header.Get("Allow"))
				require.Equal(t, "https://example.com", call.Header.Get("Access-Control-Allow-Origin"))

				preflight := requestHeader.Clone()
				preflight.Set("Access-Control-Request-Method", http.MethodGet)
				call = s.doHeader(t, http.MethodOptions, place.prefix+"/events", preflight)
				require.Equal(t, http.StatusOK, call.StatusCode)
				require.Equal(t, http.MethodGet, call.Header.Get("Access-Control-Allow-Methods"))
				require.Empty(t, call.Header.Get("Allow"), "the middleware has answered")
				require.Equal(t, http.StatusMethodNotAllowed, s.do(t, http.MethodTrace, place.prefix+"/events", "").StatusCode)
			})
		}
	}
}
