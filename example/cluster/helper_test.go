//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

// TestMain lets a test run the test binary as the program, and the program as its nodes.
func TestMain(m *testing.M) {
	if os.Getenv("CLUSTER_RUN_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is the program, as a process.
type program struct {
	t       *testing.T
	cmd     *exec.Cmd
	sockets string // the folder of its sockets' folder
	first   string // the first line of the output
	url     string

	mu   sync.Mutex
	pids map[string]int // of the nodes that are ready
	all  []int          // of all nodes so far
	end  chan struct{}  // closed when all output has been read
}

// startProgram starts the program, and returns when all nodes are ready.
func startProgram(t *testing.T, dir string) *program {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-addr", "127.0.0.1:0", "-dir", dir, "-restart", "1s")
	cmd.Env = append(os.Environ(), "CLUSTER_RUN_MAIN=1", "GORACE=atexit_sleep_ms=0")
	return startCommand(t, cmd)
}

// startCommand is startProgram with the command that starts it.
func startCommand(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	sockets, err := os.MkdirTemp("", "c") //nolint:usetesting // a short name: the path of a socket has at most 103 bytes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	p := &program{t: t, cmd: cmd, sockets: sockets, pids: make(map[string]int), end: make(chan struct{})}
	cmd.Env = append(cmd.Env, "TMPDIR="+sockets)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(p.stop)
	site := make(chan string, 1)
	go p.read(out, site)
	select {
	case p.url = <-site:
	case <-p.end:
		require.Fail(t, "the program has ended")
	case <-time.After(patience):
		require.Fail(t, "the program has not started")
	}
	p.await(names...)
	return p
}

// stop ends the program, unless it has ended. It waits for that, since the nodes write to their
// files until then.
func (p *program) stop() {
	pid := p.cmd.Process.Pid
	if p.cmd.SysProcAttr != nil && p.cmd.SysProcAttr.Setpgid {
		pid = -pid // the program is a child of this process
	}
	select {
	case <-p.end:
		_ = p.cmd.Wait()
		return
	default:
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	select {
	case <-p.end:
	case <-time.After(patience):
		_ = syscall.Kill(pid, syscall.SIGKILL) // its nodes end with it
	}
	_ = p.cmd.Wait()
}

var (
	siteLine  = regexp.MustCompile(`^Open  (http://.*)/chat in two windows$`)
	readyLine = regexp.MustCompile(`^(n\d)    process (\d+)`)
	endLine   = regexp.MustCompile(`^(n\d)    has ended`)
)

// read reads the program's output.
func (p *program) read(out io.Reader, site chan<- string) {
	defer close(p.end)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if p.first == "" {
			p.first = lines.Text() // before site is sent
		}
		if m := siteLine.FindStringSubmatch(lines.Text()); m != nil {
			site <- m[1]
		}
		p.mu.Lock()
		if m := endLine.FindStringSubmatch(lines.Text()); m != nil {
			delete(p.pids, m[1])
		}
		if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
			pid, _ := strconv.Atoi(m[2])
			p.pids[m[1]] = pid
			p.all = append(p.all, pid)
		}
		p.mu.Unlock()
	}
}

// await waits until nodes are ready.
func (p *program) await(nodes ...string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return !slices.ContainsFunc(nodes, func(node string) bool { return p.pids[node] == 0 })
	}, patience, 5*time.Millisecond, "not all of these are ready: %v", nodes)
}

// kill kills nodes, and returns when the program has noticed it.
func (p *program) kill(nodes ...string) {
	p.t.Helper()
	p.mu.Lock()
	for _, node := range nodes {
		require.NoError(p.t, syscall.Kill(p.pids[node], syscall.SIGKILL))
	}
	p.mu.Unlock()
	require.Eventually(p.t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return !slices.ContainsFunc(nodes, func(node string) bool { return p.pids[node] != 0 })
	}, patience, time.Millisecond)
}

// requireGone waits until no process of a node is left.
func (p *program) requireGone() {
	p.t.Helper()
	for _, pid := range p.all {
		require.Eventually(p.t, func() bool {
			stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
			return err != nil || bytes.Contains(stat, []byte(") Z ")) // which nobody waits for
		}, patience, 5*time.Millisecond, "a node still runs")
	}
}

// stream is a response with events.
type stream struct {
	body   io.Closer
	events *event.Decoder
}

// dial opens a stream.
func dial(t *testing.T, url string) *stream {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return &stream{resp.Body, event.NewDecoder(resp.Body)}
}

// awaitEvent returns the data of the next event with this name.
func awaitEvent[T any](t *testing.T, s *stream, name string) (data T) {
	t.Helper()
	for {
		ev, err := s.events.Decode()
		require.NoError(t, err)
		if ev.Name == name {
			require.NoError(t, json.Unmarshal([]byte(ev.Data), &data))
			return data
		}
	}
}

// say sends a message as the page does: again and again until it is in the room.
func say(t *testing.T, site, id, text string) {
	t.Helper()
	form := url.Values{"name": {"Amber Heron"}, "text": {text}, "id": {id}}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		resp, err := http.PostForm(site+"/chat/messages", form)
		status := 0
		if err == nil {
			status = resp.StatusCode
			_ = resp.Body.Close()
		}
		switch {
		case status == http.StatusCreated:
			return
		case status != 0 && status != http.StatusBadGateway && status != http.StatusServiceUnavailable, time.Now().After(deadline):
			assert.Fail(t, "a message could not be sent", "%d %v", status, err)
			return
		}
	}
}
