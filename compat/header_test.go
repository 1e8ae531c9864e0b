package compat

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/middleware"
)

// TestRequestHeader looks at the request as the handler sees it: with what the
// middleware have made of its header, in place or in a copy, and with the
// Accept-Encoding that the client has sent.
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
				s := newStage(t, chain{inPlace, middleware.LastEventIDFromQuery, inCopy}, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
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

// TestAcceptEncoding looks at the request as middleware sees it. Where a route is
// known to be a stream, nothing is left for a compressor behind the plugin to
// ready itself for. Any other request, and one that the plugin has not got yet, is
// as it was sent, and stays so.
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
				s := newStage(t, chain{look}, place, transport, sse.Config{}, func(*sse.ServerSession) error { return nil })
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
