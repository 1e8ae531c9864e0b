package socket

import (
	"net"
	"syscall"
	"time"
)

// Bounds of what the kernel does for a connection. They fail with an error that matches
// errors.ErrUnsupported where the system, or the connection, has no such option.

// UnsentLimit is the number of bytes that the kernel takes from a writer beyond what it has
// sent. Without a limit it takes as much as the send buffer holds, which can grow to 4 MB for
// each client that does not read. The limit does not slow a client down: bytes that are on
// their way do not count.
const UnsentLimit = 128 << 10

// LimitUnsent makes the kernel keep at most about UnsentLimit unsent bytes of conn
// (TCP_NOTSENT_LOWAT).
func LimitUnsent(conn net.Conn) error {
	return control(conn, limitUnsent)
}

// SetUnackedTimeout makes the kernel end conn when bytes that it has sent remain
// unacknowledged for longer than d (TCP_USER_TIMEOUT). Zero means the system's default, which
// is about 15 minutes.
func SetUnackedTimeout(conn net.Conn, d time.Duration) error {
	return control(conn, func(fd int) error { return setUnackedTimeout(fd, d) })
}

// Unacked returns the number of bytes that have been written to conn and that the peer has not
// acknowledged (SIOCOUTQ).
func Unacked(conn net.Conn) (n int, err error) {
	err = control(conn, func(fd int) (err error) {
		n, err = unacked(fd)
		return err
	})
	return n, err
}

// Progress returns a number that changes whenever the peer acknowledges something. It works over
// multipath TCP only (MPTCP_INFO, Linux 5.16).
func Progress(conn net.Conn) (n uint64, err error) {
	err = control(conn, func(fd int) (err error) {
		n, err = progress(fd)
		return err
	})
	return n, err
}

// control calls f with the descriptor of the connection that carries conn.
func control(conn net.Conn, f func(fd int) error) error {
	sc, ok := underTLS(conn).(syscall.Conn)
	if !ok {
		return errUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
