package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// patience is how long a test waits for something that must happen.
const patience = 30 * time.Second

// TestMain lets a test run the test binary as the program.
func TestMain(m *testing.M) {
	if os.Getenv("FOLLOW_RUN_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// server serves a fixed list of orders, after the last event id of the request. The ids are
// the places in the list, so they outlive the server. Order n is of n pieces.
type server struct {
	url     string
	address string
	orders  int
	stop    func()
}

// startServer starts a server. The end of the test stops it.
func startServer(t *testing.T, orders int) *server {
	t.Helper()
	s := &server{address: "127.0.0.1:0", orders: orders}
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

// start starts s, at the same address if it has run before.
func (s *server) start(t *testing.T) {
	t.Helper()
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/orders/events", s.send)
	var listener net.Listener
	require.Eventually(t, func() (ok bool) { // another program may have the port for a moment
		var err error
		listener, err = net.Listen("tcp", s.address)
		return err == nil
	}, patience, time.Millisecond)
	s.address = listener.Addr().String()
	s.url = "http://" + s.address + "/orders/events"
	srv := &http.Server{Handler: r}
	r.Plugin().Attach(srv)
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(listener) })
	s.stop = func() {
		_ = srv.Close()
		served.Wait()
	}
}

// restart ends all connections, as a crash does, and starts s again.
func (s *server) restart(t *testing.T) {
	t.Helper()
	s.stop()
	s.start(t)
}

func (s *server) send(session *sse.ServerSession) error {
	last, _ := strconv.Atoi(session.LastEventID())
	if err := session.Send(sse.Event{Retry: time.Millisecond}); err != nil {
		return err
	}
	for n := last + 1; n <= s.orders; n++ {
		if err := session.Send(sse.Event{ID: strconv.Itoa(n), Name: "placed", Data: order(n)}); err != nil {
			return err
		}
	}
	<-session.Done()
	return nil
}

func order(n int) string { return fmt.Sprintf(`{"id":%d,"item":"tea","quantity":%[1]d}`, n) }

// process is the program in a process of its own.
type process struct{ cmd *exec.Cmd }

// startProcess starts the program with its output going to out. The end of the test kills it.
func startProcess(t *testing.T, out *os.File, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "FOLLOW_RUN_MAIN=1")
	cmd.Stdout = out
	require.NoError(t, cmd.Start())
	p := &process{cmd}
	t.Cleanup(p.kill)
	return p
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
