package compat

// This file proves that a stream that fails looks broken to the client, no matter which
// middleware recovers from panics, and that a handler that fails before its stream opens
// gives the client an HTTP status.

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// recoverer represents middleware that recovers from the panics of a handler.
type recoverer struct {
	name  string
	use   chain
	panic string // the body that a client gets if the handler panics before its stream opens
}

var recoverers = []recoverer{
	{"Recoverer", chain{quiet, middleware.Recoverer}, ""},
	{"httplog", chain{bodyLog}, ""},
	{"swallower", chain{swallower}, swallowed},
}

const swallowed = `{"error":"something went wrong"}`

// swallower recovers from every panic, even from http.ErrAbortHandler, and then writes a
// response, even if there has been one.
func swallower(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if recover() != nil {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusInternalServerError)
				io.WriteString(w, swallowed)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// quiet keeps Recoverer from printing stacks to the terminal.
func quiet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, middleware.WithLogEntry(r, noEntry{}))
	})
}

// noEntry is a log entry that logs nothing.
type noEntry struct{}

func (noEntry) Write(int, int, http.Header, time.Duration, any) {}
func (noEntry) Panic(any, []byte)                               {}

// TestBrokenEnd has a handler fail in the middle of its stream. The stream must look broken
// to the client, no matter which middleware recovers from the panic, and no middleware may
// add anything to it.
func TestBrokenEnd(t *testing.T) {
	t.Parallel()
	failures := []struct {
		name   string
		fail   func() error
		reason sse.EndReason
	}{
		{"error", func() error { return errors.New("in the middle") }, sse.EndHandlerError},
		{"panic", func() error { panic("in the middle") }, sse.EndPanic},
	}
	rows := slices.Concat(recoverers, []recoverer{
		{name: "compressors", use: chain{compressText, gzhttpAll, httpcompressZero}},
	})
	// A writer outside of everything else can keep the plugin from setting the connection's
	// deadlines.
	cutOff := after
	cutOff.name = "cut-off"
	cutOff.build = func(mw chain, cfg sse.Config, routes func(*sse.Router)) http.Handler {
		return wrapping(func(w http.ResponseWriter) http.ResponseWriter { return &loggingWriter{ResponseWriter: w} })(after.build(mw, cfg, routes))
	}
	for _, row := range rows {
		for _, place := range slices.Concat(places, []place{cutOff}) {
			for _, transport := range transports {
				for _, failure := range failures {
					t.Run(row.name+"/"+place.name+"/"+transport.name+"/"+failure.name, func(t *testing.T) {
						t.Parallel()
						read := make(signal)
						s := newFixture(t, row.use, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
							if err := s.Send(sse.Event{Data: "first"}); err != nil {
								return err
							}
							if err := read.await(s); err != nil {
								return err
							}
							return failure.fail()
						})
						if place.outside && row.name == "swallower" {
							s.errorLog.expect("(broken_test.go:") // it calls WriteHeader too late
						}
						for _, k := range kinds {
							t.Log("a stream on a route by", k.name)
							call := s.do(t, k.method, place.prefix+k.path, k.body)
							requireFirst(t, call)
							read.give(t)
							s.requireBroken(t, call)
							s.redial(t)
							require.Equal(t, failure.reason, s.ends.next(t).Reason)
							s.requireOrdinary(t, place.prefix)
						}
						log := s.log.lines()
						require.Len(t, log, len(kinds), "each end must be logged once")
						for _, line := range log {
							require.Contains(t, line, "level=ERROR")
							require.Contains(t, line, "in the middle")
						}
					})
				}
			}
		}
	}
}

// TestEarlyEnd has a handler fail before its stream opens. The client gets an HTTP status
// from the plugin or, after a panic, from the middleware that recovers.
func TestEarlyEnd(t *testing.T) {
	t.Parallel()
	for _, row := range recoverers {
		failures := []struct {
			name   string
			fail   func() error
			status int
			body   string
		}{
			{"panic", func() error { panic("too early") }, http.StatusInternalServerError, row.panic},
			{"error", func() error { return errors.New("too early") }, http.StatusInternalServerError, `{"status":500,"error":"Internal Server Error"}` + "\n"},
			{"status", func() error { return sse.Error(http.StatusConflict, errors.New("taken")) }, http.StatusConflict, `{"status":409,"error":"taken"}` + "\n"},
		}
		for _, place := range places {
			for _, transport := range transports {
				t.Run(row.name+"/"+place.name+"/"+transport.name, func(t *testing.T) {
					t.Parallel()
					fail := failures[0].fail
					s := newFixture(t, row.use, place, transport, sse.Config{}, func(*sse.ServerSession) error { return fail() })
					for _, failure := range failures {
						fail = failure.fail
						for _, k := range kinds {
							t.Logf("%s on a route by %s", failure.name, k.name)
							call := s.do(t, k.method, place.prefix+k.path, k.body)
							body, err := io.ReadAll(call.Body)
							require.NoError(t, err)
							assert.Equal(t, failure.status, call.StatusCode)
							assert.Equal(t, failure.body, string(body))
							assert.NotContains(t, call.Header.Get("Content-Type"), "event-stream")
							assert.False(t, s.ends.next(t).Opened)
							s.requireOrdinary(t, place.prefix)
						}
					}
				})
			}
		}
	}
}
