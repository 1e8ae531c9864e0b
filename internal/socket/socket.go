// Package socket does what net.Conn has no method for: it writes without waiting, and it
// notices that the peer of an idle connection has left. Everything that differs between
// operating systems is in this package. It knows nothing of sessions: it takes a
// connection, and a function to call.
package socket

import (
	"crypto/tls"
	"net"
	"sync"
	"syscall"
)

// Conn is a net.Conn that can be written to without waiting, if its type and the system
// allow that. The net.Conn's own methods stay in force: TryWrite keeps the descriptor
// from being closed while it writes. The caller must not call TryWrite and Write at the
// same time.
type Conn struct {
	net.Conn
	raw syscall.RawConn // nil if TryWrite cannot write
}

// New returns conn as a Conn. Only a plain TCP or Unix connection can be written to
// without waiting. The Write of any other type may do more than write to a socket.
func New(conn net.Conn) Conn {
	c := Conn{Conn: conn}
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		if canWriteNow {
			c.raw, _ = conn.(syscall.Conn).SyscallConn() // nil if the connection is closed
		}
	}
	return c
}

// MayBlock reports whether c can only be written to by Write, which may wait.
func (c *Conn) MayBlock() bool { return c.raw == nil }

// TryWrite writes as much of p as the system takes without waiting, and returns how much
// that was. To take less than all of p is not an error. If c MayBlock, TryWrite writes
// nothing.
//
// TryWrite ignores write deadlines. It uses RawConn.Control instead of RawConn.Write,
// because Write looks at deadlines and at the runtime's poller, whose memory is rarely in
// the processor's caches, and a write that never waits needs neither.
func (c *Conn) TryWrite(p []byte) (int, error) {
	if c.raw == nil || len(p) == 0 {
		return 0, nil
	}
	t := attempts.Get().(*attempt)
	defer attempts.Put(t)
	t.p, t.n, t.err = p, 0, nil
	err := c.raw.Control(t.write)
	t.p = nil
	if err != nil {
		return 0, err
	}
	return t.n, t.err
}

// attempt is the argument and the result of one TryWrite. Its write is a method value that
// is made once for each attempt in the pool, so that TryWrite does not allocate.
type attempt struct {
	p     []byte
	n     int
	err   error
	write func(fd uintptr)
}

var attempts = sync.Pool{New: func() any {
	t := new(attempt)
	t.write = func(fd uintptr) { t.n, t.err = writeNow(fd, t.p) }
	return t
}}

// Abort closes c without a TLS close_notify. A close_notify would wait for the peer, and
// would tell the peer that the stream is complete.
func (c *Conn) Abort() error { return underTLS(c.Conn).Close() }

// underTLS returns the connection that carries conn's TLS records, or conn itself.
func underTLS(conn net.Conn) net.Conn {
	if t, ok := conn.(*tls.Conn); ok {
		return t.NetConn()
	}
	return conn
}
