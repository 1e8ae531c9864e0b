// Streams as real servers send them: every kind of line break and cut, byte order marks,
// compression, HTTP/1.0, heartbeats, and large events.

package client_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// interopHead is the header of a response whose body ends with the connection.
const interopHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

// The tests send interopStream with each kind of line break.
const (
	interopStream = ": hi\n\nretry: 10\n\nid: 1\nevent: add\ndata: a\n\ndata: b\ndata:\ndata:  c\n\n\n\nid\ndata\n\n: bye\n\n"
	interopBOM    = "\uFEFF"
)

var interopWant = []client.Event{
	{ID: "1", Name: "add", Data: "a"}, {ID: "1", Data: "b\n\n c"}, {ResetID: true},
}

// interopMixed returns text with LF, CR and CRLF in turn as its line breaks.
func interopMixed(text string) string {
	var mixed strings.Builder
	for i, line := range strings.SplitAfter(text, "\n") {
		mixed.WriteString(strings.Replace(line, "\n", []string{"\n", "\r", "\r\n"}[i%3], 1))
	}
	return mixed.String()
}

func TestClientReadsEveryLineEnd(t *testing.T) {
	for name, stream := range map[string]string{
		"LF":    interopStream,
		"CRLF":  strings.ReplaceAll(interopStream, "\n", "\r\n"),
		"CR":    strings.ReplaceAll(interopStream, "\n", "\r"),
		"mixed": interopMixed(interopStream),
		"BOM":   interopBOM + interopStream,
	} {
		t.Run(name, func(t *testing.T) {
			overEach(t, streamOf(stream), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL))
				require.NoError(t, err)
				require.Equal(t, interopWant, events)
			})
		})
	}
}

// Each connection may begin with a byte order mark.
func TestClientSkipsTheByteOrderMarkOfEachConnection(t *testing.T) {
	var connections atomic.Int64
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if n := connections.Add(1); n <= 3 {
			send(w, "\uFEFFdata: %d\n\n\uFEFFdata: not this\n\n", n)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	events, err := collect(session(t, install(srv.Client(), client.Config{MaxReconnectionAttempts: 1}), srv.URL))
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2", "3"}, dataOf(events))
}

func TestClientReadsAStreamCutAtEveryByte(t *testing.T) {
	for _, eol := range []string{"\n", "\r", "\r\n"} {
		stream := interopBOM + strings.ReplaceAll(interopStream, "\n", eol)
		bytewise := func(w http.ResponseWriter, _ *http.Request) {
			for i := range len(stream) {
				w.Header().Set("Content-Type", "text/event-stream")
				w.Write([]byte{stream[i]})
				_ = http.NewResponseController(w).Flush()
			}
		}
		overEach(t, http.HandlerFunc(bytewise), func(t *testing.T, srv *httptest.Server) {
			t.Helper()
			events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL))
			require.NoError(t, err)
			require.Equal(t, interopWant, events)
		})
		// Chunks of one byte with extensions, written together or byte by byte.
		chunked := strings.NewReplacer("Connection: close", "Transfer-Encoding: chunked").Replace(interopHead)
		url := serveRaw(t, func(conn net.Conn, r *http.Request) {
			text := chunked + interopChunks(stream) + "0\r\nX-Trailer: x\r\n\r\n"
			if r.URL.Path == "/slowly" {
				for i := range len(text) {
					io.WriteString(conn, text[i:i+1])
				}
				return
			}
			io.WriteString(conn, text)
		})
		for _, path := range []string{"/slowly", "/at-once"} {
			events, err := collect(session(t, install(noKeepAlive(t), client.Config{}), url+path))
			require.NoError(t, err)
			require.Equal(t, interopWant, events)
		}
	}
}

// interopChunks returns text in chunks of one byte with extensions.
func interopChunks(text string) string {
	var chunks strings.Builder
	for i := range len(text) {
		chunks.WriteString("1;x=" + strconv.Itoa(i) + "\r\n" + text[i:i+1] + "\r\n")
	}
	return chunks.String()
}

