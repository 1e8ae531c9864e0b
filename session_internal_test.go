package sse

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

// stateWriter records in which state its session writes the head, and fails on demand.
type stateWriter struct {
	*httptest.ResponseRecorder
	session *ServerSession
	atHead  sessionState
	err     error
}

func (w *stateWriter) WriteHeader(status int) {
	w.atHead = w.session.state // the session's own goroutine writes, and holds the lock
	w.ResponseRecorder.WriteHeader(status)
}

func (w *stateWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	return w.ResponseRecorder.Write(p)
}

func (w *stateWriter) SetWriteDeadline(time.Time) error { return nil }

func (s *ServerSession) stateNow() sessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// The rows of the table at sessionState, and what a send returns in each state.
func TestSessionStates(t *testing.T) {
	errWrite := errors.New("the cable is cut")
	do := func(step string, s *ServerSession, w *stateWriter) error {
		switch step {
		case "send":
			return s.Send(Event{Data: "x"})
		case "failing send":
			w.err = errWrite
			return s.Send(Event{Data: "x"})
		case "heartbeat":
			return s.beat()
		case "end":
			return s.Close()
		}
		panic(step)
	}
	for _, row := range []struct {
		steps []string
		want  sessionState // before the handler returns
		err   error        // of the last step
	}{
		{nil, pending, nil},
		{[]string{"end"}, pending, nil},
		{[]string{"end", "send"}, pending, ErrClosed},
		{[]string{"send"}, open, nil},
		{[]string{"failing send"}, torn, errWrite},
		{[]string{"send", "send"}, open, nil},
		{[]string{"send", "heartbeat"}, open, nil},
		{[]string{"send", "end"}, open, nil},
		{[]string{"send", "end", "send"}, open, ErrClosed},
		{[]string{"send", "failing send"}, torn, errWrite},
		{[]string{"failing send", "send"}, torn, ErrClosed},
	} {
		t.Run(strings.Join(row.steps, ", "), func(t *testing.T) {
			w := &stateWriter{ResponseRecorder: httptest.NewRecorder()}
			r := Install(chi.NewRouter(), Config{Logger: slog.New(slog.DiscardHandler)})
			var got sessionState
			var err error
			r.SSE("/", func(s *ServerSession) error {
				w.session = s
				for _, step := range row.steps {
					err = do(step, s, w)
				}
				got = s.stateNow()
				return nil
			})
			func() {
				defer func() { _ = recover() }() // how a broken stream ends
				r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
			}()
			require.Equal(t, row.want, got)
			require.ErrorIs(t, err, row.err)
			require.Equal(t, closed, w.session.stateNow(), "after the handler has returned")
			require.ErrorIs(t, do("send", w.session, w), ErrClosed)
			require.Equal(t, closed, w.session.stateNow())
			if len(row.steps) > 0 && (got == open || got == torn) {
				require.Equal(t, opening, w.atHead, "while the head was written")
			}
		})
	}
}

// The rows of the table at finisher.
func TestSessionFinishers(t *testing.T) {
	errHandler := errors.New("the handler has failed")
	for _, row := range []struct {
		name   string
		detach bool
		end    bool // before the handler returns
		err    error
		want   finisher // after the handler has returned
	}{
		{"not detached", false, false, nil, byHandler},
		{"not detached, ended", false, true, nil, byHandler},
		{"detached", true, false, nil, byEnd},
		{"detached, ended", true, true, nil, finishing},
		{"detached, an error", true, false, errHandler, finishing},
	} {
		t.Run(row.name, func(t *testing.T) {
			var closes atomic.Int32
			ends := make(chan End, 2)
			returned := make(chan *ServerSession)
			r := Install(chi.NewRouter(), Config{
				Logger:  slog.New(slog.DiscardHandler),
				OnClose: func(_ *ServerSession, e End) { closes.Add(1); ends <- e },
			})
			var session *ServerSession
			r.SSE("/", func(s *ServerSession) error {
				session = s
				if row.detach {
					s.Header().Set("Connection", "close") // otherwise the connection would stay with net/http
				}
				if err := s.Open(); err != nil {
					return err
				}
				want := byHandler
				if row.detach {
					assert.True(t, engine.Of(s).Detach())
					want = byReturn
				}
				if row.end {
					_ = s.Close() // never fails
				}
				assert.Equal(t, want, s.finisher.Load(), "while the handler runs")
				return row.err
			})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				r.ServeHTTP(w, req)
				returned <- session
			}))
			defer srv.Close()
			resp, err := srv.Client().Get(srv.URL)
			require.NoError(t, err)
			defer resp.Body.Close()
			s := testkit.Receive(t, returned)
			if row.want == byEnd {
				require.Equal(t, byEnd, s.finisher.Load())
				require.Empty(t, ends, "the session is open")
				require.NoError(t, s.Close())
				row.want = finishing
			}
			testkit.Receive(t, ends)
			require.NoError(t, s.Close(), "a second end")
			require.Equal(t, row.want, s.finisher.Load())
			require.EqualValues(t, 1, closes.Load())
			require.Equal(t, closed, s.stateNow())
		})
	}
}
