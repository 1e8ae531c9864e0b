package compat

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

// recoverer is middleware that stands between a panic and the connection.
type recoverer struct {
	name  string
	use   chain
	panic string // what a client is told of a panic that comes early enough
}

var recoverers = []recoverer{
	{"Recoverer", chain{quiet, middleware.Recoverer}, ""},
	{"httplog", chain{bodyLog}, ""},
	{"swallower", chain{swallower}, swallowed},
}

const swallowed = `{"error":"something went wrong"}`

// swallower recovers from everything, http.ErrAbortHandler included, and answers
// whatever has been answered before.
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

// quiet keeps Recoverer's stacks off the terminal.
func quiet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, middleware.WithLogEntry(r, noEntry{}))
	})
}

type noEntry struct{}

func (noEntry) Write(int, int, http.Header, time.Duration, any) {}
func (noEntry) Panic(any, []byte)                               {}

// TestBrokenEnd breaks a stream in its middle. It must look broken whoever
// recovers from that, and nobody else may have the last word in it.
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
	// Around it all, a writer can keep the plugin from the connection's deadlines.
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
						s := newStage(t, row.use, place, transport, sse.Config{}, func(s *sse.ServerSession) error {
							if err := s.Send(sse.Event{Data: "first"}); err != nil {
								return err
							}
							if err := read.await(s); err != nil {
								return err
							}
							return failure.fail()
						})
						if place.outside && row.name == "swallower" {
							s.errorLog.expect("(broken_test.go:") // its late WriteHeader
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
						require.Len(t, log, len(kinds), "each end is logged once")
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

// TestEarlyEnd has a handler fail before there is a stream: the client gets a
// status, from the plugin or, after a panic, from whoever recovers.
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
					s := newStage(t, row.use, place, transport, sse.Config{}, func(*sse.ServerSession) error { return fail() })
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
