package sse_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/socket"
	"github.com/chi-sse/sse/internal/testkit"
)

// For a client that does not read, the kernel holds little beyond what the client's own kernel
// has taken.
func TestUnsentBytesAreBounded(t *testing.T) {
	t.Parallel()
	const (
		size   = 20 << 20
		events = 640
		most   = 400 << 10
	)
	for _, m := range modes {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			data := strings.Repeat("x", size/events)
			s := newModeServer(t, m, sse.Config{WriteTimeout: 2 * time.Second}, func(s *sse.ServerSession) error {
				for range events {
					if err := s.Send(sse.Event{Data: data}); err != nil {
						return err
					}
				}
				return untilDone(s)
			})
			publish := func() {
				for range events {
					_, err := s.hub.Publish(t.Context(), "t", sse.Event{Data: data})
					require.NoError(t, err)
				}
			}
			if m.attached {
				publish() // a replay
			}
			s.open(t, s.client(t, stopsReading), "t")
			if !m.attached {
				publish() // a replay comes before a session is detached
			}
			conn := testkit.Receive(t, s.conns)
			highest := 0
			for len(s.ends) == 0 {
				if n, err := socket.Unacked(conn); err == nil { // otherwise it has been closed
					highest = max(highest, n)
				}
				time.Sleep(time.Millisecond)
			}
			t.Logf("at most %d unacknowledged bytes", highest)
			require.NotZero(t, highest)
			require.Less(t, highest, most)
		})
	}
}
