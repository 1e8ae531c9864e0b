package sse

import (
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of a server that drains, connections that have not sent a request are closed, and others not.
func TestFreshConnections(t *testing.T) {
	s := &servedServer{fresh: make(map[net.Conn]struct{})}
	open := func() (client, server net.Conn) {
		client, server = net.Pipe()
		t.Cleanup(func() { client.Close(); server.Close() })
		s.onState(server, http.StateNew)
		return client, server
	}
	idle, _ := open()
	other, active := open()
	s.onState(active, http.StateActive)
	require.Len(t, s.fresh, 1)
	s.closeFresh()
	late, _ := open()
	go func() { _, _ = active.Write([]byte("x")) }()
	_, err := other.Read(make([]byte, 1))
	require.NoError(t, err)
	for _, client := range []net.Conn{idle, late} {
		_, err := client.Read(make([]byte, 1))
		require.Equal(t, io.EOF, err)
	}
}
