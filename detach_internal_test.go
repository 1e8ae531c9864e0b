//go:build linux

package sse

import (
	"log/slog"
	"net"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/engine"
)

// An event may have been read from the set when its connection is closed, and the
// descriptor be that of another one when it is looked at.
func TestLeaveWatchTokensAreNotUsedAgain(t *testing.T) {
	l := new(leaveWatch)
	s := new(ServerSession)
	seen := make(map[uint64]bool)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	watch := func() uint64 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		raw, err := conn.(syscall.Conn).SyscallConn()
		require.NoError(t, err)
		token, ok := l.watch(raw, s, false)
		require.True(t, ok)
		require.NotZero(t, token, "zero is none")
		require.False(t, seen[token], "used again")
		seen[token] = true
		return token
	}
	for range 3 {
		stays := watch()
		for range 10 {
			l.forget(watch())
		}
		require.NotNil(t, l.poll)
		require.Len(t, l.sessions, 1)
		l.forget(0)
		l.forget(stays + 1_000_000)
		require.NotNil(t, l.poll)
		l.forget(stays)
		require.Nil(t, l.poll, "the watch is over, until it is needed again")
	}
}

// What cannot be watched is read from.
func TestLeaveWatchRefuses(t *testing.T) {
	l := new(leaveWatch)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, listener.Close())
	_, ok := l.watch(raw, new(ServerSession), false)
	require.False(t, ok, "it is closed")
	require.Nil(t, l.poll, "nobody is there to be watched")
}

// Who changes a heartbeat again and again is on the wheel once.
func TestWheelHasASessionOnce(t *testing.T) {
	sessions := make(chan *ServerSession, 1)
	r := Install(chi.NewRouter(), Config{Logger: slog.New(slog.DiscardHandler), Heartbeat: Heartbeat{Period: 40 * time.Millisecond}})
	r.SSE("/", func(s *ServerSession) error {
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
		time.Sleep(plain.Period / spokes) // into another spoke
	}
	w := r.Plugin().wheels.of(plain.Period)
	count := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.n
	}
	time.Sleep(3 * plain.Period) // what is of no use has had its turn
	for range 100 {
		require.LessOrEqual(t, count(), 1)
		time.Sleep(time.Millisecond)
	}
}
