// Package nginx runs nginx in front of a server, for the tests of this module.
package nginx

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long nginx may take to start.
const patience = 20 * time.Second

// What a configuration says of addresses, and what Start puts in its place.
const (
	listen   = "listen 8080;"
	upstream = "http://127.0.0.1:8081"
)

// around is the configuration around a server block. All that nginx writes is in its own folder.
const around = `
daemon off;
master_process off;
pid nginx.pid;
events {}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	include server.conf;
}
`

// Start runs nginx until the end of the test, and returns its URL. config is a server block that
// listens on port 8080 and passes requests to http://127.0.0.1:8081; nginx listens on a free port
// instead, and passes requests to url. If the machine has no nginx, Start skips the test, or fails
// it if SSE_NO_SKIP=1 is set.
func Start(t *testing.T, config, url string) string {
	t.Helper()
	program := find(t)
	require.Equal(t, 1, strings.Count(config, listen), config)
	require.Equal(t, 1, strings.Count(config, upstream), config)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(around), 0o600))
	var said []byte
	for range 5 { // another program may take the port that was free
		address := freeAddress(t)
		server := strings.NewReplacer(listen, "listen "+address+";", upstream, url).Replace(config)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "server.conf"), []byte(server), 0o600))
		log := filepath.Join(dir, "error.log")
		if run(t, exec.CommandContext(context.Background(), program, "-p", dir, "-c", "nginx.conf", "-e", log), filepath.Join(dir, "nginx.pid")) {
			return "http://" + address
		}
		said, _ = os.ReadFile(log)
	}
	require.Fail(t, "nginx does not start", "%s", said)
	return ""
}

// find returns the path of nginx. If there is none, it skips the test, or fails it.
func find(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} { // Debian's is not on everybody's PATH
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "no nginx found; install one, such as with apt-get install nginx"
	if os.Getenv("SSE_NO_SKIP") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

// run runs cmd until the end of the test. It reports whether cmd listens, after which it writes
// pidFile.
func run(t *testing.T, cmd *exec.Cmd, pidFile string) bool {
	t.Helper()
	require.NoError(t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := os.Stat(pidFile); err == nil {
			return true
		}
		select {
		case <-exited:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return false
}
