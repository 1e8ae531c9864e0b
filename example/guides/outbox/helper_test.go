package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

// TestMain lets a test run the test binary as the program.
func TestMain(m *testing.M) {
	if os.Getenv("OUTBOX_RUN_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// newFile returns the path of a new file, whose row numbers begin with 1. Its name must be
// escaped in a URL.
func newFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "100 % orders#1.db")
	s, err := openStore(t.Context(), file)
	require.NoError(t, err)
	_, err = s.db.Exec(`UPDATE sqlite_sequence SET seq = 0 WHERE name = 'outbox'`)
	require.NoError(t, err)
	require.NoError(t, s.close())
	return file
}

// node is a hub of a file, with a server of its streams. It stands for a process.
type node struct {
	url   string
	store *store
	hub   *hub.Hub
	stop  func()
}

// start starts a node. The end of the test stops it, if the test does not.
func start(t *testing.T, file string, cfg hub.Config) *node {
	t.Helper()
	s, err := openStore(t.Context(), file)
	require.NoError(t, err)
	cfg.Log, cfg.OwnIDs, cfg.Detached = s.outbox, true, true
	h, err := hub.Open(t.Context(), cfg)
	require.NoError(t, err)
	r := routes(s, h)
	srv := httptest.NewUnstartedServer(r)
	r.Plugin().Attach(srv.Config)
	srv.Start()
	stopped := false
	n := &node{url: srv.URL, store: s, hub: h}
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, h.Shutdown(ctx))
		require.NoError(t, r.Plugin().Shutdown(ctx))
		srv.Close()
		require.NoError(t, s.close())
		// The hub's last look at the table may end a moment after the hub.
		require.Eventually(t, func() bool { return s.db.Stats().OpenConnections == 0 }, patience, time.Millisecond)
	}
	t.Cleanup(n.stop)
	return n
}

// place places n orders of the item, with the quantities from first on.
func (n *node) place(t *testing.T, item string, first, count int) {
	t.Helper()
	for i := range count {
		require.NoError(t, n.store.place(t.Context(), &order{Item: item, Quantity: first + i}))
	}
}

// post places an order through a server.
func post(server string, o order) (status int, err error) {
	resp, err := http.PostForm(server+"/orders", url.Values{"item": {o.Item}, "quantity": {fmt.Sprint(o.Quantity)}})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}

// stream is a client of a stream of orders.
type stream struct {
	t      *testing.T
	lastID string
	events chan event.Event // closed when the stream has ended
	close  func()
}

// dial opens the stream of the server at url. It sends lastID as Last-Event-ID unless that is
// "".
func dial(t *testing.T, url, lastID string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/orders/events", http.NoBody)
	require.NoError(t, err)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	s := &stream{t: t, lastID: lastID, events: make(chan event.Event, 1000)}
	go func() {
		defer close(s.events)
		defer resp.Body.Close()
		for ev, err := range event.NewDecoder(resp.Body).All() {
			if err != nil {
				return
			}
			s.events <- ev
		}
	}()
	s.close = cancel
	t.Cleanup(cancel)
	return s
}

// next returns the next event. ok is false if the stream has ended.
func (s *stream) next() (ev event.Event, ok bool) {
	s.t.Helper()
	select {
	case ev, ok = <-s.events:
		if ev.ID != "" {
			s.lastID = ev.ID
		}
		return ev, ok
	case <-time.After(patience):
		require.Fail(s.t, "no event has come")
		panic("unreachable")
	}
}

// orders returns the next n events, which must be orders.
func (s *stream) orders(n int) []order {
	s.t.Helper()
	all := make([]order, n)
	for i := range all {
		ev, ok := s.next()
		require.True(s.t, ok, "the stream has ended after %d events", i)
		all[i] = orderOf(s.t, ev)
	}
	return all
}

func orderOf(t *testing.T, ev event.Event) (o order) {
	t.Helper()
	require.Equal(t, "placed", ev.Name, ev.Data)
	require.NoError(t, json.Unmarshal([]byte(ev.Data), &o))
	return o
}

// rest returns all orders until the stream ends.
func (s *stream) rest() (all []order) {
	s.t.Helper()
	for {
		ev, ok := s.next()
		if !ok {
			return all
		}
		all = append(all, orderOf(s.t, ev))
	}
}

// quantities returns the quantities of the next n orders.
func (s *stream) quantities(n int) []int {
	s.t.Helper()
	var all []int
	for _, o := range s.orders(n) {
		all = append(all, o.Quantity)
	}
	return all
}

// process is the program in a process of its own.
type process struct {
	url string
	cmd *exec.Cmd
	end sync.Once
}

// startProcess starts the program. The end of the test kills it, if the test does not.
func startProcess(t *testing.T, file string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-file", file, "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "OUTBOX_RUN_MAIN=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &process{cmd: cmd}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "Listening on ")
	require.True(t, ok, line)
	p.url = address
	return p
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	p.end.Do(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}
