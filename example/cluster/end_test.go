//go:build unix

package main

import (
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/example/internal/chat"
	"github.com/chi-sse/sse/internal/testkit"
)

// snapshot returns the state of the room.
func snapshot(t *testing.T, site string) chat.State {
	t.Helper()
	s := dial(t, site+"/chat/events")
	defer s.body.Close()
	return awaitEvent[chat.State](t, s, "snapshot")
}

// "make run-cluster" says that it builds, and then starts the nodes. They end with Ctrl-C, and
// the next run goes on with the chat. They end if the program is killed, too.
func TestNodesEndWithTheProgram(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("make"); err != nil {
		testkit.Missing(t, "make is not installed")
	}
	dir := t.TempDir()
	cmd := exec.Command("make", "-C", "../..", "--no-print-directory", "run-cluster", "RUNFLAGS=-addr 127.0.0.1:0 -restart 300ms -dir "+dir)
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := startCommand(t, cmd)
	require.Equal(t, "Building the cluster. The first build takes a minute or two.", p.first)
	say(t, p.url, "1", "said before")
	awaitEvent[chat.Live](t, dial(t, p.url+"/chat/events?name=Otter"), "live")

	// The page's host is checked, as in the example.
	req, err := http.NewRequest(http.MethodGet, p.url+"/chat", nil)
	require.NoError(t, err)
	req.Host = "foreign.example"
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusMisdirectedRequest, resp.StatusCode)

	// Nobody else can use the files.
	again := exec.Command(os.Args[0], "-addr", "127.0.0.1:0", "-dir", dir)
	again.Env = append(os.Environ(), "CLUSTER_RUN_MAIN=1")
	text, err := again.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(text), "another server uses the folder "+dir)
	require.Contains(t, string(text), "could not be started")

	began := time.Now()
	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)) // all processes get it
	<-p.end
	_ = cmd.Wait() // make fails if it is interrupted
	p.requireGone()
	t.Logf("ended after %v", time.Since(began))

	p = startProgram(t, dir)
	st := snapshot(t, p.url)
	require.Len(t, st.Messages, 1)
	require.Equal(t, "said before", st.Messages[0].Text)
	require.NoError(t, p.cmd.Process.Kill())
	p.requireGone()
}

// A node that is told to end lets the people leave who were connected to it.
func TestNodeThatIsToldToEnd(t *testing.T) {
	t.Parallel()
	p := startProgram(t, t.TempDir())
	node := awaitEvent[chat.Live](t, dial(t, p.url+"/chat/events?name=Otter"), "live").Node
	require.Eventually(t, func() bool { return len(snapshot(t, p.url).People) == 1 }, patience, time.Millisecond)
	require.NoError(t, syscall.Kill(p.pids[node], syscall.SIGTERM))
	require.Eventually(t, func() bool { return len(snapshot(t, p.url).People) == 0 }, patience, time.Millisecond)
	p.await(node)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait(), "the exit code must be 0")
	p.requireGone()
	left, err := os.ReadDir(p.sockets)
	require.NoError(t, err)
	assert.Empty(t, left)
}
