package redislog

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
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

// server is a server that a test has started, with a port and a folder of its own.
type server struct {
	t       testing.TB
	program string
	addr    string
	dir     string
	args    []string
	cmd     *exec.Cmd
	exited  chan struct{}
}

// startServer starts a server that the end of the test stops. It keeps nothing on the disk unless the
// arguments say so.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	return startProgram(t, "redis-server", args...)
}

func startProgram(t testing.TB, program string, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		testkit.Missing(t, program+" is not on the PATH. To install it, use for example: apt-get install redis-server")
	}
	s := &server{t: t, program: program, addr: testkit.FreeAddress(t), dir: t.TempDir(), args: args}
	s.start()
	t.Cleanup(s.kill)
	return s
}

// start starts the server, or starts it again, and waits until it has its data.
func (s *server) start() {
	s.t.Helper()
	s.launch()
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	defer c.Close()
	testkit.Eventually(s.t, func() bool {
		err := c.Ping(context.Background()).Err()
		return err == nil || !strings.HasPrefix(err.Error(), "LOADING")
	}, "a server to load its data")
}

// launch is start without waiting for the data.
func (s *server) launch() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.addr)
	s.startWith(append([]string{"--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--loglevel", "notice", "--logfile", filepath.Join(s.dir, "log"), "--repl-diskless-sync-delay", "0"}, s.args...)...)
}

func (s *server) startWith(args ...string) {
	s.t.Helper()
	s.cmd = exec.Command(s.program, args...)
	s.cmd.SysProcAttr = dieWithParent()
	require.NoError(s.t, s.cmd.Start())
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(s.cmd, s.exited)
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	defer c.Close()
	testkit.Eventually(s.t, func() bool {
		select {
		case <-s.exited:
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			require.Fail(s.t, "the server has ended", "%s", text)
		default:
		}
		err := c.Ping(context.Background()).Err()
		return err == nil || strings.HasPrefix(err.Error(), "NOAUTH") || strings.HasPrefix(err.Error(), "LOADING")
	}, "a server to start")
}

// kill kills the server.
func (s *server) kill() { s.signal(syscall.SIGKILL); <-s.exited }

// shutdown stops the server as an operator does.
func (s *server) shutdown() { s.signal(syscall.SIGTERM); <-s.exited }

func (s *server) signal(sig syscall.Signal) {
	_ = s.cmd.Process.Signal(sig)
}

// client returns a client of the server, with the options that f sets.
func (s *server) client(f func(*redis.Options)) *redis.Client {
	opts := &redis.Options{Addr: s.addr}
	if f != nil {
		f(opts)
	}
	c := redis.NewClient(opts)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// do sends a command to the server.
func (s *server) do(args ...any) any {
	s.t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.addr, Protocol: 2, DialTimeout: testkit.Patience, ReadTimeout: testkit.Patience})
	defer c.Close()
	answer, err := c.Do(context.Background(), args...).Result()
	if err != redis.Nil {
		require.NoError(s.t, err, "%v", args)
	}
	return answer
}

// info returns a number in the server's INFO.
func (s *server) info(field string) float64 {
	s.t.Helper()
	n, err := strconv.ParseFloat(parseInfo(fmt.Sprint(s.do("INFO", "everything")))[field], 64)
	require.NoError(s.t, err, field)
	return n
}

// openLog opens a Log that the end of the test closes.
func openLog(t testing.TB, c redis.UniversalClient, cfg Config) *Log {
	t.Helper()
	if cfg.Name == "" {
		cfg.Name = "chat"
	}
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := Open(ctx, c, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// newLog returns a Log in a server of its own.
func newLog(t testing.TB) *Log {
	t.Helper()
	return openLog(t, startServer(t).client(nil), Config{})
}

// appendWithin appends records within a time.
func appendWithin(t testing.TB, l *Log, within time.Duration, records []hub.Record) ([]hub.Position, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return l.Append(ctx, records)
}
