package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// atOnce is how long the program may take to end while streams are open.
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
	// Browsers open connections in advance.
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
	assert.Equal(t, len(streams), strings.Count(read(t, path), "\n"), "the log must have a line for each stream")

	http.DefaultClient.CloseIdleConnections()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, patience, 10*time.Millisecond,
		"goroutines are still running")
}

// A client that does not read its stream delays the end no longer than other clients do.
func TestRunEndsAtOnceWithASlowClient(t *testing.T) {
	path := t.TempDir() + "/access.log"
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat(strings.Repeat("x", 999)+"\n", 20_000)), 0o600))
	p := runProgram(t, "127.0.0.1:0", path)
	readUntil(t, rawGet(t, p.url, "/log?from=0"), "\r\n\r\n")
	time.Sleep(100 * time.Millisecond) // until the socket's buffers are full

	began := time.Now()
	require.NoError(t, p.stop())
	assert.Less(t, time.Since(began), atOnce)
	assert.True(t, strings.HasSuffix(read(t, path), "\"GET /log?from=0 HTTP/1.1\"\n"), "the log must have a line for it too")
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
