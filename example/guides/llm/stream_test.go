package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// asker is askOpenAI or askAnthropic.
type asker = func(ctx context.Context, c *client.Client, url, key string, request []byte, onText func(string)) (answer, error)

// sent is an event that a server sends.
type sent struct{ name, data string }

const (
	openAIError    = `{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}`
	anthropicError = `{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}`
)

// randomAnswer returns an answer with text and tool calls.
func randomAnswer(rng *rand.Rand) answer {
	words := []string{"Hello", " world", "\n", "é", "日本", "🙂", `"quoted"`, "\\n", "data: x", "[DONE]", "<b>&", "\u2028", "  "}
	a := answer{Stop: "stop", Usage: usage{rng.IntN(1000), rng.IntN(1000)}}
	for range rng.IntN(8) {
		a.Text += words[rng.IntN(len(words))]
	}
	if rng.IntN(6) == 0 {
		a.Refusal = "I cannot do that."
	}
	for i := range rng.IntN(4) {
		arguments := map[string]any{}
		for range rng.IntN(4) {
			arguments[words[rng.IntN(len(words))]] = []any{1.5, nil, true, words[rng.IntN(len(words))]}[rng.IntN(4)]
		}
		text, _ := json.Marshal(arguments)
		a.ToolCalls = append(a.ToolCalls, toolCall{fmt.Sprint("call_", i), "tool", string(text)})
		a.Stop = "tool_calls"
	}
	return a
}

// pieces cuts text into pieces. Some of them are empty.
func pieces(rng *rand.Rand, text string) (all []string) {
	for rest := []rune(text); len(rest) > 0; {
		n := min(len(rest), rng.IntN(8))
		all, rest = append(all, string(rest[:n])), rest[n:]
	}
	return all
}

// object is a JSON object.
type object = map[string]any

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// openAIEvents returns the events of a as the Chat Completions API sends them.
func openAIEvents(rng *rand.Rand, a answer) (all []sent) {
	add := func(choices []any, usage any) {
		all = append(all, sent{"", encode(object{
			"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m", "system_fingerprint": nil,
			"choices": choices, "usage": usage, "obfuscation": "aB3",
		})})
	}
	delta := func(d object, finish any) {
		add([]any{object{"index": 0, "delta": d, "logprobs": nil, "finish_reason": finish}}, nil)
	}
	delta(object{"role": "assistant", "content": "", "refusal": nil}, nil)
	for _, p := range pieces(rng, a.Text) {
		delta(object{"content": p}, nil)
	}
	for _, p := range pieces(rng, a.Refusal) {
		delta(object{"refusal": p}, nil)
	}
	for i, call := range a.ToolCalls {
		delta(object{"tool_calls": []any{object{"index": i, "id": call.ID, "type": "function", "function": object{"name": call.Name, "arguments": ""}}}}, nil)
		for _, p := range pieces(rng, call.Arguments) {
			delta(object{"tool_calls": []any{object{"index": i, "function": object{"arguments": p}}}}, nil)
		}
	}
	delta(object{}, a.Stop)
	add([]any{}, object{"prompt_tokens": a.Usage.Input, "completion_tokens": a.Usage.Output, "total_tokens": a.Usage.Input + a.Usage.Output})
	return append(all, sent{"", "[DONE]"})
}

// anthropicEvents returns the events of a as the Messages API sends them.
func anthropicEvents(rng *rand.Rand, a answer) (all []sent) {
	add := func(name string, v object) {
		v["type"] = name
		all = append(all, sent{name, encode(v)})
		if rng.IntN(5) == 0 {
			all = append(all, sent{"ping", `{"type": "ping"}`})
		}
	}
	index := 0
	block := func(start object, deltas ...object) {
		add("content_block_start", object{"index": index, "content_block": start})
		for _, d := range deltas {
			add("content_block_delta", object{"index": index, "delta": d})
		}
		add("content_block_stop", object{"index": index})
		index++
	}
	add("message_start", object{"message": object{
		"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": []any{}, "stop_reason": nil, "stop_sequence": nil,
		"usage": object{"input_tokens": a.Usage.Input, "output_tokens": 1},
	}})
	if rng.IntN(3) == 0 {
		block(object{"type": "thinking", "thinking": "", "signature": ""},
			object{"type": "thinking_delta", "thinking": "Let me see."}, object{"type": "signature_delta", "signature": "EqQBCg=="})
	}
	text := []rune(a.Text)
	for len(text) > 0 {
		n := 1 + rng.IntN(len(text))
		var deltas []object
		for _, p := range pieces(rng, string(text[:n])) {
			deltas = append(deltas, object{"type": "text_delta", "text": p})
		}
		start := ""
		if rng.IntN(3) == 0 && len(deltas) > 0 {
			start, deltas = deltas[0]["text"].(string), deltas[1:]
		}
		block(object{"type": "text", "text": start}, deltas...)
		text = text[n:]
	}
	for _, call := range a.ToolCalls {
		deltas := []object{{"type": "input_json_delta", "partial_json": ""}}
		if call.Arguments != "{}" || rng.IntN(2) == 0 {
			for _, p := range pieces(rng, call.Arguments) {
				deltas = append(deltas, object{"type": "input_json_delta", "partial_json": p})
			}
		}
		block(object{"type": "tool_use", "id": call.ID, "name": call.Name, "input": object{}}, deltas...)
	}
	add("message_delta", object{"delta": object{"stop_reason": a.Stop, "stop_sequence": nil}, "usage": object{"output_tokens": a.Usage.Output}})
	add("message_stop", object{})
	return all
}

// streamOf returns the bytes of a stream in one of the many forms that the specification
// allows: with LF or CRLF, comments, fields without a space, data of several lines. It leaves
// out what an SDK does not read: CR alone, and a byte order mark.
func streamOf(rng *rand.Rand, events []sent) string {
	var b strings.Builder
	ending := func() string { return []string{"\n", "\r\n"}[rng.IntN(2)] }
	field := func(name, value string) {
		b.WriteString(name + ":" + []string{"", " "}[rng.IntN(2)] + value + ending())
	}
	for _, ev := range events {
		for rng.IntN(4) == 0 {
			b.WriteString([]string{": ping", ":", ": OPENROUTER PROCESSING"}[rng.IntN(3)] + ending())
			if rng.IntN(2) == 0 {
				b.WriteString(ending())
			}
		}
		if ev.name != "" {
			field("event", ev.name)
		}
		if rng.IntN(8) == 0 {
			field("id", fmt.Sprint(rng.IntN(100)))
		}
		data := ev.data
		if rng.IntN(4) == 0 && json.Valid([]byte(data)) {
			var indented strings.Builder
			e := json.NewEncoder(&indented)
			e.SetIndent("", " ")
			_ = e.Encode(json.RawMessage(data))
			data = strings.TrimSpace(indented.String())
		}
		for line := range strings.SplitSeq(data, "\n") {
			field("data", line)
		}
		b.WriteString(ending())
	}
	return b.String()
}

// serveIn serves the stream, cut into pieces anywhere.
func serveIn(t *testing.T, rng *rand.Rand, stream string) string {
	t.Helper()
	var pieces []string
	for rest := stream; rest != ""; {
		n := min(len(rest), 1+rng.IntN(60))
		pieces, rest = append(pieces, rest[:n]), rest[n:]
	}
	return testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, p := range pieces {
			_, _ = w.Write([]byte(p))
			_ = http.NewResponseController(w).Flush()
		}
	})).URL
}
