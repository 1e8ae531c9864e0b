package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

const openAIStream = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Let me "},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":1,"delta":{"content":"another answer"},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"look."},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"Oslo\"}"}}]},"finish_reason":null}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":9,"total_tokens":29}}

data: [DONE]

`

const anthropicStream = `event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":20,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Let me "}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"look."}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"call_1","name":"weather","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"city\":"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"\"Oslo\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":9}}

event: message_stop
data: {"type":"message_stop"}

`

// apis are the two APIs with a stream of each.
var apis = []struct {
	name, stream, stop string
	ask                asker
}{
	{"openai", openAIStream, "tool_calls", askOpenAI},
	{"anthropic", anthropicStream, "tool_use", askAnthropic},
}

// step answers one request.
type step = func(w http.ResponseWriter)

// streams sends text, and ends the stream.
func streams(text string) step {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
	}
}

// breaks sends text, and breaks the connection.
func breaks(text string) step {
	return func(w http.ResponseWriter) {
		streams(text)(w)
		panic(http.ErrAbortHandler)
	}
}

func refuses(status int, body string, header ...string) step {
	return func(w http.ResponseWriter) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Retry-After-Ms", "1")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// serve answers each request with the next step, and counts the requests.
func serve(t *testing.T, steps ...step) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	srv := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n := int(requests.Add(1))
		if n > len(steps) {
			refuses(400, "too many requests")(w)
			return
		}
		steps[n-1](w)
	}))
	return srv.URL, requests
}

// quickly returns newClient's client with short waits.
func quickly(resend client.ResendMode, onFailure func(client.Failure) client.Decision) *client.Client {
	if onFailure == nil {
		onFailure = client.DefaultDecision
	}
	return newClient(http.DefaultClient, resend, func(f client.Failure) client.Decision {
		if d := onFailure(f); d != client.Retry() {
			return d
		}
		return client.RetryIn(0)
	})
}

func TestStreamOfEachAPI(t *testing.T) {
	t.Parallel()
	for _, api := range apis {
		t.Run(api.name, func(t *testing.T) {
			t.Parallel()
			srv := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				assert.Equal(t, `{"stream":true}`, string(body))
				assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
				if api.name == "openai" {
					assert.Equal(t, "Bearer key", r.Header.Get("Authorization"))
				} else {
					assert.Equal(t, "key", r.Header.Get("X-Api-Key"))
					assert.Equal(t, "2023-06-01", r.Header.Get("Anthropic-Version"))
				}
				streams(api.stream)(w)
			}))
			var out strings.Builder
			require.NoError(t, run(t.Context(), api.name, srv.URL, "key", strings.NewReader(`{"stream":true}`), &out))
			require.Equal(t, "Let me look.\ncall_1 weather({\"city\":\"Oslo\"})\nstop: "+api.stop+", tokens: 20 in, 9 out\n", out.String())
		})
	}
}

// A stream that ends before its last event is an error, and what has arrived is kept.
func TestStreamThatIsCutOff(t *testing.T) {
	t.Parallel()
	for _, api := range apis {
		blocks := strings.SplitAfter(api.stream, "\n\n")
		cut := strings.Join(blocks[:5], "")
		for name, tt := range map[string]struct {
			step step
			err  error
			api  *apiError
		}{
			"in order":                   {streams(cut), client.ErrTruncated, nil},
			"broken":                     {breaks(cut), io.ErrUnexpectedEOF, nil},
			"JSON in the stream's place": {streams(cut + `{"error":{"type":"t","message":"m"}}`), client.ErrTruncated, &apiError{"t", "m"}},
		} {
			t.Run(api.name+" "+name, func(t *testing.T) {
				t.Parallel()
				url, requests := serve(t, tt.step)
				a, err := api.ask(t.Context(), quickly(client.ResendUntilEvent, nil), url, "key", []byte("{}"), func(string) {})
				require.ErrorIs(t, err, tt.err)
				e, _ := errors.AsType[*apiError](err)
				require.Equal(t, tt.api, e)
				require.True(t, strings.HasPrefix(a.Text, "Let me "), a.Text)
				require.EqualValues(t, 1, requests.Load())
			})
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, api := range apis {
		t.Run(api.name, func(t *testing.T) {
			t.Parallel()
			left := make(chan struct{})
			srv := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				streams(strings.Join(strings.SplitAfter(api.stream, "\n\n")[:5], ""))(w)
				<-r.Context().Done()
				close(left)
			}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			a, err := api.ask(ctx, quickly(client.ResendUntilEvent, nil), srv.URL, "key", []byte("{}"), func(string) { cancel() })
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, "Let me ", a.Text)
			testkit.Receive(t, left)
		})
	}
}

func TestRefusalSaysWhy(t *testing.T) {
	t.Parallel()
	for _, api := range apis {
		url, _ := serve(t, refuses(401, `{"error":{"type":"authentication_error","message":"invalid x-api-key"}}`), refuses(500, "<html>"))
		_, err := api.ask(t.Context(), quickly(client.ResendNever, nil), url, "key", []byte("{}"), nil)
		require.EqualError(t, err, "client: expected status 200 but was 401: invalid x-api-key (authentication_error)")
		_, err = api.ask(t.Context(), quickly(client.ResendNever, nil), url, "key", []byte("{}"), nil)
		require.EqualError(t, err, "client: expected status 200 but was 500")
	}
}

// What no API sends is an error, and never a panic.
func TestMalformedStream(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		ask  asker
		data string
	}{
		"no JSON":           {askOpenAI, "hello"},
		"an index too high": {askOpenAI, `{"choices":[{"delta":{"tool_calls":[{"index":2}]}}]}`},
		"a negative index":  {askOpenAI, `{"choices":[{"delta":{"tool_calls":[{"index":-1}]}}]}`},
		"no such block":     {askAnthropic, `{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"x"}}`},
		"an empty error":    {askAnthropic, `{"type":"error"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, _ := serve(t, streams("data: "+tt.data+"\n\nevent: message_stop\ndata: [DONE]\n\n"))
			_, err := tt.ask(t.Context(), quickly(client.ResendNever, nil), url, "key", []byte("{}"), func(string) {})
			require.Error(t, err)
			require.NotErrorIs(t, err, client.ErrTruncated)
		})
	}
}

