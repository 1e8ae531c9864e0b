package sse_test

import (
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// The guard hides Accept-Encoding from middleware, so that none compresses a stream or keeps
// an encoder for it. The handler sees the request as the client sent it.
func TestRouteMiddlewareSeesNoAcceptEncodingOfAStream(t *testing.T) {
	t.Parallel()
	var seen string
	see := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = r.Header.Get("Accept-Encoding")
			next.ServeHTTP(w, r)
		})
	}
	r := newRouter(sse.Config{})
	r.Use(see, middleware.Compress(5, "text/*"))
	r.SSE("/events", func(s *sse.ServerSession) error { return s.SendData(s.Call().Header.Get("Accept-Encoding")) })
	r.Get("/plain", plain)
	rec := record(r, http.MethodGet, "/events", "Accept-Encoding", "gzip")
	require.Empty(t, seen)
	require.Equal(t, "data: gzip\n\n", rec.Body.String())
	require.NotContains(t, rec.Header(), "Content-Encoding")
	record(r, http.MethodGet, "/plain", "Accept-Encoding", "gzip")
	require.Equal(t, "gzip", seen)
}
