package client_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
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

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
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

// wildJSON answers with the events of stream if the request is the POST that it
// should be.
func wildJSON(t *testing.T, accept, body string, stream ...string) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if assert.NoError(t, err) && assert.Equal(t, http.MethodPost, r.Method) && assert.JSONEq(t, body, string(got)) &&
			assert.Equal(t, []string{"application/json"}, r.Header["Content-Type"]) &&
			assert.Equal(t, []string{accept}, r.Header["Accept"]) &&
			assert.Equal(t, []string{"Bearer key"}, r.Header["Authorization"]) {
			for _, block := range stream {
				send(w, "%s\n\n", block)
			}
			<-r.Context().Done() // the client leaves by itself
		}
	}
}

// wildPost are the options of a request to an LLM.
func wildPost(body string) []client.Option {
	return []client.Option{
		client.WithBody("application/json", strings.NewReader(body)),
		client.WithHeader("Authorization", "Bearer key"),
	}
}

// A stream of data only, whose last event is no JSON.
func TestClientReadsAChatCompletion(t *testing.T) {
	const ask = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	srv := serve(t, wildJSON(t, "text/event-stream", ask,
		`data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}`,
		`data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}`,
		": keep-alive",
		`data: {"choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}`,
		`data: {"choices":[],"usage":{"total_tokens":3}}`,
		"data: [DONE]",
	))
	type chunk struct {
		Choices []struct {
			Delta        struct{ Content string }
			FinishReason string `json:"finish_reason"`
		}
		Usage *struct {
			TotalTokens int `json:"total_tokens"`
		}
	}
	c := install(srv.Client(), client.Config{Terminal: func(ev client.Event) bool { return ev.Data == "[DONE]" }})
	var text, finish string
	var tokens int
	err := c.SSE(t.Context(), srv.URL, func(s *client.Session) error {
		for ev, err := range client.Incoming[chunk](s) {
			if err != nil {
				return err
			}
			for _, choice := range ev.Data.Choices {
				text += choice.Delta.Content
				finish += choice.FinishReason
			}
			if ev.Data.Usage != nil {
				tokens = ev.Data.Usage.TotalTokens
			}
		}
		return nil
	}, wildPost(ask)...)
	require.NoError(t, err)
	require.Equal(t, "Hello", text)
	require.Equal(t, "stop", finish)
	require.Equal(t, 3, tokens)
}

// Events with names that stand in their data as well, the last with a payload.
func TestClientReadsNamedResponseEvents(t *testing.T) {
	const ask = `{"model":"m","stream":true,"input":"hi"}`
	srv := serve(t, wildJSON(t, "text/event-stream", ask,
		"event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}",
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"Hel\"}",
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":2,\"delta\":\"lo\"}",
		"event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":3,\"response\":{\"status\":\"completed\"}}",
	))
	type message struct {
		Type     string
		Sequence int `json:"sequence_number"`
		Delta    string
		Response *struct{ Status string }
	}
	c := install(srv.Client(), client.Config{Terminal: func(ev client.Event) bool { return ev.Name == "response.completed" }})
	var text, status string
	n := 0
	for ev, err := range client.Incoming[message](session(t, c, srv.URL, wildPost(ask)...)) {
		require.NoError(t, err)
		require.Equal(t, ev.Name, ev.Data.Type)
		require.Equal(t, n, ev.Data.Sequence)
		n++
		text += ev.Data.Delta
		if ev.Data.Response != nil {
			status = ev.Data.Response.Status
		}
	}
	require.Equal(t, "Hello", text)
	require.Equal(t, "completed", status, "the terminal event is handed out")
	require.Equal(t, 4, n)
}

