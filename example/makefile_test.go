//go:build unix

package main

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// "make run" says that it builds before it builds, and then prints what the server prints.
func TestMakeRun(t *testing.T) {
	if _, err := exec.LookPath("make"); err != nil {
		if os.Getenv("SSE_NO_SKIP") == "1" {
			t.Fatal("make is not installed")
		}
		t.Skip("make is not installed")
	}
	dir := t.TempDir()
	cmd := exec.Command("make", "-C", "..", "--no-print-directory", "run", "RUNFLAGS=-addr 127.0.0.1:0 -log "+dir+"/access.log -chat "+dir+"/chat.db")
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	// A process group gets the signal of Ctrl-C as a whole: make, go, and the server.
	interrupt := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
		}
	})
	timeout := time.AfterFunc(3*time.Minute, func() { _ = interrupt() }) // a first build takes a while
	defer timeout.Stop()

	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "Building the example. The first build takes a while.\n", first)
	var url string
	for url == "" {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		if site, ok := strings.CutPrefix(strings.TrimSpace(line), "Open  "); ok {
			url = site
		}
	}
	assert.Equal(t, http.StatusOK, get(t, url+"hello").StatusCode)
	require.NoError(t, interrupt())
	var rest strings.Builder
	_, _ = lines.WriteTo(&rest)
	assert.Contains(t, rest.String(), "\nShut down in ")
	_ = cmd.Wait()
	ended = true
}
