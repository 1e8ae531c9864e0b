package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

var quiet = slog.New(slog.DiscardHandler)

// start starts a server that the end of the test stops.
func start(t testing.TB, cfg Config) *Server {
	t.Helper()
	cfg.Logger = quiet
	s, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Shutdown(context.Background())) })
	return s
}

func TestServer(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: filepath.Join(t.TempDir(), "made", "by it"), MaxBytes: 1 << 20}
	s := start(t, cfg)
	require.Empty(t, s.URL(), "nobody else can connect")
	require.Equal(t, "sse", s.Unwrap().Name())
	nc, err := s.Connect(nats.Name("test"))
	require.NoError(t, err)
	defer nc.Close()
	require.Equal(t, int64(8<<20), nc.MaxPayload())
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "large", MaxBytes: 2 << 20})
	require.ErrorContains(t, err, "insufficient storage")
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", MaxBytes: 1 << 19})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "s", []byte("1"))
	require.NoError(t, err)

	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, s.Shutdown(t.Context()), "again")
	require.Eventually(t, nc.IsReconnecting, 10*time.Second, time.Millisecond)
	_, err = s.Connect()
	require.Error(t, err)

	cfg.MaxPayload = 1000
	s = start(t, cfg)
	nc, err = s.Connect()
	require.NoError(t, err)
	defer nc.Close()
	require.Equal(t, int64(1000), nc.MaxPayload())
	js, err = jetstream.New(nc)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "s")
	require.NoError(t, err)
	require.Equal(t, uint64(1), stream.CachedInfo().State.Msgs)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer busy.Close()
	used := t.TempDir()
	start(t, Config{Dir: used})
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	cluster := &Cluster{Listen: "127.0.0.1:0", Peers: []string{"127.0.0.1:1"}}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for text, c := range map[string]struct {
		ctx context.Context
		cfg Config
	}{
		"Config.Dir must be set":            {cfg: Config{}},
		"Config.MaxBytes":                   {cfg: Config{Dir: t.TempDir(), MaxBytes: -1}},
		"Config.MaxPayload":                 {cfg: Config{Dir: t.TempDir(), MaxPayload: -1}},
		"Config.Listen":                     {cfg: Config{Dir: t.TempDir(), Listen: "4222"}},
		"Config.Listen has the address":     {cfg: Config{Dir: t.TempDir(), Listen: ":4222"}},
		"Config.Name":                       {cfg: Config{Dir: t.TempDir(), Cluster: cluster}},
		"Config.Cluster.Peers must":         {cfg: Config{Dir: t.TempDir(), Name: "n", Cluster: &Cluster{Listen: "127.0.0.1:0"}}},
		"Config.Cluster.Peers has":          {cfg: Config{Dir: t.TempDir(), Name: "n", Cluster: &Cluster{Listen: "127.0.0.1:0", Peers: []string{"x"}}}},
		"Config.Cluster.Listen":             {cfg: Config{Dir: t.TempDir(), Name: "n", Cluster: &Cluster{Peers: cluster.Peers}}},
		"context canceled":                  {ctx: canceled, cfg: Config{Dir: t.TempDir()}},
		"another server uses the folder ":   {cfg: Config{Dir: used}},
		"not a directory":                   {cfg: Config{Dir: filepath.Join(file, "dir")}},
		"address already in use":            {cfg: Config{Dir: t.TempDir(), Listen: busy.Addr().String()}},
		"Error listening on router port":    {cfg: Config{Dir: t.TempDir(), Name: "n", Cluster: &Cluster{Listen: busy.Addr().String(), Peers: cluster.Peers}}},
		"server name cannot contain spaces": {cfg: Config{Dir: t.TempDir(), Options: func(o *server.Options) { o.ServerName = "a b" }}},
	} {
		if c.ctx == nil {
			c.ctx = t.Context()
		}
		c.cfg.Logger = quiet
		_, err := Start(c.ctx, c.cfg)
		require.ErrorContains(t, err, text, "%+v", c.cfg)
		switch text {
		case "another server uses the folder ":
			var locked *LockedError
			require.ErrorAs(t, err, &locked)
			require.Equal(t, used, locked.Dir)
		case "address already in use", "Error listening on router port", "server name cannot contain spaces":
			var failed *StartError
			require.ErrorAs(t, err, &failed)
			require.NotEmpty(t, failed.Reason)
		}
	}
	// What has failed leaves nothing behind that would be in the way.
	dir := t.TempDir()
	_, err = Start(t.Context(), Config{Dir: dir, Listen: busy.Addr().String(), Logger: quiet})
	require.Error(t, err)
	start(t, Config{Dir: dir})
}

// A server that was killed leaves no lock. The test runs itself as that server.
func TestKilledServer(t *testing.T) {
	dir := os.Getenv("SSE_EMBEDDED_DIR")
	if dir != "" {
		_, err := Start(t.Context(), Config{Dir: dir, Logger: quiet})
		require.NoError(t, err)
		fmt.Println("started")
		select {}
	}
	dir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledServer$")
	cmd.Env = append(os.Environ(), "SSE_EMBEDDED_DIR="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line := make([]byte, 8)
	_, err = out.Read(line)
	require.NoError(t, err)
	_, err = Start(t.Context(), Config{Dir: dir, Logger: quiet})
	var locked *LockedError
	require.ErrorAs(t, err, &locked)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	start(t, Config{Dir: dir})
}

// A cluster refuses a server that does not know its secret.
func TestClusterSecret(t *testing.T) {
	t.Parallel()
	a := start(t, Config{Name: "a", Dir: t.TempDir(), Cluster: &Cluster{Listen: "127.0.0.1:0", Peers: []string{"127.0.0.1:1"}, Secret: "right"}})
	address := a.Unwrap().ClusterAddr().String()
	start(t, Config{Name: "b", Dir: t.TempDir(), Cluster: &Cluster{Listen: "127.0.0.1:0", Peers: []string{address}, Secret: "wrong"}})
	c := start(t, Config{Name: "c", Dir: t.TempDir(), Cluster: &Cluster{Listen: "127.0.0.1:0", Peers: []string{address}, Secret: "right"}})
	require.Eventually(t, func() bool { return c.Unwrap().NumRoutes() > 0 }, 20*time.Second, time.Millisecond)
	routes, err := a.Unwrap().Routez(nil)
	require.NoError(t, err)
	for _, r := range routes.Routes {
		require.Equal(t, "c", r.RemoteName)
	}

	// Others cannot use the port that the server must have.
	require.Empty(t, a.URL())
	_, err = nats.Connect(a.Unwrap().ClientURL())
	require.ErrorIs(t, err, nats.ErrAuthorization)
	nc, err := a.Connect()
	require.NoError(t, err)
	nc.Close()
}
