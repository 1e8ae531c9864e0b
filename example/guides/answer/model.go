package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/chi-sse/sse/client"
)

// maxAnswer bounds the time that an answer takes as a whole.
const maxAnswer = 5 * time.Minute

// model is a language model behind an API that speaks as OpenAI's Chat Completions does.
type model struct {
	client         *client.Client
	url, key, name string
}

// newModel returns a model that may be silent for as long as patience.
func newModel(url, key, name string, patience time.Duration) *model {
	return &model{client.Install(http.DefaultClient, client.Config{
		OpenTimeout:  patience, // until the answer begins
		EventTimeout: patience, // from one token to the next
		Terminal:     func(ev client.Event) bool { return ev.Data == "[DONE]" },
	}), url, key, name}
}

// chunk is an event of the API's stream.
type chunk struct {
	Choices []struct {
		Delta        struct{ Content string }
		FinishReason string `json:"finish_reason"`
	}
	Error *struct{ Message string }
}

// ask calls onText with each piece of the answer. It returns why the model has stopped: "stop"
// means that the answer is complete.
func (m *model) ask(ctx context.Context, prompt string, onText func(string) error) (stop string, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxAnswer)
	defer cancel()
	request, err := json.Marshal(map[string]any{
		"model":                 m.name,
		"stream":                true,
		"max_completion_tokens": 4000,
		"messages":              []any{map[string]string{"role": "user", "content": prompt}},
	})
	if err != nil {
		return "", err
	}
	err = m.client.SSE(ctx, m.url, func(s *client.Session) error {
		for ev, err := range client.Incoming[chunk](s) {
			if err != nil {
				return err
			}
			if ev.Data.Error != nil {
				return errors.New(ev.Data.Error.Message)
			}
			for _, choice := range ev.Data.Choices {
				if choice.FinishReason != "" {
					stop = choice.FinishReason
				}
				if choice.Delta.Content == "" {
					continue
				}
				if err := onText(choice.Delta.Content); err != nil {
					return err
				}
			}
		}
		return nil
	}, client.WithHeader("Authorization", "Bearer "+m.key), client.WithBody("application/json", bytes.NewReader(request)))
	return stop, err
}