// A stream may use CR alone, and begin with a byte order mark. The SDKs do not read those.
func TestFormsThatTheSDKsDoNotRead(t *testing.T) {
	t.Parallel()
	for _, api := range apis {
		url := serveIn(t, rand.New(rand.NewPCG(1, 1)), "\ufeff"+strings.ReplaceAll(api.stream, "\n", "\r"))
		a, err := api.ask(t.Context(), quickly(client.ResendNever, nil), url, "key", []byte("{}"), func(string) {})
		require.NoError(t, err)
		require.Equal(t, answer{
			Text: "Let me look.", ToolCalls: []toolCall{{"call_1", "weather", `{"city":"Oslo"}`}}, Stop: api.stop, Usage: usage{20, 9},
		}, a)
	}
}

// The stream may have any form that the specification allows, and be cut anywhere.
func TestRandomStreams(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 60 {
		for _, api := range apis {
			want := randomAnswer(rng)
			events := openAIEvents(rng, want)
			if api.name == "anthropic" {
				want.Refusal = ""
				events = anthropicEvents(rng, want)
			}
			stream := streamOf(rng, events)
			var text string
			a, err := api.ask(t.Context(), quickly(client.ResendNever, nil), serveIn(t, rng, stream), "key", []byte("{}"), func(s string) { text += s })
			require.NoError(t, err, stream)
			require.Equal(t, want, a, stream)
			require.Equal(t, want.Text, text, stream)
		}
	}
}

// An error in mid-stream keeps what came before it.
func TestErrorInMidStream(t *testing.T) {
	t.Parallel()
	for _, api := range apis {
		events := strings.SplitAfter(api.stream, "\n\n")
		for text, want := range map[string]apiError{
			openAIError:                            {"server_error", "The server had an error"},
			anthropicError:                         {"overloaded_error", "Overloaded"},
			`{"type":"error","error":"only text"}`: {"", "only text"},
		} {
			if api.name == "openai" && text == anthropicError || api.name == "anthropic" && text == openAIError {
				continue
			}
			for n := range len(events) - 2 {
				stream := strings.Join(events[:n], "") + "event: error\ndata: " + text + "\n\n"
				url, requests := serve(t, streams(stream))
				a, err := api.ask(t.Context(), quickly(client.ResendUntilEvent, nil), url, "key", []byte("{}"), func(string) {})
				var e *apiError
				require.ErrorAs(t, err, &e)
				require.Equal(t, want, *e)
				require.Contains(t, []string{"", "Let me ", "Let me look."}, a.Text)
				if n > 4 {
					require.Equal(t, "Let me look.", a.Text)
				}
				require.EqualValues(t, 1, requests.Load())
			}
		}
	}
}

// silent is an http.RoundTripper whose stream has comments, but no event.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	body, w := io.Pipe()
	go func() {
		for {
			if _, err := io.WriteString(w, ": keep-alive\n\n"); err != nil {
				return
			}
			time.Sleep(15 * time.Second)
		}
	}()
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body, Request: r,
	}, nil
}

// A model that has stalled is given up, also if comments keep the connection alive.
func TestStalledModelIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, api := range apis {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			c := newClient(&http.Client{Transport: silent{}}, client.ResendUntilEvent, refused)
			_, err := api.ask(t.Context(), c, "http://localhost", "key", []byte("{}"), func(string) {})
			var timeout *client.TimeoutError
			require.ErrorAs(t, err, &timeout)
			require.Equal(t, "EventTimeout", timeout.Option)
			require.Equal(t, 5*time.Minute, time.Since(start))
			time.Sleep(time.Minute) // so that the goroutine of the stream ends
		})
	}
}
