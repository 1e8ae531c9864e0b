//go:build linux && !386

package socket

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// sockets returns two that are connected, in the mode in which reads and writes wait.
func sockets(t *testing.T) (a, b int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	return fds[0], fds[1]
}

// A connection's mode is shared with every copy of its descriptor, and so is not the
// session's to choose; but a write that waits would hold up more than a goroutine.
func TestWriteNowDoesNotWaitOnASocketWhoseWritesDo(t *testing.T) {
	a, b := sockets(t)
	defer func() { require.NoError(t, syscall.Close(a)) }()
	done := make(chan error, 1)
	p := make([]byte, 1<<20) // so small that no garbage collection waits for the write, too
	go func() {
		n, err := writeNow(uintptr(a), p)
		if n == 0 || n == len(p) {
			t.Errorf("%d bytes were taken", n)
		}
		done <- err
	}()
	select {
	case err := <-done:
		require.NoError(t, err)
		require.NoError(t, syscall.Close(b))
	case <-time.After(5 * time.Second):
		require.NoError(t, syscall.Close(b)) // which ends the write
		t.Error("it waits")
		require.ErrorIs(t, <-done, syscall.EPIPE)
	}
}

func TestWriteNowToOneWhoHasLeftRaisesNoSignal(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGPIPE)
	defer signal.Stop(signals)
	a, b := sockets(t)
	defer func() { require.NoError(t, syscall.Close(a)) }()
	require.NoError(t, syscall.Close(b))
	n, err := writeNow(uintptr(a), []byte("x"))
	require.Zero(t, n)
	require.ErrorIs(t, err, syscall.EPIPE)
	select {
	case <-signals:
		t.Error("SIGPIPE")
	case <-time.After(20 * time.Millisecond):
	}
}
