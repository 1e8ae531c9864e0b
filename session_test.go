package sse_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestSessionRequest(t *testing.T) {
	t.Parallel()
	type key struct{}
	r := newRouter(sse.Config{})
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := context.WithValue(r.Context(), key{}, "of an inner middleware")
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	})
	r.SSE("/rooms/{room}", func(s *sse.ServerSession) error {
		for _, ctx := range []context.Context{s.Context(), s.Call().Context()} {
			assert.Equal(t, "of an inner middleware", ctx.Value(key{}))
			_, limited := ctx.Deadline()
			assert.False(t, limited)
			testkit.NoError(t, ctx.Err())
		}
		body, err := io.ReadAll(s.Call().Body)
		testkit.NoError(t, err)
		return s.SendData(fmt.Sprintf("%s %s?%s %s last=%s", s.Call().Method, chi.URLParam(s.Call(), "room"),
			s.Call().URL.RawQuery, body, s.LastEventID()))
	}, sse.WithMethods("POST", "GET"), sse.WithSerializer(sse.Text))
	srv := serve(t, r)
	require.Equal(t, "data: GET 7?a=b  last=42\n\n", get(t, srv, "/rooms/7?a=b", "Last-Event-ID", "42").Body)

	resp, err := srv.Client().Post(srv.URL+"/rooms/7", "text/plain", strings.NewReader("with a body"))
	require.NoError(t, err)
	require.Equal(t, "data: POST 7? with a body last=\n\n", readAnswer(resp).Body)
}

// The handler sees the request header as middleware has changed it, for example to add the
// name of a user or the Last-Event-ID of a polyfill.
func TestSessionRequestHeaderOfAMiddleware(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("X-User", "ann")
			r.Header.Set("Last-Event-ID", "42")
			r.Header.Del("X-Forged")
			next.ServeHTTP(w, r)
		})
	})
	h := func(s *sse.ServerSession) error {
		header := s.Call().Header
		return s.SendData(fmt.Sprint(header.Get("X-User"), header.Get("X-Forged"), " ", s.LastEventID()))
	}
	r.SSE("/path", h)
	r.Get("/function", r.SSEHandler(h).ServeHTTP)
	for _, path := range []string{"/path", "/function"} {
		for _, header := range [][]string{
			{"X-Forged", "bob"},
			{"X-Forged", "bob", "Accept-Encoding", "gzip"}, // as every browser sends it
		} {
			require.Equal(t, "data: ann 42\n\n", record(r, "GET", path, header...).Body.String(), "%s %v", path, header)
		}
	}
}
