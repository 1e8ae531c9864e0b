package sse_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/socket"
	"github.com/chi-sse/sse/internal/testkit"
)

func init() {
	smallSegments = func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1460)
		})
		return errors.Join(err, controlErr)
	}
}

// For a client that does not read, the kernel holds little beyond what the client's own kernel
// has taken.
func TestUnsentBytesAreBounded(t *testing.T) {
	t.Parallel()
	const (
		size   = 20 << 20
		events = 640
		most   = 400 << 10
	)
	check := make(map[string]func(*testing.T))
	for _, m := range modes {
		data := strings.Repeat("x", size/events)
		s := newModeServer(t, m, sse.Config{WriteTimeout: 2 * time.Second}, func(s *sse.ServerSession) error {
			for range events {
				if err := s.Send(sse.Event{Data: data}); err != nil {
					return err
				}
			}
			return untilDone(s)
		})
		for range events { // a replay, if a hub serves the session
			_, err := s.hub.Publish(t.Context(), "t", sse.Event{Data: data})
			require.NoError(t, err)
		}
		// With small segments the kernel would hold little anyway.
		s.open(t, s.client(t, reading{rate: 1 << 30, most: 16 << 10, large: true}), "t")
		conn := testkit.Receive(t, s.conns)
		highest := make(chan int, 1)
		go func() {
			most := 0
			for began := time.Now(); len(s.ends) == 0 && time.Since(began) < testkit.Patience; time.Sleep(2 * time.Millisecond) {
				if n, err := socket.Unacked(conn); err == nil { // otherwise it has been closed
					most = max(most, n)
				}
			}
			highest <- most
		}()
		check[m.String()] = func(t *testing.T) {
			t.Helper()
			n := testkit.Receive(t, highest)
			t.Logf("at most %d unacknowledged bytes", n)
			require.NotZero(t, n)
			require.Less(t, n, most)
		}
	}
	for name, f := range check {
		t.Run(name, f)
	}
}
