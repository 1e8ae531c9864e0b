// Servers that send too much: endless lines, events, noise and bodies, compressed or not.

package client_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

// hostileAllocates returns how many bytes the program allocates while do runs.
func hostileAllocates(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// hostileEndless returns a handler that writes head, and then piece again and again until
// the client leaves. packed compresses the stream.
func hostileEndless(packed bool, head, piece string) http.HandlerFunc {
	many := []byte(strings.Repeat(piece, 1+(32<<10)/len(piece)))
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		out := io.Writer(w)
		if packed {
			w.Header().Set("Content-Encoding", "gzip")
			packer, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
			defer packer.Close()
			out = packer
		}
		_, err := io.WriteString(out, head)
		for err == nil {
			_, err = out.Write(many)
		}
	}
}

// An endless line or event ends the session at MaxEventSize. The client does not try again,
// and uses no more memory than that limit calls for.
func TestEndlessLinesAndEventsAreTooLarge(t *testing.T) {
	const limit = 256 << 10
	for name, tt := range map[string]struct {
		head, piece string
		what        string
	}{
		"data line":           {"data: ", "x", "line"},
		"comment line":        {": ", "x", "line"},
		"unknown field":       {"", "x", "line"},
		"id line":             {"id: ", "1", "line"},
		"zeros":               {"", "\x00", "line"},
		"data lines":          {"", "data: x\n", "event"},
		"empty data lines":    {"", "data\r", "event"},
		"comments of a block": {"", ": x\n", "event"},
		"ill-formed UTF-8":    {"data: ", "\xFF", "line"},
	} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/gzip %v", name, packed), func(t *testing.T) {
				var requests atomic.Int64
				endless := hostileEndless(packed, "data: first\n\n"+tt.head, tt.piece)
				srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
					requests.Add(1)
					endless(w, r)
				})
				c := install(noKeepAlive(t), client.Config{
					MaxEventSize: limit, ShowCommentEvents: true, MaxReconnectionAttempts: client.Unlimited, BufferPolicy: client.LastEvent,
					AcceptGzip: packed,
				})
				var events []client.Event
				var err error
				allocated := hostileAllocates(func() { events, err = collect(session(t, c, srv.URL)) })
				require.Equal(t, []string{"first"}, dataOf(events))
				var tooLarge *event.TooLargeError
				require.ErrorAs(t, err, &tooLarge)
				require.Equal(t, event.TooLargeError{What: tt.what, Limit: limit}, *tooLarge)
				var e *client.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, http.StatusOK, e.Response.StatusCode)
				require.True(t, strings.HasPrefix(string(e.Body), "data: first\n\n"))
				require.LessOrEqual(t, len(e.Body), len("data: first\n\n")+event.MaxRest)
				require.EqualValues(t, 1, requests.Load())
				require.Less(t, allocated, uint64(64*limit))
			})
		}
	}
}

// The client keeps nothing that it ignores, however much of it arrives.
func TestEndlessCommentsAndBlankLinesCostNothing(t *testing.T) {
	for name, piece := range map[string]string{
		"comments":       ": " + strings.Repeat("x", 100) + "\n",
		"comment blocks": ": x\n\n",
		"blank lines":    "\n",
		"retry lines":    "retry: 1\nretry: 2\n",
		"silent blocks":  "id: 1\n\n",
		"names":          "event: x\n",
	} {
		t.Run(name, func(t *testing.T) {
			const size = 4 << 20
			many := strings.Repeat(piece, 32<<10/len(piece))
			srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				send(w, "data: first\n\n")
				for range size / len(many) {
					io.WriteString(w, many)
				}
				send(w, "\n\ndata: last\n\n")
			})
			var events []client.Event
			var err error
			allocated := hostileAllocates(func() {
				events, err = collect(session(t, install(noKeepAlive(t), client.Config{MaxEventSize: 64 << 10}), srv.URL))
			})
			require.NoError(t, err)
			require.Equal(t, []string{"first", "last"}, dataOf(events))
			require.Less(t, allocated, uint64(2<<20))
		})
	}
}

// A context also ends a session that receives nothing but noise.
func TestEndlessNoiseIsEndedByTheContext(t *testing.T) {
	testkit.NoLeak(t)
	for name, piece := range map[string]string{"blank lines": "\n", "comments": ": x\n\n", "CRLF": "\r\n"} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(hostileEndless(false, "", piece))
			defer srv.Close()
			ctx, cancel := context.WithCancel(t.Context())
			s, err := install(noKeepAlive(t), client.Config{IdleTimeout: time.Hour, MaxReconnectionAttempts: client.Unlimited}).Session(ctx, srv.URL)
			require.NoError(t, err)
			time.AfterFunc(50*time.Millisecond, cancel)
			_, err = collect(s)
			require.ErrorIs(t, err, context.Canceled)
		})
	}
}

