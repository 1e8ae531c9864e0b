package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Watch calls a function when the peers of idle connections leave. Where the system can
// tell (on Linux), one epoll set and one goroutine do so for all connections of a Watch.
// Elsewhere a goroutine reads from each connection.
//
// A Watch keeps a value of type T for each connection, for instance a pointer, so that a
// connection takes a map entry and no closure. Its methods are safe for concurrent use.
type Watch[T any] struct {
	left func(T)
	set  epollSet[T]
}

// NewWatch returns a Watch that calls left with a connection's value when its peer has
// left. The other connections wait until left returns, so left must not wait for anything.
func NewWatch[T any](left func(T)) *Watch[T] {
	return &Watch[T]{left: left}
}

// Add watches conn, which nobody else may read from, until Remove is called with the token
// that Add returns. What the peer may still send is discarded, or never read.
//
// Where a goroutine has to read from conn, the token is zero, Remove has no effect, and
// the value's function is also called after conn has been closed.
func (w *Watch[T]) Add(conn net.Conn, v T) (token uint64) {
	inner := underTLS(conn)
	if sc, ok := inner.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			if token, ok := w.add(raw, v, conn, inner != conn); ok {
				return token
			}
		}
	}
	go w.readUntilEnd(conn, v)
	return 0
}

// readUntilEnd discards what the peer sends, until the end of it.
func (w *Watch[T]) readUntilEnd(conn net.Conn, v T) {
	for {
		_, err := io.Copy(io.Discard, conn)
		if !errors.Is(err, os.ErrDeadlineExceeded) || conn.SetReadDeadline(time.Time{}) != nil {
			break // otherwise somebody had set a read deadline before the watch began
		}
	}
	w.left(v)
}
