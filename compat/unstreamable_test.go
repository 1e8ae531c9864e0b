package compat

// This file proves that the plugin refuses a stream that it cannot flush, and ends one whose
// flushes turn out not to reach the client. Both times it says which writer is at fault.

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestUnstreamable requests streams through writers that obviously cannot flush. The
// response is a status, and its body and the log name the writer.
func TestUnstreamable(t *testing.T) {
	t.Parallel()
	blind := wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &blindWriter{w} })
	timeoutHandler := func(next http.Handler) http.Handler { return http.TimeoutHandler(next, maxWait, "too late") }
	for _, row := range []struct {
		name string
		use  chain
		says string
	}{
		{"TimeoutHandler", chain{timeoutHandler}, "*http.timeoutWriter"},
		{"TimeoutHandler-in-a-stack", chain{bodyLog, timeoutHandler, compressText}, "*http.timeoutWriter"},
		{"writer-without-Flush-or-Unwrap", chain{blind}, "*compat.blindWriter"},
		{"writer-without-Flush-or-Unwrap-in-a-stack", chain{compressText, blind, bodyLog, gzhttpDefaults}, "*compat.blindWriter"},
	} {
		for _, place := range places {
			for _, transport := range transports {
				t.Run(row.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					s := newFixture(t, row.use, place, transport, sse.Config{}, func(*sse.ServerSession) error {
						t.Error("the handler must not run")
						return nil
					})
					for _, k := range kinds {
						t.Log("a route by", k.name)
						call := s.do(t, k.method, place.prefix+k.path, k.body)
						body, err := io.ReadAll(call.Body)
						require.NoError(t, err)
						require.Equal(t, http.StatusInternalServerError, call.StatusCode)
						require.Contains(t, string(body), row.says)
						require.Contains(t, string(body), "the response cannot be streamed")
						require.Contains(t, call.Header.Get("Content-Type"), "application/json")
						log := s.log.lines()
						require.NotEmpty(t, log)
						require.Contains(t, log[len(log)-1], "level=ERROR")
						require.Contains(t, log[len(log)-1], row.says)
						s.requireOrdinary(t, place.prefix)
					}
				})
			}
		}
	}
}

// TestPretender requests streams through writers whose Flush does not reach the connection.
// The plugin can detect this only at the first event. It then breaks the stream off, and
// the log says why. The handler does not go on sending to nobody, and the client does not
// go on waiting.
//
// If such a writer is outside of the plugin, the plugin cannot distinguish it from the
// connection. So only the inner places are tested.
func TestPretender(t *testing.T) {
	t.Parallel()
	hoarding := func(keepsHead, onPanic bool) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				hw := &hoardingWriter{ResponseWriter: w, keepsHead: keepsHead}
				if onPanic {
					defer hw.release()
					next.ServeHTTP(hw, r)
					return
				}
				next.ServeHTTP(hw, r)
				hw.release()
			})
		}
	}
	blind := wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &blindWriter{w} })
	logging := wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &loggingWriter{ResponseWriter: w} })
	for _, row := range []struct {
		name string
		use  chain
		says string
	}{
		{"keeps-all", chain{hoarding(true, false)}, "*compat.hoardingWriter"},
		{"keeps-all-until-a-panic", chain{hoarding(true, true)}, "*compat.hoardingWriter"},
		{"keeps-the-body", chain{hoarding(false, false)}, "*compat.hoardingWriter"},
		{"keeps-the-body-until-a-panic", chain{hoarding(false, true)}, "*compat.hoardingWriter"},
		{"flushes-what-cannot", chain{blind, logging}, "*compat.loggingWriter"},
	} {
		for _, place := range []place{after, with, nested} {
			for _, transport := range transports {
				t.Run(row.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					s := newFixture(t, row.use, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
						if err := s.Send(sse.Event{Data: "first"}); err != nil {
							return err
						}
						return untilDone(s)
					})
					for _, k := range kinds {
						t.Log("a route by", k.name)
						call, err := s.try(t, k.method, place.prefix+k.path, k.body)
						if err == nil { // the header got through
							_, err = io.ReadAll(call.Body)
						}
						require.Error(t, err)
						require.False(t, isTimeout(err), "the client must not be left waiting: %v", err)
						s.redial(t)
						end := s.ends.next(t)
						require.ErrorIs(t, end.Err, sse.ErrUnsupported)
						require.ErrorContains(t, end.Err, row.says)
						log := s.log.lines()
						require.NotEmpty(t, log, "the log must say why")
						require.Contains(t, log[len(log)-1], "level=ERROR")
						require.Contains(t, log[len(log)-1], row.says)
						s.requireOrdinary(t, place.prefix)
					}
				})
			}
		}
	}
}
