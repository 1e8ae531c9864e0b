package testkit

import (
	"context"
	"net"
	"sync"
)

// Line makes the connections of one client, and can cut the newest one. Its zero value is
// ready to use.
type Line struct {
	// Small makes the kernel buffer little of what the client has not read.
	Small bool

	// Dial makes a connection. Default: as a net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	conn *net.TCPConn
}

// DialContext has the form of http.Transport.DialContext. The connection must be TCP.
func (l *Line) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dial := l.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	if l.Small {
		_ = tcp.SetReadBuffer(8 << 10)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = tcp
	return conn, nil
}

// Cut closes the newest connection, with a reset or as usual. It reports whether there was
// one that Cut has not closed before.
func (l *Line) Cut(reset bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return false
	}
	if reset {
		_ = l.conn.SetLinger(0)
	}
	_ = l.conn.Close()
	l.conn = nil
	return true
}
