package compat

import (
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// stage is a site with one handler at all kinds of routes, for what is not played
// by the script.
type stage struct {
	*site
	plugin *sse.Plugin
	log    *logbook // the plugin's
	ends   ends
}

func newStage(t *testing.T, mw chain, place place, transport transport, cfg sse.Config, h sse.Handler, set ...func(*http.Server)) *stage {
	t.Helper()
	s := &stage{log: new(logbook), ends: make(ends, 16)}
	cfg.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	cfg.OnClose = func(_ *sse.ServerSession, end sse.End) { s.ends <- end }
	s.site = transport.start(t, place.build(mw, cfg, func(r *sse.Router) {
		s.plugin = r.Plugin()
		r.SSE("/events", h)
		r.Method(http.MethodPost, "/chat", r.SSEHandler(h))
		r.Post("/chat2", r.SSEHandler(h).ServeHTTP)
		r.Get("/ordinary", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, ordinaryBody) })
	}), set...)
	return s
}

// ends are those of sessions, in their order.
type ends chan sse.End

// next waits for the end of a session.
func (e ends) next(t *testing.T) sse.End {
	t.Helper()
	select {
	case end := <-e:
		return end
	case <-time.After(patience):
		require.Fail(t, "the session has no end")
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

// requireBroken requires that nothing more comes, and that the end of it cannot be
// taken for the end of the stream.
func (s *site) requireBroken(t *testing.T, call *call) {
	t.Helper()
	rest, err := io.ReadAll(call.Body)
	require.Error(t, err)
	require.False(t, isTimeout(err), "it has no end: %v", err)
	switch {
	case s.major == 2:
		require.ErrorContains(t, err, "stream error")
	case !s.tls: // which may break in the middle of a record
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
	require.Empty(t, string(rest), "beyond the last event")
}

// redial makes good for a connection that was broken. On HTTP/2 a stream alone is.
func (s *site) redial(t *testing.T) {
	t.Helper()
	if s.major == 1 {
		s.dial(t)
	}
}

// requireOrdinary requires an ordinary answer, on the same connection.
func (s *stage) requireOrdinary(t *testing.T, prefix string) {
	t.Helper()
	call := s.do(t, http.MethodGet, prefix+"/ordinary", "")
	body, err := io.ReadAll(call.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, call.StatusCode)
	require.Equal(t, ordinaryBody, decoded(t, call.Header.Get("Content-Encoding"), body))
}
