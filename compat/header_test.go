package compat

// This file proves which request header the handler sees, and which one middleware sees.
// The plugin removes Accept-Encoding only for middleware, and only from requests for
// streams.

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/middleware"
)

// TestRequestHeader checks the request that the handler sees. Its header has the changes
// that middleware made, in place or in a copy, and the Accept-Encoding that the client sent.
func TestRequestHeader(t *testing.T) {
	t.Parallel()
	inPlace := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("X-In-Place", "yes")
			next.ServeHTTP(w, r)
		})
	}
	inCopy := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r = r.Clone(r.Context())
			r.Header.Set("X-In-Copy", "yes")
			r.Header.Del("Origin")
			next.ServeHTTP(w, r)
		})
	}
	for _, place := range places {
		for _, transport := range []transport{http1, http2} {
			t.Run(place.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				var header http.Header
				var id string
				s := newFixture(t, chain{inPlace, middleware.LastEventIDFromQuery, inCopy}, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
					header, id = s.Call().Header, s.LastEventID()
					return nil
				})
				for _, k := range kinds {
					t.Log("a route by", k.name)
					call := s.do(t, k.method, place.prefix+k.path+"?lastEventId=7", k.body)
					_, err := io.ReadAll(call.Body)
					require.NoError(t, err)
					s.ends.next(t)
					require.Equal(t, "yes", header.Get("X-In-Place"))
					require.Equal(t, "yes", header.Get("X-In-Copy"))
					require.NotContains(t, header, "Origin")
					require.Equal(t, "7", id)
					require.Equal(t, requestHeader.Get("Accept-Encoding"), header.Get("Accept-Encoding"))
				}
			})
		}
	}
}

// TestAcceptEncoding checks the request that middleware sees. If the plugin knows that the
// route is a stream, a compressor after the plugin sees no Accept-Encoding, so it does not
// engage. Every other request, and every request that has not reached the plugin yet, has
// the header that the client sent, before and after the handler runs.
func TestAcceptEncoding(t *testing.T) {
	t.Parallel()
	sent := requestHeader["Accept-Encoding"]
	for _, place := range places {
		for _, transport := range []transport{http1, http2} {
			t.Run(place.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				type request struct{ before, after []string }
				requests := make(chan request, 2)
				look := func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						seen := request{before: r.Header["Accept-Encoding"]}
						next.ServeHTTP(w, r)
						seen.after = r.Header["Accept-Encoding"]
						requests <- seen
					})
				}
				s := newFixture(t, chain{look}, place, transport, sse.Config{}, func(*sse.ServerSession) error { return nil })
				for _, k := range kinds {
					t.Log("a route by", k.name)
					call := s.do(t, k.method, place.prefix+k.path, k.body)
					_, err := io.ReadAll(call.Body)
					require.NoError(t, err)
					s.requireOrdinary(t, place.prefix)
					seen := <-requests
					if place.outside || k.name == "function" {
						require.Equal(t, sent, seen.before)
						require.Equal(t, sent, seen.after)
					} else {
						require.Empty(t, seen.before)
					}
					require.Equal(t, sent, (<-requests).before)
				}
			})
		}
	}
}
