package testkit

import (
	"context"
	"net"
	"sync"
)

// PipeListener is a net.Listener whose connections are pipes. Pipes use no sockets, so in a
// synctest bubble a server and its clients run in the time of the bubble. A pipe has no
// buffer, so a write blocks until the other side reads.
type PipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

// NewPipeListener returns a PipeListener that is open.
func NewPipeListener() *PipeListener {
	done := make(chan struct{})
	return &PipeListener{make(chan net.Conn), done, sync.OnceFunc(func() { close(done) })}
}

// DialContext has the form of http.Transport.DialContext. It waits until the listener
// accepts the connection, and returns the client's end of it. It ignores network and
// address. If ctx ends first, it returns the error of ctx; if the listener is closed first,
// net.ErrClosed.
func (l *PipeListener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Accept implements net.Listener.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. It never fails.
func (l *PipeListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *PipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }
