package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

// The parts of an answer of the API, as OpenAI sends them.
const (
	role  = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	ended = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	done  = "data: [DONE]\n\n"
)

// token is an event with a piece of the answer.
func token(text string) string {
	content, _ := json.Marshal(text)
	return `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":` + string(content) + `},"finish_reason":null}]}` + "\n\n"
}

// api is one request to the API.
type api struct {
	http.ResponseWriter
	t      *testing.T
	ctx    context.Context
	prompt string
}

// send sends events.
func (a *api) send(events ...string) {
	a.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(a, strings.Join(events, ""))
	_ = http.NewResponseController(a.ResponseWriter).Flush()
}

// answers is an API that sends events, and ends the response.
func answers(events ...string) func(*api) {
	return func(a *api) { a.send(events...) }
}

// breaks is an API that sends events, and breaks the connection.
func breaks(events ...string) func(*api) {
	return func(a *api) {
		if len(events) > 0 {
			a.send(events...)
		}
		panic(http.ErrAbortHandler)
	}
}

// refuses is an API that answers with a status.
func refuses(status int, header ...string) func(*api) {
	return func(a *api) {
		for i := 0; i < len(header); i += 2 {
			a.Header().Set(header[i], header[i+1])
		}
		a.WriteHeader(status)
		_, _ = io.WriteString(a, `{"error":{"message":"secret-key is not right","type":"t"}}`)
	}
}

// server is the program without its command line.
type server struct {
	url   string
	model *model
	ends  chan sse.End
	cut   func() // cuts the program's connections
}

// start starts the program in front of an API, for which it has that much patience.
func start(t *testing.T, answer func(*api), patience time.Duration, cfg sse.Config) *server {
	t.Helper()
	upstream := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Model    string
			Stream   bool
			Messages []struct{ Role, Content string }
		}
		if !assert.NoError(t, json.NewDecoder(r.Body).Decode(&request)) || !assert.Len(t, request.Messages, 1) {
			return
		}
		assert.Equal(t, "gpt-test", request.Model)
		assert.True(t, request.Stream)
		assert.Equal(t, "user", request.Messages[0].Role)
		assert.Equal(t, "Bearer secret-key", r.Header.Get("Authorization"))
		answer(&api{w, t, r.Context(), request.Messages[0].Content})
	}))
	s := &server{model: newModel(upstream.URL, "secret-key", "gpt-test", patience), ends: make(chan sse.End, 100)}
	cfg.OnClose = func(_ *sse.ServerSession, end sse.End) { s.ends <- end }
	r := routes(s.model, cfg)
	srv := testkit.Serve(t, r, func(srv *httptest.Server) { r.Plugin().Attach(srv.Config) })
	s.url, s.cut = srv.URL, srv.CloseClientConnections
	return s
}

const (
	stream = "text/event-stream"
	atOnce = "application/json"
)

// post posts a body. The caller closes the response's.
func post(t *testing.T, url, accept, body string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/answers", strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Accept", accept)
	req.Header.Set("Content-Type", atOnce)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	return resp
}

const hello = `{"prompt":"Hello"}`

// ask posts a prompt, and reads the whole stream that it must get.
func ask(t *testing.T, url string) (events []string, err error) {
	t.Helper()
	return read(t, post(t, url, stream, hello))
}

// read reads the whole stream that resp must be.
func read(t *testing.T, resp *http.Response) (events []string, err error) {
	t.Helper()
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, stream, resp.Header.Get("Content-Type"))
	for ev, err := range event.NewDecoder(resp.Body).All() {
		if err != nil {
			return events, err
		}
		events = append(events, ev.Name+" "+ev.Data)
	}
	return events, nil
}
