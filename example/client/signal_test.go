//go:build unix

package main

import (
	"os"
	"syscall"
	"testing"

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
			cmd := command(t, "client", serve(t, held("data: a\n\n")).URL)
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
