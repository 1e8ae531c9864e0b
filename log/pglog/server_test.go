package pglog

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

// The tests talk to a server of Postgres that the first of them starts, in a folder and at a port of
// its own. Each test has a database of its own in it.

// installHint says how to get what the tests need.
const installHint = "install it, for example with: apt-get install postgresql"

// server is a running server of Postgres.
type server struct {
	dir  string // with its data and its log
	port int
	cred *syscall.Credential // of the user that runs it; nil for this one
	cmd  *exec.Cmd
}

// shared is the server that most tests use.
var shared struct {
	once sync.Once
	*server
	err error
}

// Most tests wait for the server most of the time, so more of them run at once than there are
// processors.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := flag.Set(f.Name, strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if shared.server != nil {
		shared.kill()
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// binaries returns the folder with the programs of the newest Postgres.
func binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is valid
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return "", errors.New("there is no Postgres; " + installHint)
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 for another folder
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	return filepath.Dir(found[0]), nil
}

// credential returns a user that may run Postgres, which refuses root, or nil if this one may.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32) // they are numbers on Unix
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("there is no user postgres, and no user nobody")
}

// run runs a program of Postgres.
func (s *server) run(name string, args ...string) error {
	bin, err := binaries()
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(bin, name), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	cmd.Dir = s.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// newFolder makes a folder that belongs to the user who runs the server.
func newFolder(cred *syscall.Credential) (string, error) {
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && os.Getenv("SSE_PGLOG_DISK") == "" {
		parent = "/dev/shm" // most tests need no disk
	}
	dir, err := os.MkdirTemp(parent, "pglog")
	if err == nil && cred != nil {
		err = os.Chown(dir, int(cred.Uid), int(cred.Gid))
	}
	return dir, err
}

// newServer makes the files of a server and starts it.
func newServer() (*server, error) {
	cred, err := credential()
	if err != nil {
		return nil, err
	}
	s := &server{cred: cred}
	if s.dir, err = newFolder(cred); err != nil {
		return nil, err
	}
	if err := s.run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"); err != nil {
		return nil, err
	}
	if s.port, err = newPort(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, nil
}

// newPort returns a port that is free.
func newPort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// freePort returns a port that is free.
func freePort(t testing.TB) int {
	t.Helper()
	port, err := newPort()
	require.NoError(t, err)
	return port
}

// start starts the server, and waits until it answers.
func (s *server) start(options ...string) error {
	bin, err := binaries()
	if err != nil {
		return err
	}
	args := []string{"-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.port), "-k", s.dir}
	for _, option := range append([]string{"listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=64MB", "log_min_messages=fatal", "log_min_error_statement=panic", "autovacuum_naptime=5s"}, options...) {
		args = append(args, "-c", option)
	}
	logFile, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	s.cmd = exec.Command(filepath.Join(bin, "postgres"), args...)
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Dir = logFile, logFile, s.dir
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Pdeathsig: syscall.SIGQUIT}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := s.ping(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("the server does not start: %w: %s", err, text)
		}
	}
}

func (s *server) ping(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, s.dsn("postgres", "postgres"))
	if err != nil {
		return err
	}
	defer pool.Close()
	return pool.Ping(ctx)
}

// kill stops the server as a crash would.
func (s *server) kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGQUIT) // immediate shutdown: it also ends its children
	_ = s.cmd.Wait()
	s.cmd = nil
}

// dsn returns how to connect to a database as a user.
func (s *server) dsn(database, user string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", user, s.port, database)
}

// startServer starts a server that the end of the test stops.
func startServer(t testing.TB) *server {
	t.Helper()
	needPostgres(t)
	s, err := newServer()
	require.NoError(t, err)
	t.Cleanup(func() {
		s.kill()
		_ = os.RemoveAll(s.dir)
	})
	return s
}

// sharedServer returns the server that most tests use.
func sharedServer(t testing.TB) *server {
	t.Helper()
	needPostgres(t)
	shared.once.Do(func() { shared.server, shared.err = newServer() })
	require.NoError(t, shared.err)
	return shared.server
}

var databases atomic.Int64

// newDatabase makes a database of a server, which the end of the test drops.
func newDatabase(t testing.TB, s *server) string {
	t.Helper()
	name := fmt.Sprint("db", databases.Add(1))
	admin := connect(t, s.dsn("postgres", "postgres"))
	_, err := admin.Exec(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, _ = admin.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)") // it may be dead
	})
	return name
}

// connect returns a pool of connections.
func connect(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

var quiet = slog.New(slog.DiscardHandler)

// needPostgres skips the test if there is no Postgres.
func needPostgres(t testing.TB) {
	t.Helper()
	if _, err := binaries(); err != nil {
		testkit.Missing(t, err.Error())
	}
}
