package compat

// This file proves that the plugin notices when a client leaves and when a middleware
// cancels the request, even after the deadline of a middleware has passed.

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestLeave has a client leave after a Timeout has expired. The stream goes on after the
// Timeout expires.
//
// If the plugin is outside of the Timeout, it notices at once that the client leaves. If
// the plugin is inside, its only context is already done and cannot report anything more.
// The plugin then notices when it sends the next heartbeat.
func TestLeave(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		for _, transport := range transports {
			t.Run(place.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				heartbeat := sse.Heartbeat{Period: -1}
				if place.outside {
					heartbeat.Period = timeout / 5
				}
				open := make(chan struct{})
				s := newFixture(t, chain{middleware.Timeout(timeout)}, place, transport, sse.Config{Heartbeat: heartbeat}, func(s *sse.ServerSession) error {
					if err := s.Send(sse.Event{Data: "before"}); err != nil {
						return err
					}
					if err := wait(s, pause); err != nil {
						return err
					}
					if err := s.Send(sse.Event{Data: "after"}); err != nil {
						return err
					}
					close(open)
					return untilDone(s)
				})
				s.errorLog.expect(lateTimeout)

				call := s.do(t, http.MethodGet, place.prefix+"/events", "")
				go func() { _, _ = io.Copy(io.Discard, call.Body) }() // until the client leaves
				select {
				case <-open:
				case end := <-s.ends:
					require.Failf(t, "the stream ended with the timeout", "%v: %v", end.Reason, end.Err)
				}
				require.Empty(t, s.ends)
				call.leave()
				require.Equal(t, sse.EndClientGone, s.ends.next(t).Reason)
			})
		}
	}
}

// TestCancel has a middleware cancel the request. Unlike a deadline, this ends the stream.
// The stream looks broken, because the handler had not returned.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, place := range places {
		if place.outside {
			continue // here the plugin cannot distinguish this from a client that leaves
		}
		for _, transport := range transports {
			t.Run(place.name+"/"+transport.name, func(t *testing.T) {
				t.Parallel()
				cancels := make(chan context.CancelFunc, 1)
				canceling := func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						ctx, cancel := context.WithCancel(r.Context())
						defer cancel()
						cancels <- cancel
						next.ServeHTTP(w, r.WithContext(ctx))
					})
				}
				s := newFixture(t, chain{canceling, middleware.Timeout(time.Hour)}, place, transport, sse.Config{Heartbeat: sse.Heartbeat{Period: -1}}, func(s *sse.ServerSession) error {
					if err := s.Send(sse.Event{Data: "first"}); err != nil {
						return err
					}
					return untilDone(s)
				})
				call := s.do(t, http.MethodGet, place.prefix+"/events", "")
				requireFirst(t, call)
				(<-cancels)()
				end := s.ends.next(t)
				require.Equal(t, sse.EndCanceled, end.Reason)
				require.ErrorIs(t, end.Err, context.Canceled)
				s.requireBroken(t, call)
			})
		}
	}
}
