package socket

import (
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pair returns both ends of a TCP connection, of which the client's has a deadline.
func pair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	accepted, err := listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() {
		conn.Close()
		accepted.Close()
	})
	return conn.(*net.TCPConn), accepted.(*net.TCPConn)
}

// What was written last reaches a peer that has sent bytes that nobody has read.
func TestCloseAfterPeerLosesNothing(t *testing.T) {
	t.Parallel()
	client, conn := pair(t)
	_, err := client.Write(make([]byte, 10_000))
	require.NoError(t, err)
	sent := make([]byte, 1<<20)
	go func() {
		c := New(conn)
		_, _ = c.Write(sent)
		_ = c.EndWrites()
		c.CloseAfterPeer()
	}()
	got, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Len(t, got, len(sent))
}

// A peer that neither reads nor leaves does not keep the connection.
func TestCloseAfterPeerIsBounded(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]bool{"a silent peer": false, "a peer that sends without end": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, conn := pair(t)
			if send {
				go func() { _, _ = io.Copy(client, zeros{}) }()
			}
			c := New(conn)
			require.NoError(t, c.EndWrites())
			began := time.Now()
			c.CloseAfterPeer()
			require.Less(t, time.Since(began), lingerTime+3*time.Second)
			if send {
				require.Less(t, time.Since(began), lingerTime, "it ends after lingerBytes")
			} else {
				require.GreaterOrEqual(t, time.Since(began), lingerTime)
			}
			_, err := conn.Write([]byte("x"))
			require.ErrorIs(t, err, net.ErrClosed)
		})
	}
}

// A peer that leaves does not make anybody wait.
func TestCloseAfterPeerThatLeaves(t *testing.T) {
	t.Parallel()
	client, conn := pair(t)
	c := New(conn)
	require.NoError(t, c.EndWrites())
	require.NoError(t, client.Close())
	began := time.Now()
	c.CloseAfterPeer()
	require.Less(t, time.Since(began), lingerTime)
}

// The peer gets all that was written, and then an error in place of an orderly end.
func TestResetComesLast(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere Reset cannot tell when the peer has everything")
	}
	client, conn := pair(t)
	sent := make([]byte, 100_000)
	go func() {
		_, _ = conn.Write(sent)
		Reset(conn)
	}()
	got := make([]byte, len(sent))
	_, err := io.ReadFull(client, got)
	require.NoError(t, err)
	_, err = client.Read(got)
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

// A peer that takes nothing gets its reset all the same, after a second.
func TestResetIsBounded(t *testing.T) {
	t.Parallel()
	_, conn := pair(t)
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	_, err := conn.Write(make([]byte, 64<<20))
	require.Error(t, err)
	began := time.Now()
	Reset(conn)
	require.Less(t, time.Since(began), resetWait+3*time.Second)
	_, err = conn.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
}

// zeros is an io.Reader without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