// Events with names, pings between them, and an error in the midst of a stream with
// status 200.
func TestClientReadsAMessageStream(t *testing.T) {
	const ask = `{"model":"m","stream":true}`
	stream := []string{
		"event: message_start\ndata: {\"type\": \"message_start\"}",
		"event: ping\ndata: {\"type\": \"ping\"}",
		"event: content_block_delta\ndata: {\"type\": \"content_block_delta\", \"delta\": {\"text\": \"Hello\"}}",
	}
	type message struct {
		Delta struct{ Text string }
		Error struct{ Message string }
	}
	read := func(url string) (names []string, text string, err error) {
		c := install(http.DefaultClient, client.Config{
			Terminal:     func(ev client.Event) bool { return ev.Name == "message_stop" },
			BufferPolicy: client.LastEvent,
		})
		err = c.SSE(t.Context(), url, func(s *client.Session) error {
			for ev, err := range s.Incoming() {
				if err != nil {
					return err
				}
				names = append(names, ev.Name)
				m, err := client.Decode[message](s, ev)
				switch {
				case err != nil:
					return err
				case ev.Name == "error":
					return errors.New(m.Error.Message)
				}
				text += m.Delta.Text
			}
			return nil
		}, wildPost(ask)...)
		return names, text, err
	}

	srv := serve(t, wildJSON(t, "text/event-stream", ask, append(stream, "event: message_stop\ndata: {\"type\": \"message_stop\"}")...))
	names, text, err := read(srv.URL)
	require.NoError(t, err)
	require.Equal(t, []string{"message_start", "ping", "content_block_delta", "message_stop"}, names)
	require.Equal(t, "Hello", text)

	const overloaded = "event: error\ndata: {\"type\": \"error\", \"error\": {\"message\": \"Overloaded\"}}"
	srv = serve(t, wildJSON(t, "text/event-stream", ask, append(stream, overloaded)...))
	_, _, err = read(srv.URL)
	require.ErrorContains(t, err, "Overloaded")
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, overloaded+"\n\n", string(e.Body))
}

// A POST answered by a stream of messages with ids, which breaks off, is resumed by a
// GET: the request of the reconnection is made anew.
func TestClientResumesAPostByAGet(t *testing.T) {
	const accept = "application/json, text/event-stream"
	const ask = `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`
	var posts, gets atomic.Int64
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, []string{accept}, r.Header["Accept"])
		assert.Equal(t, "session", r.Header.Get("Mcp-Session-Id"))
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		switch r.Method {
		case http.MethodPost:
			posts.Add(1)
			assert.JSONEq(t, ask, string(body))
			assert.NotContains(t, r.Header, "Last-Event-Id")
			send(w, "id: s1-0\ndata:\n\nevent: message\nid: s1-1\ndata: {\"method\":\"progress\"}\n\n")
			panic(http.ErrAbortHandler)
		case http.MethodGet:
			gets.Add(1)
			assert.Empty(t, body)
			assert.Equal(t, []string{"s1-1"}, r.Header["Last-Event-Id"])
			assert.EqualValues(t, 0, max(0, r.ContentLength))
			send(w, "event: message\nid: s1-2\ndata: {\"id\":1,\"result\":{}}\n\n")
			<-r.Context().Done()
		}
	})
	type message struct {
		ID     int
		Method string
	}
	attempt := 0
	c := install(srv.Client(), client.Config{
		MaxReconnectionAttempts: 3,
		Resend:                  true,
		OnRequest: func(r *http.Request) error {
			if attempt++; attempt > 1 {
				r.Method, r.Body, r.GetBody, r.ContentLength = http.MethodGet, nil, nil, 0
				r.Header.Del("Content-Type")
			}
			return nil
		},
		Terminal: func(ev client.Event) bool {
			var m message
			return json.Unmarshal([]byte(ev.Data), &m) == nil && m.ID == 1
		},
	})
	s := session(t, c, srv.URL, client.WithBody("application/json", strings.NewReader(ask)),
		client.WithHeader("Accept", accept), client.WithHeader("Mcp-Session-Id", "session"))
	var got []string
	for ev, err := range s.Incoming() {
		require.NoError(t, err)
		got = append(got, ev.ID+" "+ev.Name)
	}
	require.Equal(t, []string{"s1-0 ", "s1-1 message", "s1-2 message"}, got)
	require.EqualValues(t, 1, posts.Load())
	require.EqualValues(t, 1, gets.Load())
}

