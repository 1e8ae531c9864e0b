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

// wildHead begins a response that ends with its connection.
const wildHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

// wildClient is an http.Client of the test's own, without connections to be reused.
func wildClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// wildStream is written with each kind of line end.
const (
	wildStream = ": hi\n\nretry: 10\n\nid: 1\nevent: add\ndata: a\n\ndata: b\ndata:\ndata:  c\n\n\n\nid\ndata\n\n: bye\n\n"
	wildBOM    = "\uFEFF"
)

var wildWant = []client.Event{
	{ID: "1", Name: "add", Data: "a"}, {ID: "1", Data: "b\n\n c"}, {ResetID: true},
}

// wildMixed is text with its line ends in turn LF, CR and CRLF.
func wildMixed(text string) string {
	var mixed strings.Builder
	for i, line := range strings.SplitAfter(text, "\n") {
		mixed.WriteString(strings.Replace(line, "\n", []string{"\n", "\r", "\r\n"}[i%3], 1))
	}
	return mixed.String()
}

func TestClientReadsEveryLineEnd(t *testing.T) {
	for name, stream := range map[string]string{
		"LF":    wildStream,
		"CRLF":  strings.ReplaceAll(wildStream, "\n", "\r\n"),
		"CR":    strings.ReplaceAll(wildStream, "\n", "\r"),
		"mixed": wildMixed(wildStream),
		"BOM":   wildBOM + wildStream,
	} {
		t.Run(name, func(t *testing.T) {
			overEach(t, streamOf(stream), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL))
				require.NoError(t, err)
				require.Equal(t, wildWant, events)
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
		stream := wildBOM + strings.ReplaceAll(wildStream, "\n", eol)
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
			require.Equal(t, wildWant, events)
		})
		// Chunks of a byte each, with extensions, all at once and one at a time.
		chunked := strings.NewReplacer("Connection: close", "Transfer-Encoding: chunked").Replace(wildHead)
		url := serveRaw(t, func(conn net.Conn, r *http.Request) {
			text := chunked + wildChunks(stream) + "0\r\nX-Trailer: x\r\n\r\n"
			if r.URL.Path == "/slowly" {
				for i := range len(text) {
					io.WriteString(conn, text[i:i+1])
				}
				return
			}
			io.WriteString(conn, text)
		})
		for _, path := range []string{"/slowly", "/at-once"} {
			events, err := collect(session(t, install(wildClient(t), client.Config{}), url+path))
			require.NoError(t, err)
			require.Equal(t, wildWant, events)
		}
	}
}

// wildChunks is text in chunks of a byte each, with extensions.
func wildChunks(text string) string {
	var chunks strings.Builder
	for i := range len(text) {
		chunks.WriteString("1;x=" + strconv.Itoa(i) + "\r\n" + text[i:i+1] + "\r\n")
	}
	return chunks.String()
}

// wildConversation writes events of the given blocks, each only when the client has
// acknowledged the one before.
type wildConversation struct {
	blocks []string
	acks   chan string
	write  func(w http.ResponseWriter) func(string) // nil: plain
}

func (c *wildConversation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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

// hear reads s and acknowledges each event.
func (c *wildConversation) hear(t *testing.T, s *client.Session) (events []client.Event) {
	t.Helper()
	for ev, err := range s.Incoming() {
		require.NoError(t, err)
		events = append(events, ev)
		c.acks <- ev.Data
	}
	return events
}

// An event is handed out when its blank line is there, whatever ends that: the
// server sends the next only when it has heard of it.
func TestClientHandsOutEachEventBeforeTheNextIsSent(t *testing.T) {
	for _, eol := range []string{"\n", "\r", "\r\n"} {
		conversation := &wildConversation{acks: make(chan string), blocks: []string{
			"data: 1" + eol + eol, "id: 7" + eol + "data: 2" + eol + eol, ": c" + eol + eol + "data: 3" + eol + eol,
		}}
		overEach(t, conversation, func(t *testing.T, srv *httptest.Server) {
			t.Helper()
			events := conversation.hear(t, session(t, install(srv.Client(), client.Config{}), srv.URL))
			require.Equal(t, []string{"1", "2", "3"}, dataOf(events), "%q", eol)
		})
	}
}

// So is one of a compressed stream that is flushed with each event.
func TestClientHandsOutEachEventOfACompressedStream(t *testing.T) {
	conversation := &wildConversation{
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
		s := session(t, install(srv.Client(), client.Config{BufferPolicy: client.All}), srv.URL)
		var got []string
		for ev, err := range s.Incoming() {
			if err != nil { // a handler that returns does not close its gzip stream here
				require.ErrorIs(t, err, io.ErrUnexpectedEOF)
				break
			}
			got = append(got, ev.Data[:1])
			conversation.acks <- ev.Data
		}
		require.Equal(t, []string{"1", "2", "3", "4"}, got)
	})
}

// Close ends a compressed stream that is silent, too.
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
		s := session(t, install(srv.Client(), client.Config{}), srv.URL)
		var errs []error
		for _, err := range s.Incoming() {
			if errs = append(errs, err); err == nil {
				go s.Close()
			}
		}
		require.Equal(t, []error{nil, client.ErrClosed}, errs)
	})
}

// Compression that nobody asked for is refused by name, rather than read as text.
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
		require.EqualValues(t, 1, requests.Load(), "it would be again")
	}
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "identity")
		send(w, "data: a\n\n")
	})
	events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL))
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, dataOf(events), "identity is none")
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
	events, err := collect(session(t, install(wildClient(t), client.Config{MaxReconnectionAttempts: 1}), url))
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, dataOf(events))
	require.EqualValues(t, 2, requests.Load())
}

// Heartbeats are not handed out unless asked for, but count as life.
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

// A hub that is subscribed to by topics in the query, whose ids are URNs, and which
// closes each connection after a while without an event.
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

// A stream of large events over every transport arrives whole.
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
			if ev.Data != want[i] { // a diff of MiBs helps nobody
				require.Fail(t, "another event", "%d", i)
			}
		}
	})
}
