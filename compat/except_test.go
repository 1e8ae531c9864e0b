package compat

// This file proves that Except keeps a limit on concurrent requests from counting streams.

import (
	"io"
	"net/http"
	"testing"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/middleware"
)

// TestExcept has a limit of one concurrent request, and a stream that stays open. With
// Except the stream does not count.
func TestExcept(t *testing.T) {
	t.Parallel()
	for _, place := range []place{after, with, nested} {
		for _, transport := range []transport{http2, h2c} {
			for _, tt := range []struct {
				name  string
				use   chain
				slash string
				want  int
			}{
				{"Throttle", chain{chimiddleware.Throttle(1)}, "", http.StatusTooManyRequests},
				{"Except", chain{middleware.Except(chimiddleware.Throttle(1))}, "", http.StatusOK},
				{"StripSlashes-Except", chain{chimiddleware.StripSlashes, middleware.Except(chimiddleware.Throttle(1))}, "/", http.StatusOK},
			} {
				if tt.slash != "" && !place.beforeRouting {
					continue
				}
				t.Run(tt.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					read := make(signal)
					s := newFixture(t, tt.use, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
						if err := s.Send(sse.Event{Data: "first"}); err != nil {
							return err
						}
						return read.await(s)
					})
					for _, k := range kinds[:2] { // without the function, which cannot be recognized as a stream
						call := s.do(t, k.method, place.prefix+k.path+tt.slash, k.body)
						requireFirst(t, call)
						ordinary := s.do(t, http.MethodGet, place.prefix+"/ordinary", "")
						require.Equal(t, tt.want, ordinary.StatusCode)
						_, err := io.ReadAll(ordinary.Body) // until it no longer counts
						require.NoError(t, err)
						read.give(t)
						_, err = io.ReadAll(call.Body)
						require.NoError(t, err)
						require.Equal(t, sse.EndReturned, s.ends.next(t).Reason)
						s.requireOrdinary(t, place.prefix)
					}
				})
			}
		}
	}
}
