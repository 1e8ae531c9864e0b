package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

var hostile = "<img src=x onerror=\"document.title='broken'\">\r\n\ndata: x\u2028"

// Each piece is sent when it comes, as it is.
func TestStream(t *testing.T) {
	s := start(t, func(a *api) {
		assert.Equal(t, "Hello", a.prompt)
		a.send(role, token("Hi"), token(", you"), token(hostile), ended, done)
	}, testkit.Patience, sse.Config{})
	events, err := ask(t, s.url)
	require.NoError(t, err)
	assert.Equal(t, []string{"text Hi", "text , you", "text " + strings.ReplaceAll(hostile, "\r\n", "\n"), "done stop"}, events)
	assert.Equal(t, sse.EndReturned, testkit.Receive(t, s.ends).Reason)
}

// A client that does not ask for a stream gets JSON.
func TestJSON(t *testing.T) {
	s := start(t, answers(role, token("Hi"), token(", you"), ended, done), testkit.Patience, sse.Config{})
	for _, accept := range []string{atOnce, "*/*", "", "text/event-stream;q=0.5, application/json"} {
		resp := post(t, s.url, accept, hello)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.JSONEq(t, `{"text":"Hi, you","stop":"stop"}`, string(text), accept)
		assert.Equal(t, atOnce, resp.Header.Get("Content-Type"))
		assert.Equal(t, "Accept", resp.Header.Get("Vary"))
	}
}

// Until the first piece, each failure has its status.
func TestStatusBeforeTheFirstPiece(t *testing.T) {
	busy, rejected, broken := "the model is busy", "the model does not accept this prompt", "the model cannot be asked"
	for name, tt := range map[string]struct {
		answer           func(*api)
		status           int
		text, retryAfter string
	}{
		"too many requests":         {refuses(429, "Retry-After", "7"), 429, busy, "7"},
		"too many, no time":         {refuses(429), 429, busy, ""},
		"milliseconds":              {refuses(429, "Retry-After-Ms", "1200"), 429, busy, "2"},
		"unavailable":               {refuses(503, "Retry-After", "30"), 503, busy, "30"},
		"bad request":               {refuses(400), 400, rejected, ""},
		"too long":                  {refuses(413), 400, rejected, ""},
		"our key is wrong":          {refuses(401), 502, broken, ""},
		"server error":              {refuses(500), 502, broken, ""},
		"broken before the answer":  {breaks(), 502, broken, ""},
		"broken before the piece":   {breaks(role), 502, broken, ""},
		"ended before the piece":    {answers(role), 502, broken, ""},
		"an error is all":           {answers(`data: {"error":{"message":"secret-key"}}` + "\n\n"), 502, broken, ""},
		"JSON instead of a stream":  {func(a *api) { _, _ = io.WriteString(a, "{}") }, 502, broken, ""},
		"silent before the answer":  {func(a *api) { <-a.ctx.Done() }, 504, "the model takes too long", ""},
		"silent before its piece":   {func(a *api) { a.send(role); <-a.ctx.Done() }, 504, "the model takes too long", ""},
		"comments before its piece": {func(a *api) { a.send(role); comments(a) }, 504, "the model takes too long", ""},
	} {
		for _, accept := range []string{stream, atOnce} {
			t.Run(name+" "+accept, func(t *testing.T) {
				t.Parallel()
				patience := testkit.Patience
				if tt.status == http.StatusGatewayTimeout {
					patience = 100 * time.Millisecond
				}
				s := start(t, tt.answer, patience, sse.Config{})
				resp := post(t, s.url, accept, hello)
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				assert.Equal(t, tt.status, resp.StatusCode)
				assert.JSONEq(t, fmt.Sprintf(`{"status":%d,"error":%q}`, tt.status, tt.text), string(text))
				assert.Equal(t, tt.retryAfter, resp.Header.Get("Retry-After"))
			})
		}
	}
}

// comments keeps the connection alive.
func comments(a *api) {
	for a.ctx.Err() == nil {
		a.send(": wait\n\n")
		time.Sleep(10 * time.Millisecond)
	}
}

