package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// patience is how long a test waits for something that must happen.
const patience = 20 * time.Second

// TestMain lets a test run the test binary as the program.
func TestMain(m *testing.M) {
	if os.Getenv("JOBS_RUN_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// steps lets a test do the jobs' steps.
type steps chan error

func (s steps) work(ctx context.Context, _ job) error {
	select {
	case err := <-s:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do does n steps.
func (s steps) do(n int) {
	for range n {
		s <- nil
	}
}

// server is the program without its command line, in the test's process.
type server struct {
	t        *testing.T
	url      string
	board    *board
	streams  *sse.Plugin
	requests atomic.Int64 // for streams
	trouble  atomic.Int64 // the status of the answers to them, or 0
	stop     func()
}

// start starts a server of the files in dir. The end of the test stops it, if the test does not.
func start(t *testing.T, dir, addr string, work func(context.Context, job) error) *server {
	t.Helper()
	b, err := openBoard(t.Context(), dir, work)
	require.NoError(t, err)
	require.NoError(t, b.resume(t.Context()))
	r := routes(b)
	s := &server{t: t, board: b, streams: r.Plugin()}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/jobs/events" {
			s.requests.Add(1)
			if status := s.trouble.Load(); status != 0 {
				http.Error(w, "trouble", int(status))
				return
			}
		}
		r.ServeHTTP(w, req)
	}))
	r.Plugin().Attach(srv.Config)
	require.Eventually(t, func() bool { // another program may have the port for a moment
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			_ = srv.Listener.Close()
			srv.Listener = listener
		}
		return err == nil
	}, patience, time.Millisecond)
	srv.Start()
	s.url = srv.URL
	s.stop = sync.OnceFunc(func() {
		require.NoError(t, r.Plugin().Shutdown(context.Background()))
		srv.Close()
		require.NoError(t, b.close())
	})
	t.Cleanup(s.stop)
	return s
}

const anyPort = "127.0.0.1:0"

// post starts a job.
func post(t *testing.T, server, name string, rows int) job {
	t.Helper()
	resp, err := http.PostForm(server+"/jobs", url.Values{"name": {name}, "rows": {strconv.Itoa(rows)}})
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusCreated, resp.StatusCode)
	var j job
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&j))
	return j
}

// get reads the whole stream of the jobs, and returns the last event id that the client then has.
// It sends lastID as Last-Event-ID unless that is "".
func get(t *testing.T, c *http.Client, server, query, lastID string) (status int, jobs []job, last string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/jobs/events?"+query, http.NoBody)
	require.NoError(t, err)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, nil, ""
	}
	events := event.NewDecoder(resp.Body)
	for ev, err := range events.All() {
		require.NoError(t, err)
		if ev.Name != "" && ev.Name != "gap" {
			jobs = append(jobs, jobOf(t, ev.Name, ev.Data))
		}
	}
	return resp.StatusCode, jobs, events.LastEventID()
}

func jobOf(t *testing.T, name, data string) (j job) {
	t.Helper()
	require.Equal(t, "job", name, data)
	require.NoError(t, json.Unmarshal([]byte(data), &j))
	return j
}

// follower is a client that reads a stream until it is told not to come back.
type follower struct {
	t     *testing.T
	seen  chan job
	ended chan error // the result, once it has ended
}

// follow starts a follower of the jobs.
func follow(t *testing.T, c *http.Client, server, query string) *follower {
	t.Helper()
	f := &follower{t, make(chan job, 10_000), make(chan error, 1)}
	reader := client.Install(c, client.Config{
		MaxReconnectionAttempts: client.Unlimited,
		ReconnectionTime:        10 * time.Millisecond,
		MaxBackoff:              100 * time.Millisecond,
	})
	go func() {
		f.ended <- reader.SSE(t.Context(), server+"/jobs/events?"+query, func(s *client.Session) error {
			for ev, err := range s.Incoming() {
				if err != nil {
					return err
				}
				var j job
				if err := json.Unmarshal([]byte(ev.Data), &j); err != nil {
					return err
				}
				f.seen <- j
			}
			return nil
		})
		close(f.seen)
	}()
	return f
}

// next returns the next state that f sees.
func (f *follower) next() job {
	f.t.Helper()
	select {
	case j, ok := <-f.seen:
		require.True(f.t, ok, "the stream has ended")
		return j
	case <-time.After(patience):
		require.Fail(f.t, "nothing has come")
		panic("unreachable")
	}
}

// rest returns the states that are left, after the server has told f not to come back.
func (f *follower) rest() (jobs []job) {
	f.t.Helper()
	select {
	case err := <-f.ended:
		require.NoError(f.t, err)
	case <-time.After(patience):
		require.Fail(f.t, "the stream has not ended")
	}
	for j := range f.seen {
		jobs = append(jobs, j)
	}
	return jobs
}

// process is the program in a process of its own.
type process struct {
	url string
	cmd *exec.Cmd
	end sync.Once
}

// startProcess starts the program. The end of the test kills it, if the test does not.
func startProcess(t *testing.T, dir, addr string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-dir", dir, "-addr", addr)
	cmd.Env = append(os.Environ(), "JOBS_RUN_MAIN=1")
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
