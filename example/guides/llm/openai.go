package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/chi-sse/sse/client"
)

// chunk is an event of a stream of chat completions. The last one has only usage.
type chunk struct {
	Choices []struct {
		Index int
		Delta struct {
			Content   string
			Refusal   string
			ToolCalls []struct {
				Index    int
				ID       string
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		FinishReason string `json:"finish_reason"`
	}
	Usage *struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
	}
	Error *apiError
}

// askOpenAI posts a request of the Chat Completions API, which must ask for a stream. It calls
// onText with each piece of the answer.
func askOpenAI(ctx context.Context, c *client.Client, url, key string, request []byte, onText func(string)) (answer, error) {
	var a answer
	err := c.SSE(ctx, url, func(s *client.Session) error {
		for ev, err := range client.Incoming[chunk](s) {
			if err != nil {
				return err
			}
			if err := a.addChunk(&ev.Data, onText); err != nil {
				return err
			}
		}
		return nil
	},
		client.WithConfig(func(cfg *client.Config) {
			cfg.Terminal = func(ev client.Event) bool { return strings.HasPrefix(ev.Data, "[DONE]") }
		}),
		client.WithHeader("Authorization", "Bearer "+key),
		client.WithBody("application/json", bytes.NewReader(request)),
	)
	return a, withAPIError(err)
}

func (a *answer) addChunk(c *chunk, onText func(string)) error {
	if c.Error != nil {
		return c.Error
	}
	if c.Usage != nil {
		a.Usage = usage{c.Usage.PromptTokens, c.Usage.CompletionTokens}
	}
	for _, choice := range c.Choices {
		if choice.Index != 0 {
			continue // the request has asked for more than one answer
		}
		if choice.FinishReason != "" {
			a.Stop = choice.FinishReason
		}
		a.Refusal += choice.Delta.Refusal
		a.addText(choice.Delta.Content, onText)
		for _, part := range choice.Delta.ToolCalls {
			if part.Index == len(a.ToolCalls) {
				a.ToolCalls = append(a.ToolCalls, toolCall{})
			}
			if part.Index < 0 || part.Index >= len(a.ToolCalls) {
				return fmt.Errorf("tool call %d follows %d others", part.Index, len(a.ToolCalls))
			}
			call := &a.ToolCalls[part.Index]
			if part.ID != "" {
				call.ID = part.ID
			}
			call.Name += part.Function.Name
			call.Arguments += part.Function.Arguments
		}
	}
	return nil
}