// interopConversation writes its blocks to a stream. It writes each block only after the
// client has acknowledged the event before.
type interopConversation struct {
	blocks []string
	acks   chan string
	write  func(w http.ResponseWriter) func(string) // nil: not compressed
}

func (c *interopConversation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	write := func(block string) { send(w, "%s", block) }
	if c.write != nil {
		write = c.write(w)
	}
	for _, block := range c.blocks {
		write(block)
		select {
		case <-c.acks:
		case <-r.Context().Done():
			return
		}
	}
}

// hear reads s and acknowledges each event. It returns the events.
func (c *interopConversation) hear(t *testing.T, s *client.Session) (events []client.Event) {
	t.Helper()
	for ev, err := range s.Incoming() {
		require.NoError(t, err)
		events = append(events, ev)
		c.acks <- ev.Data
	}
	return events
}

// The client hands out an event as soon as its blank line has arrived, whatever kind of
// line break that has. The server sends the next event only after that.
func TestClientHandsOutEachEventBeforeTheNextIsSent(t *testing.T) {
	for _, eol := range []string{"\n", "\r", "\r\n"} {
		conversation := &interopConversation{acks: make(chan string), blocks: []string{
			"data: 1" + eol + eol, "id: 7" + eol + "data: 2" + eol + eol, ": c" + eol + eol + "data: 3" + eol + eol,
		}}
		overEach(t, conversation, func(t *testing.T, srv *httptest.Server) {
			t.Helper()
			events := conversation.hear(t, session(t, install(srv.Client(), client.Config{}), srv.URL))
			require.Equal(t, []string{"1", "2", "3"}, dataOf(events), "%q", eol)
		})
	}
}

// The same holds for a compressed stream that is flushed after each event.
func TestClientHandsOutEachEventOfACompressedStream(t *testing.T) {
	conversation := &interopConversation{
		acks:   make(chan string),
		blocks: []string{"data: 1\n\n", "data: 2\r\r", "data: " + strings.Repeat("3", 100_000) + "\n\n", "data: 4\r\n\r\n"},
		write: func(w http.ResponseWriter) func(string) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Content-Encoding", "gzip")
			packer := gzip.NewWriter(w)
			return func(block string) {
				io.WriteString(packer, block)
				_ = packer.Flush()
				_ = http.NewResponseController(w).Flush()
			}
		},
	}
	overEach(t, conversation, func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		s := session(t, install(srv.Client(), client.Config{BufferPolicy: client.All, AcceptGzip: true}), srv.URL)
		var got []string
		for ev, err := range s.Incoming() {
			if err != nil { // the handler returns without closing the gzip stream
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				break
			}
			got = append(got, ev.Data[:1])
			conversation.acks <- ev.Data
		}
		require.Equal(t, []string{"1", "2", "3", "4"}, got)
	})
}

// Close also ends a compressed stream that is silent.
func TestClientClosesACompressedStreamThatIsSilent(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Encoding", "gzip")
		packer := gzip.NewWriter(w)
		io.WriteString(packer, "data: 1\n\n")
		_ = packer.Flush()
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		s := session(t, install(srv.Client(), client.Config{AcceptGzip: true}), srv.URL)
		var errs []error
		for _, err := range s.Incoming() {
			if errs = append(errs, err); err == nil {
				go s.Close()
			}
		}
		require.Equal(t, []error{nil, client.ErrClosed}, errs)
	})
}

// The client refuses a compression that it did not ask for, and names it in the error.
func TestClientRefusesAContentEncoding(t *testing.T) {
	for _, encoding := range []string{"deflate", "br", "zstd", "gzip, gzip"} {
		var requests atomic.Int64
		srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.Header().Set("Content-Encoding", encoding)
			send(w, "data: a\n\n")
		})
		_, err := install(srv.Client(), client.Config{MaxReconnectionAttempts: 3}).Session(t.Context(), srv.URL)
		var content *client.ContentError
		require.ErrorAs(t, err, &content)
		require.Equal(t, client.ContentError{Header: "Content-Encoding", Value: encoding}, *content)
		require.EqualError(t, err, "client: expected no Content-Encoding but was "+encoding)
		require.EqualValues(t, 1, requests.Load(), "the client tried again")
	}
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "identity")
		send(w, "data: a\n\n")
	})
	events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL))
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, dataOf(events), "identity is not a compression")
}