// The same server may answer a POST by JSON at once, which is an error that has it.
func TestClientHandsOutAJSONAnswer(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"id":1,"result":{}}`)
	})
	_, err := install(srv.Client(), client.Config{}).Session(t.Context(), srv.URL, client.WithBody("application/json", strings.NewReader("{}")))
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.EqualError(t, err, "client: expected Content-Type text/event-stream but was application/json")
	var m struct{ ID int }
	require.NoError(t, json.NewDecoder(e.Response.Body).Decode(&m))
	require.Equal(t, 1, m.ID)
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

// wildPlugin is a server of this module that counts from the id it is asked to resume
// after, to a hundred.
func wildPlugin(t *testing.T, pause <-chan struct{}) (*sse.Router, *httptest.Server) {
	t.Helper()
	r := sse.Install(chi.NewRouter(), sse.Config{Retry: 10 * time.Millisecond, ShutdownSpread: 20 * time.Millisecond})
	r.SSE("/count", func(s *sse.ServerSession) error {
		from := 0
		if id := s.LastEventID(); id != "" {
			n, err := strconv.Atoi(id)
			if err != nil {
				return sse.Error(http.StatusBadRequest, err)
			}
			from = n
		}
		for i := from + 1; i <= 100; i++ {
			if err := s.Send(sse.Event{ID: strconv.Itoa(i), Name: "tick", Data: strconv.Itoa(i) + "\nof 100"}); err != nil {
				return err
			}
			if i == 50 && from < 50 {
				select {
				case <-s.Done():
					return nil
				case <-pause:
				}
			}
		}
		return s.Send(sse.Event{Name: "end"})
	})
	srv := httptest.NewServer(r)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return r, srv
}

// A client follows a server of this module over its shutdown, to the instance that
// comes after it, and misses nothing.
func TestClientFollowsThePluginOverAShutdown(t *testing.T) {
	old, oldServer := wildPlugin(t, nil)
	_, newServer := wildPlugin(t, nil)
	var at atomic.Pointer[string]
	at.Store(&oldServer.URL)
	var retries []client.Retry
	c := install(http.DefaultClient, client.Config{
		MaxReconnectionAttempts: 5,
		ShowRetryEvents:         true,
		Terminal:                func(ev client.Event) bool { return ev.Name == "end" },
		OnRequest: func(r *http.Request) error {
			r.URL.Host = strings.TrimPrefix(*at.Load(), "http://")
			return nil
		},
		OnRetry: func(r client.Retry) { retries = append(retries, r) },
	})
	var ids []string
	var told []time.Duration
	s := session(t, c, oldServer.URL+"/count")
	for ev, err := range s.Incoming() {
		require.NoError(t, err)
		if ev.Retry != 0 {
			told = append(told, ev.Retry)
		}
		if ev.Name != "tick" {
			continue
		}
		ids = append(ids, ev.ID)
		require.Equal(t, ev.ID+"\nof 100", ev.Data)
		if len(ids) == 50 {
			at.Store(&newServer.URL)
			require.NoError(t, old.Plugin().Shutdown(context.Background()))
		}
	}
	var want []string
	for i := range 100 {
		want = append(want, strconv.Itoa(i+1))
	}
	require.Equal(t, want, ids)
	require.Len(t, retries, 1)
	require.Equal(t, io.EOF, retries[0].Err, "an end in order")
	require.GreaterOrEqual(t, len(told), 2)
	require.GreaterOrEqual(t, retries[0].Delay, client.DefaultMinRetry)
}

// While the plugin shuts down it answers others than browsers by 503 with Retry-After,
// which is waited for.
func TestClientWaitsAsAServerThatShutsDownAsks(t *testing.T) {
	r, srv := wildPlugin(t, nil)
	require.NoError(t, r.Plugin().Shutdown(context.Background()))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var retry client.Retry
	c := install(srv.Client(), client.Config{MaxReconnectionAttempts: 5, OnRetry: func(r client.Retry) {
		retry = r
		cancel()
	}})
	_, err := c.Session(ctx, srv.URL+"/count")
	require.ErrorIs(t, err, context.Canceled)
	var status *client.StatusError
	require.ErrorAs(t, retry.Err, &status)
	require.Equal(t, http.StatusServiceUnavailable, status.Status)
	require.GreaterOrEqual(t, status.RetryAfter, time.Second)
	require.GreaterOrEqual(t, retry.Delay, status.RetryAfter)
}

// What the plugin answers before a session opens is in the error.
func TestClientShowsThePluginsRefusal(t *testing.T) {
	_, srv := wildPlugin(t, nil)
	_, err := install(srv.Client(), client.Config{}).Session(t.Context(), srv.URL+"/count", client.WithLastEventID("x"))
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.EqualError(t, err, "client: expected status 200 but was 400")
	require.Contains(t, string(e.Body), "invalid syntax")
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
