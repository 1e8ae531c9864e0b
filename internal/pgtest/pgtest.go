// Package pgtest runs servers of Postgres for tests, each in a folder and at a port of its own. It uses
// only the programs of Postgres, so that it needs no driver.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

// patience is how long a server may take to start. It recovers first if it was killed.
const patience = 30 * time.Second

// options are those of each server.
var options = []string{
	"listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=64MB", "log_min_messages=fatal",
	"log_min_error_statement=panic", "autovacuum_naptime=5s",
}

// Server is a server of Postgres, or the files of one that does not run.
type Server struct {
	Dir  string // the files are in its folder data, and the messages of the server in log
	Port int

	cmd   *exec.Cmd     // nil if it does not run
	ended chan struct{} // closed when cmd has ended
}

// Installed returns an error if there is no Postgres on this machine.
func Installed() error {
	_, err := binaries()
	return err
}

// Need skips the test if there is no Postgres on this machine, or fails it if nothing may be skipped.
func Need(t testing.TB) {
	t.Helper()
	if err := Installed(); err != nil {
		testkit.Missing(t, err.Error())
	}
}

// Start starts a new server, which the end of the test stops. Its only user is postgres, who needs
// no password.
func Start(t testing.TB) *Server {
	t.Helper()
	Need(t)
	s, err := New()
	require.NoError(t, err)
	t.Cleanup(s.Remove)
	return s
}

// New makes the files of a server in a new folder, and starts it. Call Remove at the end.
func New() (*Server, error) {
	s, err := NewFolder()
	if err != nil {
		return nil, err
	}
	if err = s.Init(); err == nil {
		err = s.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.Dir))
	}
	return s, nil
}

// NewFolder returns a server that has a folder and a port, but no files yet.
func NewFolder() (*Server, error) {
	dir, err := Folder()
	if err != nil {
		return nil, err
	}
	return In(dir)
}

// In returns a server that has the folder dir and a port, but no files yet.
func In(dir string) (*Server, error) {
	port, err := testkit.FreePort()
	return &Server{Dir: dir, Port: port}, err
}

// Init makes the files of the server.
func (s *Server) Init() error {
	return s.Run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
}

// Folder makes a folder that belongs to the user who runs the servers. It is in memory, if that is
// possible, and SSE_PGLOG_DISK is not set.
func Folder() (string, error) {
	parent := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() && os.Getenv("SSE_PGLOG_DISK") == "" {
		parent = "/dev/shm"
	}
	return FolderIn(parent)
}

// FolderIn makes a folder in another one that belongs to the user who runs the servers.
func FolderIn(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "pglog")
	if err != nil {
		return "", err
	}
	uid, gid, err := owner()
	if err == nil && uid >= 0 {
		err = os.Chown(dir, uid, gid)
	}
	return dir, err
}

// binaries returns the folder with the programs of the newest Postgres.
func binaries() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is valid
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		return "", errors.New("there is no Postgres; install it, for example with: apt-get install postgresql")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 for another folder
		return n
	}
	slices.SortFunc(found, func(a, b string) int { return version(b) - version(a) })
	return filepath.Dir(found[0]), nil
}

// owner returns the user who runs the servers, or -1 for this one. Postgres refuses root.
func owner() (uid, gid int, err error) {
	if os.Geteuid() != 0 {
		return -1, -1, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, _ = strconv.Atoi(u.Uid) // they are numbers on Unix
			gid, _ = strconv.Atoi(u.Gid)
			return uid, gid, nil
		}
	}
	return 0, 0, errors.New("there is no user postgres, and no user nobody")
}

// Command returns a program that runs in dir, as the user who runs the servers. It gets a SIGQUIT when
// the test's process ends, where the system can do that.
func Command(dir, program string, args ...string) (*exec.Cmd, error) {
	uid, gid, err := owner()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), program, args...)
	cmd.Dir, cmd.SysProcAttr = dir, attributes(uid, gid)
	return cmd, nil
}

// Run runs a program of Postgres in the folder of the server.
func (s *Server) Run(name string, args ...string) error {
	bin, err := binaries()
	if err != nil {
		return err
	}
	cmd, err := Command(s.Dir, filepath.Join(bin, name), args...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// Start starts the server, with options in addition, and waits until it can be used.
func (s *Server) Start(more ...string) error {
	deadline := time.Now().Add(patience)
	for {
		ended, err := s.launch(more)
		if err != nil {
			return err
		}
		for alive := true; alive && time.Now().Before(deadline); {
			if s.isReady() {
				return nil
			}
			select {
			case <-ended: // what a killed server has left may have been in its way
				alive = false
			case <-time.After(20 * time.Millisecond):
			}
		}
		s.Kill()
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
			return fmt.Errorf("the server does not start: %s", text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// isReady reports whether the server takes connections. Its file says so: what answers at the port may be
// another server.
func (s *Server) isReady() bool {
	text, _ := os.ReadFile(filepath.Join(s.Dir, "data", "postmaster.pid")) // it may not be there yet
	lines := strings.Split(string(text), "\n")
	if len(lines) < 8 || lines[0] != strconv.Itoa(s.Pid()) {
		return false
	}
	status := strings.TrimSpace(lines[7])
	return status == "ready" || status == "standby"
}

// launch starts the process of the server. The channel is closed when it has ended.
func (s *Server) launch(more []string) (ended <-chan struct{}, err error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	args := []string{"-D", filepath.Join(s.Dir, "data"), "-p", strconv.Itoa(s.Port), "-k", s.Dir}
	for _, option := range slices.Concat(options, more) {
		args = append(args, "-c", option)
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd, err := Command(s.Dir, filepath.Join(bin, "postgres"), args...)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait()
	}()
	s.cmd, s.ended = cmd, done
	return done, nil
}

// Signal sends a signal to the server, and waits until it has ended: SIGINT stops it in order, SIGQUIT
// at once, as a crash does. SIGKILL leaves some of its processes behind for a moment.
func (s *Server) Signal(sig os.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	<-s.ended
	s.cmd = nil
}

// Pid returns the id of the server's process, which must run.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Kill stops the server as a crash does.
func (s *Server) Kill() { s.Signal(syscall.SIGQUIT) }

// Remove kills the server, and removes its files.
func (s *Server) Remove() {
	s.Kill()
	_ = os.RemoveAll(s.Dir)
}

// DSN returns how to connect to a database as a user.
func (s *Server) DSN(database, user string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", user, s.Port, database)
}