func TestClientReadsAnHTTP10StreamToTheEndOfItsConnection(t *testing.T) {
	var requests atomic.Int64
	url := serveRaw(t, func(conn net.Conn, _ *http.Request) {
		if requests.Add(1) == 2 {
			io.WriteString(conn, "HTTP/1.0 204 No Content\r\n\r\n")
			return
		}
		io.WriteString(conn, "HTTP/1.0 200 OK\nContent-Type: text/event-stream; charset=utf-8\n\nid: 1\ndata: a\n\ndata: b\n\n")
	})
	events, err := collect(session(t, install(noKeepAlive(t), client.Config{MaxReconnectionAttempts: 1}), url))
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, dataOf(events))
	require.EqualValues(t, 2, requests.Load())
}

// Heartbeats reset IdleTimeout, whether they are handed out or not.
func TestClientTakesCommentsAsHeartbeats(t *testing.T) {
	for _, show := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			go func() {
				for range 100 {
					io.WriteString(w, ": ping\n\n")
					time.Sleep(15 * time.Second)
				}
				io.WriteString(w, "data: a\n\n")
				w.Close()
			}()
			c := install(&http.Client{Transport: &bufferPipe{[]io.Reader{r}}}, client.Config{IdleTimeout: 16 * time.Second, ShowCommentEvents: show})
			began := time.Now()
			s, err := c.Session(t.Context(), "http://wild.test/")
			require.NoError(t, err)
			events, err := collect(s)
			require.NoError(t, err)
			require.Equal(t, 25*time.Minute, time.Since(began))
			if show {
				require.Len(t, events, 101)
				require.Equal(t, client.Event{Comment: "ping"}, events[0])
				events = events[100:]
			}
			require.Equal(t, []string{"a"}, dataOf(events))
		})
	}
}

// A Mercure hub: the query names the topics, ids are URNs, and the hub closes each
// connection after a time without an event.
func TestClientFollowsAHub(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Header.Get("Last-Event-ID"))
		assert.Equal(t, []string{"https://example.com/books/{id}", "news"}, r.URL.Query()["topic"])
		w.Header().Set("Link", `<https://example.com/.well-known/mercure>; rel="mercure"`)
		switch len(asked) {
		case 1:
			send(w, ":\n\nid: urn:uuid:1\nevent: update\nretry: 1\ndata: {\ndata: \"title\": \"A\"\ndata: }\n\n")
		case 2:
			send(w, ":\n\n")
		case 3:
			send(w, ":\n\nid: urn:uuid:2\ndata: é\n\n")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 2, MinRetry: -1})
	events, err := collect(session(t, c, srv.URL+"/.well-known/mercure?topic=https%3A%2F%2Fexample.com%2Fbooks%2F%7Bid%7D&topic=news"))
	require.NoError(t, err)
	require.Equal(t, []client.Event{
		{ID: "urn:uuid:1", Name: "update", Data: "{\n\"title\": \"A\"\n}", Retry: time.Millisecond}, {ID: "urn:uuid:2", Data: "é"},
	}, events)
	require.Equal(t, []string{"", "urn:uuid:1", "urn:uuid:1", "urn:uuid:2"}, asked)
}

// A stream of large events arrives complete over every transport.
func TestClientReadsLargeEvents(t *testing.T) {
	var want []string
	var stream bytes.Buffer
	for i := range 12 {
		data := strings.Repeat(string(rune('a'+i)), 1<<(i+9))
		want = append(want, data)
		stream.WriteString("data: " + data + "\n\n")
	}
	overEach(t, streamOf(stream.String()), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL))
		require.NoError(t, err)
		require.Len(t, events, len(want))
		for i, ev := range events {
			if ev.Data != want[i] { // a diff of several MiB is no help
				require.Fail(t, "the event differs", "%d", i)
			}
		}
	})
}
