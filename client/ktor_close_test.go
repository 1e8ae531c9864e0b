// Rows 58 to 62 of docs/KTOR.md: cancellation, and connections that are freed.

package client_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestKtor58LeavingTheLoopEndsTheSession(t *testing.T) {
	t.Parallel()
	srv := serve(t, ktorUntilGone(func() {}))
	c := install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited})
	t.Run("break", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL)
		for _, err := range s.Incoming() {
			require.NoError(t, err)
			break
		}
		events, err := collect(s)
		require.Empty(t, events)
		require.ErrorIs(t, err, client.ErrClosed)
	})
	t.Run("cancellation", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(ktorContext(t))
		defer cancel()
		s, err := c.Session(ctx, srv.URL)
		require.NoError(t, err)
		n := 0
		for _, err = range s.Incoming() {
			if n++; n == 1 {
				require.NoError(t, err)
				cancel()
			}
		}
		require.Equal(t, 2, n, "the loop must have one event and one error")
		require.ErrorIs(t, err, context.Canceled)
		events, err := collect(s)
		require.Empty(t, events)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// ktorUntilGone returns a handler that sends an event, waits until the client leaves, and
// calls gone.
func ktorUntilGone(gone func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: 0\n\n")
		<-r.Context().Done()
		gone()
	}
}

// ktorWays lists the ways to leave a session.
var ktorWays = map[string]func(t *testing.T, s *client.Session, cancel context.CancelFunc){
	"Close": func(t *testing.T, s *client.Session, _ context.CancelFunc) {
		t.Helper()
		require.NoError(t, s.Close())
	},
	"Close in the loop": func(t *testing.T, s *client.Session, _ context.CancelFunc) {
		t.Helper()
		var err error
		for _, err = range s.Incoming() {
			require.NoError(t, s.Close())
		}
		require.ErrorIs(t, err, client.ErrClosed)
	},
	"break": func(t *testing.T, s *client.Session, _ context.CancelFunc) {
		t.Helper()
		for _, err := range s.Incoming() {
			require.NoError(t, err)
			break
		}
	},
	"cancellation while reading": func(t *testing.T, s *client.Session, cancel context.CancelFunc) {
		t.Helper()
		var err error
		for _, err = range s.Incoming() {
			cancel()
		}
		require.ErrorIs(t, err, context.Canceled)
	},
	"cancellation without reading": func(_ *testing.T, _ *client.Session, cancel context.CancelFunc) {
		cancel()
	},
}

func TestKtor59LeavingClosesTheConnection(t *testing.T) {
	t.Parallel()
	gone := make(chan bool, 1)
	overEach(t, ktorUntilGone(func() { gone <- true }), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		c := install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited})
		for name, leave := range ktorWays {
			t.Run(name, func(t *testing.T) {
				ktorLeave(t, c, srv.URL, leave)
				testkit.Receive(t, gone)
			})
		}
	})
}

func ktorLeave(t *testing.T, c *client.Client, url string, leave func(*testing.T, *client.Session, context.CancelFunc)) {
	t.Helper()
	ctx, cancel := context.WithCancel(ktorContext(t))
	defer cancel()
	s, err := c.Session(ctx, url)
	require.NoError(t, err)
	leave(t, s, cancel)
}

func TestKtor60TenRoundsDoNotExhaustThePool(t *testing.T) {
	t.Parallel()
	srv := serve(t, ktorUntilGone(func() {}))
	hc := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	c := install(hc, client.Config{})
	for name, leave := range ktorWays {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				ktorLeave(t, c, srv.URL, leave)
			}
		})
	}
}

func TestKtor61CancellationWhileReadingLeavesNoConnection(t *testing.T) {
	t.Parallel()
	ktorLeavesNoConnection(t, ktorWays["cancellation while reading"])
}

func TestKtor62CancellationWithoutReadingLeavesNoConnection(t *testing.T) {
	t.Parallel()
	ktorLeavesNoConnection(t, ktorWays["cancellation without reading"])
}

func ktorLeavesNoConnection(t *testing.T, leave func(*testing.T, *client.Session, context.CancelFunc)) {
	t.Helper()
	opened, closed := make(chan bool, 1), make(chan bool, 1)
	srv := serve(t, ktorUntilGone(func() {}), func(srv *httptest.Server) {
		srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				opened <- true
			case http.StateClosed:
				closed <- true
			}
		}
	})
	c := install(srv.Client(), client.Config{})
	for range 3 {
		ktorLeave(t, c, srv.URL, leave)
		testkit.Receive(t, opened) // a new connection, because none was left
		testkit.Receive(t, closed)
	}
}
