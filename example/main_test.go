package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// TestInterrupt runs the program as a process and sends it the signals of Ctrl-C and of
// kill.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send these signals on Windows")
	}
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-addr", "127.0.0.1:0", "-log", t.TempDir()+"/access.log", "-chat", t.TempDir()+"/chat.db")
			// A program that is built with -race sleeps for a second before it exits. GORACE
			// turns that off.
			cmd.Env = append(os.Environ(), "EXAMPLE_RUN_MAIN=1", "GORACE=atexit_sleep_ms=0")
			cmd.Stderr = os.Stderr
			read, write := io.Pipe()
			var printed strings.Builder
			cmd.Stdout = io.MultiWriter(&printed, write)
			require.NoError(t, cmd.Start())
			url := awaitURL(t, read)
			s := dial(t, url+"/vitals", "")
			s.next()
			dial(t, url+"/log", "")

			began := time.Now()
			require.NoError(t, cmd.Process.Signal(signal))
			require.NoError(t, cmd.Wait(), "the exit code must be 0")
			assert.Less(t, time.Since(began), atOnce)
			s.ended()
			assert.Contains(t, printed.String(), "Streams that were open: 2.")
		})
	}
}

func TestRunTellsThatTheAddressIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	path := t.TempDir() + "/access.log"
	err = run(context.Background(), options{addr: taken.Addr().String(), logPath: path}, io.Discard)
	require.ErrorContains(t, err, "taken by another program")
	require.ErrorContains(t, err, "-addr")
	assert.NoFileExists(t, path)

	require.Error(t, run(context.Background(), options{addr: "nonsense", logPath: path}, io.Discard))
}

func TestRunTellsThatTheLogCannotBe(t *testing.T) {
	require.Error(t, run(context.Background(), options{addr: "127.0.0.1:0", logPath: t.TempDir()}, io.Discard))
}

func TestGreetNamesAnAddressThatWorks(t *testing.T) {
	for addr, want := range map[string]string{
		"localhost:0": "http://localhost:",
		"127.0.0.1:0": "http://127.0.0.1:",
		":0":          "http://localhost:",
		"0.0.0.0:0":   "http://localhost:",
	} {
		p := runProgram(t, addr, t.TempDir()+"/access.log")
		assert.True(t, strings.HasPrefix(p.url, want), "%s for %s", p.url, addr)
		assert.Equal(t, http.StatusOK, get(t, p.url+"/hello").StatusCode)
	}
}

// What the program logs about a session that has ended has its duration in a unit that can be
// read.
func TestLoggerFormatsDurations(t *testing.T) {
	var out strings.Builder
	newLogger(&out).Info("ended", "end", sse.End{Duration: 12_345_678_901})
	assert.Contains(t, out.String(), ` end.duration="12.3 s" `)
}
