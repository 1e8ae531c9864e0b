package socket

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// option returns the value of a TCP option of conn.
func option(t *testing.T, conn net.Conn, name int) (value int) {
	t.Helper()
	require.NoError(t, control(conn, func(fd int) (err error) {
		value, err = syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, name)
		return err
	}))
	return value
}

func TestBoundsAreOptionsOfTheSocket(t *testing.T) {
	_, conn := pair(t)
	for name, conn := range map[string]net.Conn{"TCP": conn, "TLS": tls.Server(conn, &tls.Config{})} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, LimitUnsent(conn))
			require.Equal(t, UnsentLimit, option(t, conn, tcpNotSentLowat))
			for _, d := range []time.Duration{1500 * time.Millisecond, 1 << 62, 0} {
				require.NoError(t, SetUnackedTimeout(conn, d))
				want := min(d.Milliseconds(), 1<<31-1)
				require.EqualValues(t, want, option(t, conn, tcpUserTimeout))
			}
		})
	}
}

func TestBoundsOfWhatIsNoTCPSocket(t *testing.T) {
	pipe, other := net.Pipe()
	defer pipe.Close()
	defer other.Close()
	require.ErrorIs(t, LimitUnsent(pipe), errors.ErrUnsupported)
	require.ErrorIs(t, SetUnackedTimeout(pipe, time.Second), errors.ErrUnsupported)
	_, err := Unacked(pipe)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, conn := pair(t)
	_, err = Progress(conn)
	require.Error(t, err, "it is no multipath TCP")
	require.NoError(t, conn.Close())
	require.ErrorIs(t, LimitUnsent(conn), net.ErrClosed)
	require.ErrorIs(t, SetUnackedTimeout(conn, time.Second), net.ErrClosed)
	_, err = Unacked(conn)
	require.ErrorIs(t, err, net.ErrClosed)
}

func TestUnackedCountsWhatThePeerHasNotTaken(t *testing.T) {
	client, conn := pair(t)
	require.NoError(t, LimitUnsent(conn))
	n, err := Unacked(conn)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, client.SetReadBuffer(8<<10))
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = conn.Write(make([]byte, 8<<20))
	require.Error(t, err)
	n, err = Unacked(conn)
	require.NoError(t, err)
	require.Greater(t, n, UnsentLimit/4)
	require.Less(t, n, 2*UnsentLimit)
}
