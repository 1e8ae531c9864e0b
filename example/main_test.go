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
)

// atOnce is what the end of the program may take with streams open.
const atOnce = time.Second

func TestRunEndsAtOnceWithStreamsOpen(t *testing.T) {
	before := runtime.NumGoroutine()
	path := t.TempDir() + "/access.log"
	p := runProgram(t, "127.0.0.1:0", path)
	var streams []*stream
	for range 5 {
		streams = append(streams, dial(t, p.url+"/log", ""), dial(t, p.url+"/vitals", ""))
	}
	for i := 1; i < len(streams); i += 2 {
		assert.Equal(t, "host", streams[i].next().Name)
	}
	// Browsers open connections ahead of need.
	idle, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer idle.Close()

	began := time.Now()
	require.NoError(t, p.stop())
	assert.Less(t, time.Since(began), atOnce)
	for _, s := range streams {
		s.ended()
		s.close()
	}
	assert.Equal(t, len(streams), strings.Count(read(t, path), "\n"), "each stream is a line of the log")

	http.DefaultClient.CloseIdleConnections()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, patience, 10*time.Millisecond,
		"goroutines were left behind")
}

// A client that does not take what it is sent holds up the end no longer than
// others.
func TestRunEndsAtOnceWithASlowClient(t *testing.T) {
	path := t.TempDir() + "/access.log"
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat(strings.Repeat("x", 999)+"\n", 20_000)), 0o600))
	p := runProgram(t, "127.0.0.1:0", path)
	readUntil(t, rawGet(t, p.url, "/log?from=0"), "\r\n\r\n")
	time.Sleep(100 * time.Millisecond) // until the sockets are full

	began := time.Now()
	require.NoError(t, p.stop())
	assert.Less(t, time.Since(began), atOnce)
	assert.True(t, strings.HasSuffix(read(t, path), "\"GET /log?from=0 HTTP/1.1\"\n"), "it is a line of the log all the same")
}

// TestInterrupt does what a user does: it runs the program and presses Ctrl-C.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows sends no signals")
	}
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-addr", "127.0.0.1:0", "-log", t.TempDir()+"/access.log")
			// With -race a program sleeps for a second before it exits, unless told.
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
			require.NoError(t, cmd.Wait(), "it exits with 0")
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

// The streams read well as they are, with nothing between them and the reader.
func TestCurl(t *testing.T) {
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	get(t, p.url+"/hello")

	text := readUntil(t, rawGet(t, p.url, "/log"), "HTTP/1.1\"\nid: ")
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	assert.Contains(t, head, "HTTP/1.1 200 OK")
	assert.NotContains(t, head, "Content-Encoding")
	assert.Contains(t, text, "retry: 2000\n\n")
	assert.Regexp(t, `data: .* "GET /hello HTTP/1.1"\nid: $`, text)

	text = readUntil(t, rawGet(t, p.url, "/vitals"), "}\nid: ")
	assert.Contains(t, text, "event: host\ndata: {\"system\":")
	assert.Regexp(t, `event: vitals\ndata: {"time":".*Z","cpu":{.*\nid: $`, text)
}

func TestHTTP2(t *testing.T) {
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(p.url + "/vitals")
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, 2, resp.ProtoMajor)
	head := make([]byte, len("retry: 2000\n\nevent: host\n"))
	_, err = io.ReadFull(resp.Body, head)
	require.NoError(t, err)
	assert.Equal(t, "retry: 2000\n\nevent: host\n", string(head))

	began := time.Now()
	require.NoError(t, p.stop())
	assert.Less(t, time.Since(began), atOnce)
}

func TestDropEndsTheStreamsOfOnePage(t *testing.T) {
	url := site(t, newLog(t, ""), noReading)
	mine := []*stream{dial(t, url+"/log?page=mine", ""), dial(t, url+"/vitals?page=mine", "")}
	theirs := dial(t, url+"/log?page=theirs", "")
	post := func(query string, header ...string) int {
		req, err := http.NewRequest(http.MethodPost, url+"/drop"+query, nil)
		require.NoError(t, err)
		if len(header) > 0 {
			req.Header.Set(header[0], header[1])
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	assert.Equal(t, http.StatusBadRequest, post(""))
	assert.Equal(t, http.StatusForbidden, post("?page=mine", "Sec-Fetch-Site", "cross-site"))
	assert.Equal(t, http.StatusNoContent, post("?page=nobody"))
	for range 3 {
		theirs.next() // the three requests; nothing has ended
	}
	assert.Equal(t, http.StatusNoContent, post("?page=mine"))
	for _, s := range mine {
		s.ended()
	}
	for range 3 {
		theirs.next() // two streams and the request that ended them
	}
	theirs.quiet()
}
