//go:build linux

package socket

import (
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func dial(t *testing.T, to net.Listener) (net.Conn, syscall.RawConn) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to.Addr().String())
	require.NoError(t, err)
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	return conn, raw
}

// An event may have been read from the set before its connection is closed, and looked at
// after another connection has got the descriptor.
func TestLeaveWatchTokensAreNotUsedAgain(t *testing.T) {
	w := NewWatch(func(int) {})
	set := &w.set
	seen := make(map[uint64]bool)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	watch := func() uint64 {
		conn, raw := dial(t, listener)
		defer conn.Close()
		token, ok := w.add(raw, 0, conn, false)
		require.True(t, ok)
		require.NotZero(t, token, "zero means that there is no watch")
		require.False(t, seen[token], "used again")
		seen[token] = true
		return token
	}
	for range 3 {
		stays := watch()
		for range 10 {
			w.Remove(watch())
		}
		require.NotNil(t, set.poll)
		require.Len(t, set.values, 1)
		w.Remove(0)
		w.Remove(stays + 1_000_000)
		require.NotNil(t, set.poll)
		w.Remove(stays)
		require.Nil(t, set.poll, "the set is closed until it is needed again")
	}
}

// A connection that cannot be watched is read from instead.
func TestLeaveWatchRefuses(t *testing.T) {
	w := NewWatch(func(int) {})
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	conn, raw := dial(t, listener)
	require.NoError(t, conn.Close())
	require.NoError(t, listener.Close())
	_, ok := w.add(raw, 0, conn, false)
	require.False(t, ok, "the connection is closed")
	require.Nil(t, w.set.poll, "there is no connection to watch")
}