func TestBadPrompts(t *testing.T) {
	s := start(t, func(*api) { t.Error("the API was asked") }, testkit.Patience, sse.Config{})
	for _, body := range []string{"", "{", "Hello", "{}", `{"prompt":""}`, `{"prompt":" \n"}`, `{"prompt":7}`, `{"prompt":"` + strings.Repeat("x", 64<<10) + `"}`} {
		for _, accept := range []string{stream, atOnce} {
			resp := post(t, s.url, accept, body)
			require.NoError(t, resp.Body.Close())
			assert.Equal(t, http.StatusBadRequest, resp.StatusCode, body)
		}
	}
	req, err := http.NewRequest(http.MethodPost, s.url+"/answers", strings.NewReader(hello))
	require.NoError(t, err)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
}

// After the first piece, a failure is told by an event, and the stream does not look complete.
func TestFailureInMidStream(t *testing.T) {
	for name, answer := range map[string]func(*api){
		"broken":    breaks(role, token("Hi")),
		"truncated": answers(role, token("Hi"), ended),
		"an error":  answers(role, token("Hi"), `data: {"error":{"message":"secret-key"}}`+"\n\n", done),
		"no JSON":   answers(role, token("Hi"), "data: {\n\n", done),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, answer, testkit.Patience, sse.Config{})
			events, err := ask(t, s.url)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			assert.Equal(t, []string{"text Hi", "failed the model has broken off"}, events)
			assert.Equal(t, sse.EndHandlerError, testkit.Receive(t, s.ends).Reason)
		})
	}
}

// So is a model that falls silent.
func TestSilenceInMidStream(t *testing.T) {
	t.Parallel()
	answer := func(a *api) { a.send(role, token("Hi")); <-a.ctx.Done() }
	patience := 100 * time.Millisecond
	resp := post(t, start(t, answer, patience, sse.Config{}).url, stream, hello)
	for resp.StatusCode == http.StatusGatewayTimeout { // a busy machine may take longer to begin
		require.NoError(t, resp.Body.Close())
		patience *= 2
		resp = post(t, start(t, answer, patience, sse.Config{}).url, stream, hello)
	}
	events, err := read(t, resp)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, []string{"text Hi", "failed the model has broken off"}, events)
}

// When the client leaves, the request to the API is canceled.
func TestClientLeaves(t *testing.T) {
	for _, tt := range []struct{ accept, when string }{{stream, "before"}, {stream, "in"}, {atOnce, "before"}, {atOnce, "in"}} {
		t.Run(tt.accept+" "+tt.when+" the answer", func(t *testing.T) {
			t.Parallel()
			asked, left := make(chan bool), make(chan time.Time, 1)
			s := start(t, func(a *api) {
				if tt.when == "in" {
					a.send(role, token("Hi"))
				}
				asked <- true
				<-a.ctx.Done()
				left <- time.Now()
			}, testkit.Patience, sse.Config{})
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan time.Time, 1)
			go func() {
				<-asked
				if tt.when == "in" && tt.accept == stream {
					<-asked // until the client has the piece
				}
				gone <- time.Now()
				cancel()
			}()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/answers", strings.NewReader(hello))
			require.NoError(t, err)
			req.Header.Set("Accept", tt.accept)
			resp, err := http.DefaultClient.Do(req)
			if err == nil {
				one := make([]byte, 1)
				_, err = resp.Body.Read(one)
				require.NoError(t, err)
				asked <- true
				_, err = io.Copy(io.Discard, resp.Body)
				require.NoError(t, resp.Body.Close())
			}
			require.ErrorIs(t, err, context.Canceled)
			t.Logf("the API was left %v after the client had gone", testkit.Receive(t, left).Sub(<-gone))
			if tt.accept == stream {
				assert.Equal(t, sse.EndClientGone, testkit.Receive(t, s.ends).Reason)
			}
		})
	}
}

// endless is an API that sends long pieces, up to so many bytes, and counts them.
func endless(sent *atomic.Int64, limit int64) func(*api) {
	return func(a *api) {
		for text := token(strings.Repeat("x", 100<<10)); a.ctx.Err() == nil && sent.Load() < limit; sent.Add(int64(len(text))) {
			a.send(text)
		}
	}
}

// A client that does not read holds back the API, and is then cut off.
func TestClientDoesNotRead(t *testing.T) {
	var sent atomic.Int64
	const all = 200 << 20
	s := start(t, endless(&sent, all), testkit.Patience, sse.Config{WriteTimeout: 300 * time.Millisecond})
	resp := post(t, s.url, stream, hello)
	defer resp.Body.Close()
	assert.Equal(t, sse.EndWriteTimeout, testkit.Receive(t, s.ends).Reason)
	assert.Less(t, sent.Load(), int64(all)/4)
	t.Logf("the API has sent %d KiB", sent.Load()>>10)
}
