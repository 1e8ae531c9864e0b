//go:build unix

package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSignal runs the program as a process and sends it the signals of Ctrl-C and of kill.
func TestSignal(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			stdout, stderr := newScreen(), newScreen()
			cmd := command(t, "follow", serve(t, held("data: a\n\n")).URL)
			cmd.Stdout, cmd.Stderr = stdout, stderr
			require.NoError(t, cmd.Start())
			stdout.await(t, "\na\n")
			require.NoError(t, cmd.Process.Signal(signal))
			_ = cmd.Wait()
			assert.Equal(t, 130, cmd.ProcessState.ExitCode())
			assert.Equal(t, "TIME message\na\n", stdout.String(), "there must be no colors without a terminal")
			assert.Equal(t, "* connected: 200 OK, HTTP/1.1\n* interrupted: 1 event, 1 B of data, LONG, 0 reconnections\n", stderr.String())
		})
	}
}

// A full pipe does not keep Ctrl-C from ending the program, whether it is stdout, stderr, or
// both.
func TestInterruptWithAFullPipe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		stdout, stderr bool // these are full
	}{
		{"stdout", true, false},
		{"stderr", false, true},
		{"both", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, held("data: a\n\ndata: b\n\n"))
			cmd := command(t, "follow", s.URL)
			r, full, err := os.Pipe()
			require.NoError(t, err)
			defer r.Close()
			defer full.Close()
			require.NoError(t, full.SetWriteDeadline(time.Now().Add(100*time.Millisecond)))
			for err == nil {
				_, err = full.Write(make([]byte, 1<<16))
			}
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			stderr := newScreen()
			cmd.Stderr = stderr
			if tt.stdout {
				cmd.Stdout = full
			}
			if tt.stderr {
				cmd.Stderr = full
			}
			require.NoError(t, cmd.Start())
			require.Eventually(t, func() bool { return len(s.asked()) == 1 }, patience, time.Millisecond)
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			_ = cmd.Wait()
			assert.Equal(t, 130, cmd.ProcessState.ExitCode())
			if !tt.stderr {
				assert.Contains(t, stderr.String(), "* interrupted: ")
			}
		})
	}
}

// A program that is killed again and again prints each event at least once, and in order.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	const last = 3000
	s := serve(t, slices.Repeat([]answer{list(last)}, 20)...)
	path := checkpointFile(t, "")
	out, err := os.OpenFile(filepath.Join(t.TempDir(), "out"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer out.Close()
	start := func() *exec.Cmd {
		cmd := command(t, "follow", "-data", "-checkpoint", path, s.URL)
		cmd.Stdout = out
		require.NoError(t, cmd.Start())
		return cmd
	}
	for range 8 {
		cmd := start()
		time.Sleep(rand.N(150 * time.Millisecond))
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	require.NoError(t, start().Wait())

	text, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	highest := 0
	for line := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n") {
		n, err := strconv.Atoi(line)
		require.NoError(t, err)
		require.LessOrEqual(t, n, highest+1, "an event is missing")
		highest = max(highest, n)
	}
	assert.Equal(t, last, highest)
	assertFile(t, `{"lastEventId":"3000"}`+"\n", path)
}
