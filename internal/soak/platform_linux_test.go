package soak

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/chi-sse/sse/internal/testkit"
)

// network is where clients can vanish: it drops their packets, and nobody is told.
type network struct{ *testkit.Network }

// probe is a test that may skip, and then goes on.
type probe struct{ testing.TB }

func (probe) Skip(...any) { runtime.Goexit() }

// newNetwork returns nil if the machine cannot have a network.
func newNetwork(t *testing.T) (n *network) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		n = &network{testkit.NewNetwork(probe{t})}
	}()
	<-done
	return n
}

// listen listens on all addresses of the network's server.
func (n *network) listen() (l net.Listener, err error) {
	err = n.Server.Do(func() error {
		l, err = new(net.ListenConfig).Listen(context.Background(), "tcp", ":0")
		return err
	})
	return l, err
}

// dialer returns a function that connects to l over path, as a Line wants it.
func (n *network) dialer(path testkit.Path, l net.Listener) func(ctx context.Context, _, _ string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(path.Client)}}
		address := net.JoinHostPort(path.Server, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
		err = n.Client.Do(func() error {
			conn, err = dialer.DialContext(ctx, "tcp", address)
			return err
		})
		if err != nil {
			err = fmt.Errorf("over the network: %w", err)
		}
		return conn, err
	}
}

// vanisher returns the dialer of a client that can vanish, the function that makes it vanish,
// and the function that removes what that has left in the network.
func (n *network) vanisher(l net.Listener) (dial func(ctx context.Context, _, _ string) (net.Conn, error), cut, restore func()) {
	path := n.Path()
	return n.dialer(path, l), path.Cut, path.Restore
}

// processorTime returns the processor time that the process has taken.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
