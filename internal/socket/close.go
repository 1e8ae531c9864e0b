package socket

import (
	"io"
	"net"
	"time"
)

const (
	// lingerTime is how long CloseAfterPeer waits for the peer.
	lingerTime = 500 * time.Millisecond

	// lingerBytes is how much of what the peer sends CloseAfterPeer discards.
	lingerBytes = 256 << 10

	// resetWait is how long Reset waits for the peer's acknowledgment.
	resetWait = time.Second
)

// EndWrites tells the peer that nothing follows, over TLS by a close_notify. The peer can still
// send.
func (c *Conn) EndWrites() error {
	type writeCloser interface{ CloseWrite() error }
	for _, conn := range []net.Conn{c.Conn, underTLS(c.Conn)} {
		wc, ok := conn.(writeCloser)
		if !ok {
			return c.Close()
		}
		if err := wc.CloseWrite(); err != nil {
			return err
		}
		if conn == underTLS(c.Conn) {
			break
		}
	}
	return nil
}

// CloseAfterPeer closes c when the peer has closed it, or after half a second, or after
// 256 KiB of what the peer still sends. If a system closes a connection with bytes that nobody
// has read, it sends a reset, and the peer may lose what it has not read itself. Call
// EndWrites before it.
func (c *Conn) CloseAfterPeer() {
	conn := underTLS(c.Conn)
	// A timer and not a read deadline, because a Watch that reads from c would lift that.
	timer := time.AfterFunc(lingerTime, func() { _ = conn.Close() })
	_, _ = io.CopyN(io.Discard, conn, lingerBytes) // whatever ends it
	timer.Stop()
	_ = conn.Close()
}

// Reset makes the peer see an error after all that has been written to conn, and closes conn. It
// waits up to a second until the peer has acknowledged everything, because a reset overtakes
// what has not been sent.
func Reset(conn net.Conn) {
	for until := time.Now().Add(resetWait); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if n, err := Unacked(conn); n == 0 || err != nil {
			break
		}
	}
	_ = ResetOnClose(conn, true)
	_ = underTLS(conn).Close()
}

// ResetOnClose says whether a Close of conn, by whomever, makes the peer see an error at once. It
// fails with an error that matches errors.ErrUnsupported if conn is not a TCP connection.
func ResetOnClose(conn net.Conn, on bool) error {
	l, ok := underTLS(conn).(interface{ SetLinger(seconds int) error })
	switch {
	case !ok:
		return errUnsupported
	case on:
		return l.SetLinger(0)
	}
	return l.SetLinger(-1)
}
