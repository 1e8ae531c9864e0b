package sse

import (
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
	"github.com/chi-sse/sse/internal/wheel"
)

// A session that changes its heartbeat again and again is on its wheel once.
func TestWheelHasASessionOnce(t *testing.T) {
	sessions := make(chan *ServerSession, 1)
	r := Install(chi.NewRouter(), Config{Logger: slog.New(slog.DiscardHandler), Heartbeat: Heartbeat{Period: 40 * time.Millisecond}})
	r.SSE("/", func(s *ServerSession) error {
		s.Header().Set("Connection", "close") // otherwise the connection would stay with net/http
		if err := s.Open(); err != nil {
			return err
		}
		if engine.Of(s).Detach() {
			sessions <- s
		}
		return nil
	})
	srv := httptest.NewServer(r)
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	s := <-sessions
	defer s.Close()
	plain := Heartbeat{Period: 40 * time.Millisecond}
	for range 20 {
		require.NoError(t, s.Heartbeat(Heartbeat{Period: time.Hour, Event: Event{Data: "x"}}))
		require.NoError(t, s.Heartbeat(plain))
		time.Sleep(plain.Period / wheel.Spokes) // into another spoke
	}
	w := r.Plugin().wheels.Of(plain.Period)
	testkit.Eventually(t, func() bool { return w.Len() <= 1 }, "the entries that are out of date to come up")
	for range 100 {
		require.LessOrEqual(t, w.Len(), 1)
		time.Sleep(time.Millisecond)
	}
}
