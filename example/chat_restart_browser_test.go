package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startProcess runs the program as a process, and returns when it serves.
func startProcess(t *testing.T, addr, dir string) (cmd *exec.Cmd, url string) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "-addr", addr, "-log", dir+"/access.log", "-chat", dir+"/chat.db")
	cmd.Env = append(os.Environ(), "EXAMPLE_RUN_MAIN=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, awaitURL(t, out)
}

// The server is killed and started again ten times while people talk. The page loses no
// message, shows none twice, and is not reloaded.
func TestBrowserChatOutlivesTheServer(t *testing.T) {
	b := newTab(t)
	dir := t.TempDir()
	cmd, url := startProcess(t, "127.0.0.1:0", dir)
	b.openChat(url, "Teal Otter")
	eval[int](b, "window.sameDocument = 1")
	said := 0
	talk := func(n int) {
		for range n {
			said++
			say(t, url, "Amber Heron", fmt.Sprint("text ", said))
		}
	}
	const restarts = 10
	for i := range restarts {
		talk(5)
		require.NoError(t, cmd.Process.Kill()) // the page may not have been sent all of them yet
		require.Error(t, cmd.Wait())
		b.await("the connection is lost", chatLost)
		cmd, _ = startProcess(t, url[len("http://"):], dir)
		talk(5) // the page misses these
		b.await("the connection is back", fmt.Sprintf(`document.querySelectorAll("#lines .resumed").length === %d`, i+1))
		b.await("nobody else is here", whoIsHere+` === "1: Teal Otter"`)
	}
	talk(5)
	b.await("all has come", fmt.Sprintf(proof+` === "Messages 1 to %d: none lost, none repeated."`, said))
	want := make([]string, said)
	for i := range want {
		want[i] = fmt.Sprint("text ", i+1)
	}
	assert.Equal(t, want, eval[[]string](b, `[...document.querySelectorAll("#lines .line p")].map(p => p.textContent)`))
	assert.Equal(t, 1, eval[int](b, "window.sameDocument"), "the page must not have been reloaded")
	assert.Zero(t, eval[int](b, `document.querySelectorAll("#lines .gap").length`))
	assert.Equal(t, fmt.Sprint(restarts), eval[string](b, `document.querySelector("#wire .reconnects").textContent`))
	assert.Equal(t, "The chat continues after the server restarts.", eval[string](b, `document.querySelector("#restarts").innerText`))
	for _, m := range b.complaints() { // the browser reports each attempt that fails
		assert.Regexp(t, "ERR_CONNECTION_REFUSED|ERR_SOCKET_NOT_CONNECTED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE", m)
	}
}
