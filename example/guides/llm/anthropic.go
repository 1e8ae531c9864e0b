package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/chi-sse/sse/client"
)

// part is an event of a stream of the Messages API. Type says which fields it has.
type part struct {
	Type    string
	Message struct { // of message_start
		Usage messageUsage
	}
	Index        int      // of the content block
	ContentBlock struct { // of content_block_start
		Type, ID, Name, Text string
		Input                json.RawMessage
	} `json:"content_block"`
	Delta struct {
		Type        string
		Text        string // of text_delta
		PartialJSON string `json:"partial_json"` // of input_json_delta
		StopReason  string `json:"stop_reason"`  // of message_delta
	}
	Usage messageUsage // of message_delta
	Error apiError     // of error
}

// messageUsage counts tokens since the beginning of the message.
type messageUsage struct {
	Input  *int `json:"input_tokens"`
	Output *int `json:"output_tokens"`
}

// askAnthropic posts a request of the Messages API, which must ask for a stream. It calls
// onText with each piece of the answer.
func askAnthropic(ctx context.Context, c *client.Client, url, key string, request []byte, onText func(string)) (answer, error) {
	var a answer
	calls := map[int]int{} // the index of the tool call that a content block is
	err := c.SSE(ctx, url, func(s *client.Session) error {
		for ev, err := range client.Incoming[part](s) {
			if err != nil {
				return err
			}
			if err := a.addPart(&ev.Data, calls, onText); err != nil {
				return err
			}
		}
		return nil
	},
		client.WithConfig(func(cfg *client.Config) {
			cfg.Terminal = func(ev client.Event) bool { return ev.Name == "message_stop" }
		}),
		client.WithHeader("X-Api-Key", key),
		client.WithHeader("Anthropic-Version", "2023-06-01"),
		client.WithBody("application/json", bytes.NewReader(request)),
	)
	return a, withAPIError(err)
}

func (a *answer) addPart(p *part, calls map[int]int, onText func(string)) error {
	switch p.Type {
	case "error":
		return &p.Error
	case "message_start":
		a.addUsage(p.Message.Usage)
	case "message_delta":
		a.Stop = p.Delta.StopReason
		a.addUsage(p.Usage)
	case "content_block_start":
		if p.ContentBlock.Type == "tool_use" {
			calls[p.Index] = len(a.ToolCalls)
			a.ToolCalls = append(a.ToolCalls, toolCall{p.ContentBlock.ID, p.ContentBlock.Name, string(p.ContentBlock.Input)})
		}
		a.addText(p.ContentBlock.Text, onText)
	case "content_block_delta":
		a.addText(p.Delta.Text, onText)
		if p.Delta.PartialJSON == "" {
			return nil // text, or something else, such as thinking
		}
		i, ok := calls[p.Index]
		if !ok {
			return fmt.Errorf("arguments for block %d, which is no tool call", p.Index)
		}
		if call := &a.ToolCalls[i]; call.Arguments == "{}" { // the start of a block has no arguments yet
			call.Arguments = p.Delta.PartialJSON
		} else {
			call.Arguments += p.Delta.PartialJSON
		}
	}
	return nil // also after a ping, and after events that were added to the API later
}

func (a *answer) addUsage(u messageUsage) {
	if u.Input != nil {
		a.Usage.Input = *u.Input
	}
	if u.Output != nil {
		a.Usage.Output = *u.Output
	}
}
