package testkit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var ports sync.Map // those that FreePort has returned

// FreePort returns a port of 127.0.0.1 that is free, and that it has not returned before: a server may
// begin to listen much later, and be down for a while. The port is below those that the system gives to
// clients, so no client takes it meanwhile.
func FreePort() (int, error) {
	for range 1000 {
		port := 10_000 + rand.IntN(20_000)
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, err
		}
		if _, given := ports.LoadOrStore(port, true); !given {
			return port, nil
		}
	}
	return 0, errors.New("testkit: no port from 10,000 to 29,999 is free")
}

// FreeAddress returns an address with a [FreePort].
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, err := FreePort()
	require.NoError(t, err)
	return fmt.Sprint("127.0.0.1:", port)
}