// Many events from a few compressed kilobytes are handed out one by one.
func TestGzipBombOfSmallEventsIsNotHeldInMemory(t *testing.T) {
	srv := serve(t, hostileEndless(true, "", "data\n\n"))
	s := session(t, install(noKeepAlive(t), client.Config{BufferPolicy: client.LastEvents(10), AcceptGzip: true}), srv.URL)
	before := heapInUse()
	n := 0
	for _, err := range s.Incoming() {
		if err != nil { // require.NoError takes longer than the event
			require.NoError(t, err)
		}
		if n++; n == 300_000 {
			require.Less(t, int64(heapInUse())-int64(before), int64(2<<20))
			break
		}
	}
}

// The client reads only the beginning of the body of a refusal, however long it is and
// however far it was compressed.
func TestEndlessRefusalIsReadInPart(t *testing.T) {
	for _, packed := range []bool{false, true} {
		endless := hostileEndless(packed, "", "x")
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if packed {
				w.Header().Set("Content-Encoding", "gzip") // before WriteHeader
			}
			w.WriteHeader(http.StatusNotFound)
			endless(w, r)
		})
		var err error
		allocated := hostileAllocates(func() {
			_, err = install(noKeepAlive(t), client.Config{AcceptGzip: packed}).Session(t.Context(), srv.URL)
		})
		var e *client.Error
		require.ErrorAs(t, err, &e)
		require.EqualError(t, err, "client: expected status 200 but was 404")
		require.True(t, e.Partial)
		require.LessOrEqual(t, len(e.Body), 64<<10) // less if the machine is too busy to read it all in time
		require.NotEmpty(t, e.Body)
		require.Less(t, allocated, uint64(8<<20))
	}
}

func TestEndlessRedirectsEndInAnError(t *testing.T) {
	for name, location := range map[string]func(r *http.Request) string{
		"to itself":   func(r *http.Request) string { return r.URL.Path },
		"ever longer": func(r *http.Request) string { return r.URL.Path + "/x" },
	} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				var requests atomic.Int64
				srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
					requests.Add(1)
					w.Header().Set("Location", location(r))
					w.WriteHeader(status)
				})
				_, err := install(noKeepAlive(t), client.Config{MaxReconnectionAttempts: client.Unlimited}).Session(t.Context(), srv.URL+"/a")
				var e *client.Error
				require.ErrorAs(t, err, &e)
				require.ErrorContains(t, err, "stopped after 10 redirects")
				require.Equal(t, status, e.Response.StatusCode)
				require.EqualValues(t, 10, requests.Load())
			})
		}
	}
}

// hostileTripper answers each request with the response that it returns.
type hostileTripper func(r *http.Request) (status int, header http.Header, body io.Reader)

func (h hostileTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	status, header, body := h(r)
	if header == nil {
		header = http.Header{"Content-Type": {"text/event-stream"}}
	}
	closer, ok := body.(io.ReadCloser)
	if !ok {
		closer = io.NopCloser(body)
	}
	return &http.Response{StatusCode: status, Header: header, Body: closer, Request: r}, nil
}

// A header's value cannot put a line break or an escape sequence into an error text.
func TestErrorsOfHostileServersAreOneLine(t *testing.T) {
	for _, contentType := range []string{"text/html\tx", "\"" + strings.Repeat("x", 1000), "text/html; a=\"\x1B[2J\""} {
		c := install(&http.Client{Transport: hostileTripper(func(*http.Request) (int, http.Header, io.Reader) {
			return http.StatusOK, http.Header{"Content-Type": {contentType}}, strings.NewReader("")
		})}, client.Config{})
		_, err := c.Session(t.Context(), "http://hostile.test/")
		var content *client.ContentError
		require.ErrorAs(t, err, &content)
		assert.NotContains(t, err.Error(), "\n")
		assert.NotContains(t, err.Error(), "\x1B")
	}
}

// The session does not hang if a body reads nothing, or fails together with data.
func TestTransportThatAnswersBadly(t *testing.T) {
	boom := errors.New("boom")
	c := install(&http.Client{Transport: hostileTripper(func(*http.Request) (int, http.Header, io.Reader) {
		return http.StatusOK, nil, io.NopCloser(readNothing{})
	})}, client.Config{MaxReconnectionAttempts: 2})
	_, err := collect(session(t, c, "http://hostile.test/"))
	require.ErrorIs(t, err, io.ErrNoProgress)

	c = install(&http.Client{Transport: &bufferPipe{[]io.Reader{io.MultiReader(strings.NewReader("data: a\n\n"), hostileBody{boom})}}}, client.Config{})
	events, err := collect(session(t, c, "http://hostile.test/"))
	require.Equal(t, []string{"a"}, dataOf(events))
	require.ErrorIs(t, err, boom)
}

// hostileBody returns data and an error from the same Read.
type hostileBody struct{ err error }

func (b hostileBody) Read(p []byte) (int, error) { return copy(p, "data: half"), b.err }
