package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bin is where build puts the programs.
var bin string

func TestMain(m *testing.M) {
	var err error
	if bin, err = os.MkdirTemp("", "client-test-"); err != nil {
		panic(err)
	}
	exit := m.Run()
	_ = os.RemoveAll(bin)
	os.Exit(exit)
}

// build makes this program, and the example server, once.
var build = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", bin+string(filepath.Separator), ".", "..").CombinedOutput()
	if err != nil {
		return errors.New(string(out))
	}
	return nil
})

// command returns one of the two, which is killed if it outlives the test's patience.
func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	require.NoError(t, build())
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	cmd.Env = append(os.Environ(), "NO_COLOR=", "TERM=xterm")
	return cmd
}

// startServer starts the example server and returns its URL.
func startServer(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	require.NoError(t, os.WriteFile(path, []byte("first\nsecond\n"), 0o600))
	cmd := command(t, "example", "-addr", "127.0.0.1:0", "-log", path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	url, read := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(read)
		defer close(url)
		lines := bufio.NewScanner(out)
		for lines.Scan() { // to its end, or the server would have to wait
			if site, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "Open  "); ok {
				url <- strings.TrimSuffix(site, "/")
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
	site, ok := <-url
	require.True(t, ok, "the server does not start")
	return site
}

// TestHead is what becomes of "client URL | head -n 2", with a stream that goes on.
func TestHead(t *testing.T) {
	t.Parallel()
	beats := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			events("data: a\n\n")(w, r)
		}
	}
	stderr := newScreen()
	cmd := command(t, "client", "-data", serve(t, beats).URL)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(stdout, make([]byte, len("a\na\n")))
	require.NoError(t, err)
	require.NoError(t, stdout.Close())
	_ = cmd.Wait()
	assert.Equal(t, 0, cmd.ProcessState.ExitCode())
	assert.Equal(t, "* connected: 200 OK, HTTP/1.1\n", stderr.String())
}

func TestHelpOfTheProgram(t *testing.T) {
	t.Parallel()
	help, err := command(t, "client", "-h").Output()
	require.NoError(t, err)
	lines := strings.Split(string(help), "\n")
	assert.Equal(t, "Usage: client [flags] URL", lines[0])
	for _, line := range lines {
		assert.LessOrEqual(t, utf8.RuneCountInString(line), 80, "%s", line)
	}
}

func TestExamplesStreams(t *testing.T) {
	t.Parallel()
	url := startServer(t)
	tests := []struct {
		name string
		args []string
		want string // a regular expression
	}{
		{"vitals", []string{"-e", "vitals", "-n", "1", url + "/vitals"}, `^TIME vitals id \d+\n\{\n  "time": "TIME",\n  "cpu": \{(?s:.*)\n\}\n$`},
		{"vitals as objects", []string{"-json", "-n", "1", url + "/vitals"}, `^\{"time":"TIME","event":"host",("id":"\d+",)?"data":\{"system":".*\}\}\n$`},
		{"log", []string{"-n", "2", url + "/log?from=0"}, `^TIME message id \d+\nfirst\nTIME message id \d+\nsecond\n$`},
		{"a request in the log", []string{"-data", "-n", "3", url + "/log?from=0"}, `^first\nsecond\n.*"GET /.* HTTP/1\.1"\n$`},
		{"without a scheme", []string{"-data", "-n", "1", strings.TrimPrefix(url, "http://") + "/log?from=0"}, `^first\n$`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stdout, stderr := newScreen(), newScreen()
			cmd := command(t, "client", tt.args...)
			cmd.Stdout, cmd.Stderr = stdout, stderr
			require.NoError(t, cmd.Run(), "%s", stderr)
			text, _ := stdout.look()
			assert.Regexp(t, tt.want, clock.ReplaceAllString(text, "TIME"))
			assert.Contains(t, stderr.String(), "* stopped by -n: ")
		})
	}

	exit, _, stderr := complete(t, url+"/")
	assert.Equal(t, 3, exit)
	assert.Contains(t, stderr, "* refused: expected Content-Type text/event-stream but was text/html\n")
}

func TestReadsStdin(t *testing.T) {
	t.Parallel()
	s := serve(t, events("data: a\n\n"))
	cmd := command(t, "client", "-s", "-data", "-d", "@-", s.URL)
	cmd.Stdin = strings.NewReader("typed")
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, "a\n", string(out))
	assert.Equal(t, "typed", s.asked()[0].body)
}
