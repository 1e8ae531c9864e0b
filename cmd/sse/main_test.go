package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestHead runs the program as in "sse follow URL | head -n 2", with a stream that does not end.
func TestHead(t *testing.T) {
	t.Parallel()
	beats := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			events("data: a\n\n")(w, r)
		}
	}
	stderr := newScreen()
	cmd := command(t, "follow", "-data", serve(t, beats).URL)
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

func TestCommands(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args           []string
		exit           int
		stdout, stderr string
	}{
		{nil, 2, "", help},
		{[]string{"help"}, 0, help, ""},
		{[]string{"--help"}, 0, help, ""},
		{[]string{"follow", "-h"}, 0, usage, ""},
		{[]string{"\x1b"}, 2, "", `sse: there is no command \x1b; the only one is follow` + "\nFor help: sse -h\n"},
	} {
		var stdout, stderr strings.Builder
		assert.Equal(t, tt.exit, run(t.Context(), tt.args, nil, &stdout, &stderr))
		assert.Equal(t, tt.stdout, stdout.String())
		assert.Equal(t, tt.stderr, stderr.String())
	}
}

func TestHelpOfTheProgram(t *testing.T) {
	t.Parallel()
	help, err := command(t, "follow", "-h").Output()
	require.NoError(t, err)
	lines := strings.Split(string(help), "\n")
	assert.Equal(t, "Usage: sse follow [flags] URL", lines[0])
	for _, line := range lines {
		assert.LessOrEqual(t, utf8.RuneCountInString(line), 80, "%s", line)
	}
}

func TestReadsStdin(t *testing.T) {
	t.Parallel()
	s := serve(t, events("data: a\n\n"))
	cmd := command(t, "follow", "-s", "-data", "-d", "@-", s.URL)
	cmd.Stdin = strings.NewReader("typed")
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, "a\n", string(out))
	assert.Equal(t, "typed", s.asked()[0].body)
}

func TestColored(t *testing.T) {
	// The program treats a character device as a terminal.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer device.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()
	closed, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	require.NoError(t, err)
	require.NoError(t, closed.Close())

	tests := []struct {
		name    string
		w       io.Writer
		opts    options
		noColor string
		term    string
		want    bool
	}{
		{"terminal", device, options{}, "", "xterm", true},
		{"file", file, options{}, "", "xterm", false},
		{"closed", closed, options{}, "", "xterm", false},
		{"no file", io.Discard, options{}, "", "xterm", false},
		{"-no-color", device, options{noColor: true}, "", "xterm", false},
		{"NO_COLOR", device, options{}, "1", "xterm", false},
		{"dumb", device, options{}, "", "dumb", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			t.Setenv("TERM", tt.term)
			assert.Equal(t, tt.want, colored(tt.w, &tt.opts))
		})
	}
}
