package main

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// list serves the events 1 to n, after the last event id of the request. It then ends for
// good.
func list(n int) answer {
	return func(w http.ResponseWriter, r *http.Request) {
		last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
		if last == n {
			noContent(w, r)
			return
		}
		text := "retry: 1\n\n"
		for i := last + 1; i <= n; i++ {
			text += "id: " + strconv.Itoa(i) + "\ndata: " + strconv.Itoa(i) + "\n\n"
		}
		events(text)(w, r)
	}
}

func checkpointFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "checkpoint")
	if text != "" {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return path
}

func assertFile(t *testing.T, want, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, want, string(text))
	_, err = os.Stat(path + ".tmp")
	assert.ErrorIs(t, err, os.ErrNotExist, "there must be no other file")
}

func TestCheckpointResumes(t *testing.T) {
	t.Parallel()
	path := checkpointFile(t, "")
	s := serve(t, slices.Repeat([]answer{list(5)}, 4)...)
	for _, run := range []struct{ flags, stdout, checkpoint string }{
		{"-n=2", "1\n2\n", "2"},
		{"-n=1", "3\n", "3"},
		{"-e=other", "", "5"}, // events that need no printing are handled too
		{"-id=4", "", "5"},    // the file counts
	} {
		exit, stdout, _ := complete(t, "-data", "-checkpoint", path, run.flags, s.URL)
		assert.Equal(t, 0, exit)
		assert.Equal(t, run.stdout, stdout)
		assertFile(t, `{"lastEventId":"`+run.checkpoint+`"}`+"\n", path)
	}
	assert.Equal(t, "3", s.asked()[2].header.Get("Last-Event-ID"))
	assert.Equal(t, "5", s.asked()[4].header.Get("Last-Event-ID"))
}

func TestCheckpointStartsAfterID(t *testing.T) {
	t.Parallel()
	path := checkpointFile(t, "")
	exit, stdout, _ := complete(t, "-data", "-checkpoint", path, "-id", "3", serve(t, list(4)).URL)
	assert.Equal(t, 0, exit)
	assert.Equal(t, "4\n", stdout)
	assertFile(t, `{"lastEventId":"4"}`+"\n", path)
}

// While the stream is open, the file is written soon after each event.
func TestCheckpointOfAnOpenStream(t *testing.T) {
	t.Parallel()
	path := checkpointFile(t, "")
	p := begin(t, nil, "-checkpoint", path, serve(t, held("id: \U0001f600\"\ndata: a\n\n")).URL)
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(path)
		return string(text) == `{"lastEventId":"😀\""}`+"\n"
	}, patience, patience/1000)
	p.interrupt()
	assert.Equal(t, 130, p.end(t))
}

// An event that has not been written out is not in the file.
func TestCheckpointNamesOnlyWrittenEvents(t *testing.T) {
	t.Parallel()
	path := checkpointFile(t, "")
	out := newScreen()
	exit := run(t.Context(), []string{"follow", "-data", "-checkpoint", path, serve(t, list(5)).URL}, nil, writerFunc(func(p []byte) (int, error) {
		if string(p) == "3\n" {
			return 0, os.ErrClosed
		}
		return out.Write(p)
	}), newScreen())
	assert.Equal(t, 1, exit)
	assert.Equal(t, "1\n2\n", out.String())
	assertFile(t, `{"lastEventId":"2"}`+"\n", path)
}

func TestCheckpointNeedsIDs(t *testing.T) {
	t.Parallel()
	path := checkpointFile(t, "")
	_, _, stderr := complete(t, "-checkpoint", path, "-retries", "0", serve(t, events("data: a\n\ndata: b\n\n")).URL)
	assert.Regexp(t, `^\* connected: 200 OK, HTTP/1.1
\* the event has no id, so the checkpoint cannot resume after it
\* ended by the server: `, stderr)
	_, err := os.Stat(path)
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestDamagedCheckpoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\n":                               "it is empty",
		`{"lastEventId":"4`:                "unexpected EOF",
		"4\n":                              "json: cannot unmarshal number into Go value of type main.content",
		`{}`:                               "lastEventId is missing",
		`{"lastEventId":null}`:             "lastEventId is missing",
		`{"lastEventId":"4"}{`:             "there is more text after its JSON object",
		`{"lastEventId":"4","other":true}`: `json: unknown field "other"`,
		"{\"lastEventId\":\"4\"}\x00":      "there is more text after its JSON object",
	} {
		path := checkpointFile(t, text)
		exit, stdout, stderr := complete(t, "-checkpoint", path, "localhost:1")
		assert.Equal(t, 2, exit)
		assert.Empty(t, stdout)
		assert.Equal(t, "sse follow: -checkpoint: "+path+" is damaged: "+want+
			`. Delete it to start anew, or write {"lastEventId":"ID"} with the id to resume after`+"\nFor help: sse follow -h\n", stderr)
		assertFile(t, text, path)
	}

	path := checkpointFile(t, `{"lastEventId":"4\n"}`)
	exit, _, stderr := complete(t, "-checkpoint", path, "localhost:1")
	assert.Equal(t, 2, exit)
	assert.Contains(t, stderr, "sse follow: "+path+" must not have control characters in the id, but has \"4\\n\"\n")
}

func TestCheckpointThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing", "file")} {
		exit, _, stderr := complete(t, "-checkpoint", path, "localhost:1")
		assert.Equal(t, 2, exit)
		assert.Contains(t, stderr, "sse follow: -checkpoint: ")
		assert.Contains(t, stderr, path)
	}

	// The stream ends as soon as the file cannot be written any longer.
	dir := filepath.Join(t.TempDir(), "dir")
	require.NoError(t, os.Mkdir(dir, 0o700))
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.NoError(t, os.RemoveAll(dir))
		held("id: 1\ndata: a\n\n")(w, r)
	})
	exit, _, stderr := complete(t, "-checkpoint", filepath.Join(dir, "file"), s.URL)
	assert.Equal(t, 1, exit)
	assert.Contains(t, stderr, "\n* failed: -checkpoint: open "+dir)
}
