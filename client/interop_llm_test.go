// The streams of LLM APIs and of servers of the Model Context Protocol.

package client_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// interopJSON returns a handler that checks that the request is the expected POST, and
// then sends the blocks of stream.
func interopJSON(t *testing.T, accept, body string, stream ...string) http.HandlerFunc {
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
			<-r.Context().Done() // the client leaves after the terminal event
		}
	}
}

// interopPost returns the options of a request to an LLM.
func interopPost(body string) []client.Option {
	return []client.Option{
		client.WithBody("application/json", strings.NewReader(body)),
		client.WithHeader("Authorization", "Bearer key"),
	}
}

// The events of the stream have only data. The data of the last one is not JSON.
func TestClientReadsAChatCompletion(t *testing.T) {
	const ask = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	srv := serve(t, interopJSON(t, "text/event-stream", ask,
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
	}, interopPost(ask)...)
	require.NoError(t, err)
	require.Equal(t, "Hello", text)
	require.Equal(t, "stop", finish)
	require.Equal(t, 3, tokens)
}

// The data of each event repeats its name. The last event has a payload.
func TestClientReadsNamedResponseEvents(t *testing.T) {
	const ask = `{"model":"m","stream":true,"input":"hi"}`
	srv := serve(t, interopJSON(t, "text/event-stream", ask,
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
	for ev, err := range client.Incoming[message](session(t, c, srv.URL, interopPost(ask)...)) {
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
	require.Equal(t, "completed", status, "the terminal event was not handed out")
	require.Equal(t, 4, n)
}

// The stream has named events and pings, and may have an error event although its status
// is 200.
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
		}, interopPost(ask)...)
		return names, text, err
	}

	srv := serve(t, interopJSON(t, "text/event-stream", ask, append(stream, "event: message_stop\ndata: {\"type\": \"message_stop\"}")...))
	names, text, err := read(srv.URL)
	require.NoError(t, err)
	require.Equal(t, []string{"message_start", "ping", "content_block_delta", "message_stop"}, names)
	require.Equal(t, "Hello", text)

	const overloaded = "event: error\ndata: {\"type\": \"error\", \"error\": {\"message\": \"Overloaded\"}}"
	srv = serve(t, interopJSON(t, "text/event-stream", ask, append(stream, overloaded)...))
	_, _, err = read(srv.URL)
	require.ErrorContains(t, err, "Overloaded")
	var e *client.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, overloaded+"\n\n", string(e.Body))
}

// The server answers a POST with a stream that breaks off. The client resumes it with a
// GET, which OnRequest makes of the second request.
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
		Resend:                  client.ResendAlways,
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

// The same server may answer the POST with JSON. The error then holds the JSON.
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
