package natslog

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// What the tests of all logs have.
var (
	rec    = logkit.Record
	recs   = logkit.Records
	add    = logkit.Append
	bounds = logkit.Bounds
	texts  = logkit.Texts
)

var quiet = slog.New(slog.DiscardHandler)

// startServer starts a server that the end of the test stops.
func startServer(t testing.TB, cfg embedded.Config) *embedded.Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Logger = quiet
	s, err := embedded.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, s) })
	return s
}

// cluster is a cluster of three servers in this process.
type cluster struct {
	configs [3]embedded.Config
	servers [3]*embedded.Server
}

// startCluster starts a cluster that the end of the test stops.
func startCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{}
	var listeners [3]net.Listener
	var peers []string
	for i := range listeners { // the servers must know each other's ports
		var err error
		listeners[i], err = net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		peers = append(peers, listeners[i].Addr().String())
	}
	for i := range c.servers {
		require.NoError(t, listeners[i].Close())
		c.configs[i] = embedded.Config{
			Name: fmt.Sprint("node", i), Dir: t.TempDir(), Listen: "127.0.0.1:0", SlowSync: true,
			Cluster: &embedded.Cluster{Listen: peers[i], Peers: peers, Secret: "secret"},
		}
		c.servers[i] = startServer(t, c.configs[i])
	}
	return c
}

// stop stops a server.
func stop(t testing.TB, s *embedded.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(t, s.Shutdown(ctx))
}

// connect connects to a server.
func connect(t testing.TB, s *embedded.Server, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := s.Connect(opts...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return newJetStream(t, nc)
}

// connectByTCP connects to a server as a client elsewhere does.
func connectByTCP(t testing.TB, s *embedded.Server) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.URL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return newJetStream(t, nc)
}

func newJetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

// newStream returns a name for a stream that nobody else uses in the test.
func newStream() string { return "s" + nats.NewInbox()[len(nats.InboxPrefix):] }

// openLog opens a Log.
func openLog(t testing.TB, js jetstream.JetStream, cfg Config) *Log {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := Open(ctx, js, cfg)
	require.NoError(t, err)
	return l
}

// newLog returns a Log in a new stream of its own server.
func newLog(t testing.TB) *Log {
	t.Helper()
	return openLog(t, connect(t, startServer(t, embedded.Config{SlowSync: true})), Config{Stream: "events", Create: &jetstream.StreamConfig{}})
}
