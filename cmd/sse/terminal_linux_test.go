package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// terminal opens a pseudoterminal. What is written to one of its ends can be read from the
// other.
func terminal(t *testing.T) (user, screen *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = user.Close() })
	conn, err := user.SyscallConn()
	require.NoError(t, err)
	var locked, number int32
	require.NoError(t, conn.Control(func(fd uintptr) {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCSPTLCK, uintptr(unsafe.Pointer(&locked)))
		require.Zero(t, errno)
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCGPTN, uintptr(unsafe.Pointer(&number)))
		require.Zero(t, errno)
	}))
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = screen.Close() })
	return user, screen
}

// A program whose reader has left ends at once, even if the stream is quiet.
func TestReaderLeavesAQuietStream(t *testing.T) {
	t.Parallel()
	stderr := newScreen()
	path := checkpointFile(t, "")
	cmd := command(t, "follow", "-data", "-checkpoint", path, serve(t, held("id: 1\ndata: a\n\n")).URL)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = io.ReadFull(stdout, make([]byte, len("a\n")))
	require.NoError(t, err)
	require.NoError(t, stdout.Close())
	_ = cmd.Wait()
	assert.Equal(t, 0, cmd.ProcessState.ExitCode())
	assert.Equal(t, "* connected: 200 OK, HTTP/1.1\n", stderr.String())
	assertFile(t, `{"lastEventId":"1"}`+"\n", path)
}

func TestAtATerminal(t *testing.T) {
	t.Parallel()
	const dimTime = "\x1b[38;5;243mTIME \x1b[m"
	tests := []struct {
		name string
		env  string
		args []string
		want string
	}{
		{
			"colors", "NO_COLOR=", nil,
			"\x1b[38;5;28m* connected: 200 OK, HTTP/1.1\x1b[m\r\n" +
				dimTime + "\x1b[1;38;5;98mmessage\x1b[m\r\na\x1b[7m\\x1b\x1b[27mb\r\n" +
				"^C\r\n* interrupted: 1 event, 3 B of data, LONG, 0 reconnections\r\n",
		},
		{
			"NO_COLOR", "NO_COLOR=1", nil,
			"* connected: 200 OK, HTTP/1.1\r\nTIME message\r\na\\x1bb\r\n" +
				"^C\r\n* interrupted: 1 event, 3 B of data, LONG, 0 reconnections\r\n",
		},
		{
			"dumb", "TERM=dumb",
			[]string{"-data"},
			"* connected: 200 OK, HTTP/1.1\r\na\\x1bb\r\n" +
				"^C\r\n* interrupted: 1 event, 3 B of data, LONG, 0 reconnections\r\n",
		},
		{"silent", "NO_COLOR=1", []string{"-s", "-data"}, "a\\x1bb\r\n^C"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			user, tty := terminal(t)
			cmd := command(t, append(append([]string{"follow"}, tt.args...), serve(t, held("data: a\x1bb\n\n")).URL)...)
			cmd.Env = append(cmd.Env, tt.env)
			// The end of the process that leads the session takes away what the terminal has not
			// shown yet. So a shell leads it, as usual, and stays.
			cmd.Args = append([]string{"sh", "-c", `trap : INT; "$0" "$@"; echo "exit $?"; read line`, cmd.Path}, cmd.Args[1:]...)
			cmd.Path = "/bin/sh"
			cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			require.NoError(t, cmd.Start())
			require.NoError(t, tty.Close())
			seen := newScreen()
			read := make(chan struct{})
			go func() {
				defer close(read)
				_, _ = io.Copy(seen, user) // until the program ends
			}()
			seen.await(t, "b\r\n")
			_, err := user.Write([]byte{3}) // Ctrl-C
			require.NoError(t, err)
			seen.await(t, "exit 130\r\n")
			require.NoError(t, cmd.Process.Kill())
			_ = cmd.Wait()
			<-read
			assert.Equal(t, tt.want+"exit 130\r\n", seen.String())
		})
	}
}
