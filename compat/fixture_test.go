package compat

// This file sets up a server with one handler on all kinds of routes, for tests that do not
// use the script.

import (
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// fixture is a test server that has one handler on all kinds of routes.
type fixture struct {
	*testServer
	plugin *sse.Plugin
	log    *logBuffer // what the plugin logs
	ends   ends
}

func newFixture(t *testing.T, mw chain, place place, transport transport, cfg sse.Config, h sse.Handler, set ...func(*http.Server)) *fixture {
	t.Helper()
	s := &fixture{log: new(logBuffer), ends: make(ends, 16)}
	cfg.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	cfg.OnClose = func(_ *sse.ServerSession, end sse.End) { s.ends <- end }
	s.testServer = transport.start(t, place.build(mw, cfg, func(r *sse.Router) {
		s.plugin = r.Plugin()
		r.SSE("/events", h)
		r.Method(http.MethodPost, "/chat", r.SSEHandler(h))
		r.Post("/chat2", inFunction(r.SSEHandler(h)))
		r.Get("/ordinary", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, ordinaryBody) })
	}), set...)
	return s
}

// inFunction returns a function that calls h, of which the plugin cannot know what it does.
func inFunction(h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }
}

// ends receives the ends of sessions, in order.
type ends chan sse.End

// next waits for the end of a session.
func (e ends) next(t *testing.T) sse.End {
	t.Helper()
	select {
	case end := <-e:
		return end
	case <-time.After(maxWait):
		require.Fail(t, "the session has not ended")
		return sse.End{}
	}
}

// requireFirst requires the first event of a stream.
func requireFirst(t *testing.T, call *call) {
	t.Helper()
	require.Equal(t, http.StatusOK, call.StatusCode)
	requireNext(t, call, "data: first\n\n")
}

// requireNext requires the next bytes of a stream.
func requireNext(t *testing.T, call *call, want string) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(call.Body, got)
	require.Equal(t, want, string(got[:n]), "%v", err)
}

// requireBroken requires that no more events arrive, and that the response ends with an
// error. So no client mistakes the truncated stream for a complete one.
func (s *testServer) requireBroken(t *testing.T, call *call) {
	t.Helper()
	rest, err := io.ReadAll(call.Body)
	require.Error(t, err)
	require.False(t, isTimeout(err), "the response has not ended: %v", err)
	switch {
	case s.isHTTP2():
		require.ErrorContains(t, err, "stream error")
	case !s.TLS: // TLS may end in the middle of a record, with another error
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
	require.Empty(t, string(rest), "nothing may follow the last event")
}

// redial replaces a connection that was broken. On HTTP/2 only a stream was broken.
func (s *testServer) redial(t *testing.T) {
	t.Helper()
	if !s.isHTTP2() {
		s.dial(t)
	}
}

// requireOrdinary sends an ordinary request on the same connection, and requires its
// response.
func (s *fixture) requireOrdinary(t *testing.T, prefix string) {
	t.Helper()
	call := s.do(t, http.MethodGet, prefix+"/ordinary", "")
	body, err := io.ReadAll(call.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, call.StatusCode)
	require.Equal(t, ordinaryBody, decoded(t, call.Header.Get("Content-Encoding"), body))
}
