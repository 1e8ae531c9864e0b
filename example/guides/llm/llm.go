package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/chi-sse/sse/client"
)

// answer is what a model has answered. If the stream fails, it is what has arrived.
type answer struct {
	Text      string
	Refusal   string // why the model does not answer; OpenAI only
	ToolCalls []toolCall
	Stop      string // why the model stopped: OpenAI's finish_reason, Anthropic's stop_reason
	Usage     usage
}

// toolCall is a call that the model asks for. Arguments is JSON once the answer is complete.
type toolCall struct{ ID, Name, Arguments string }

// usage counts tokens.
type usage struct{ Input, Output int }

func (a *answer) addText(text string, onText func(string)) {
	if text != "" {
		a.Text += text
		onText(text)
	}
}

// newClient returns a client for both APIs. resend and onFailure say when it sends a request
// again.
func newClient(hc *http.Client, resend client.ResendMode, onFailure func(client.Failure) client.Decision) *client.Client {
	return client.Install(hc, client.Config{
		MaxReconnectionAttempts: 3,
		ReconnectionTime:        time.Second,
		Resend:                  resend,
		OnFailure:               onFailure,
		EventTimeout:            5 * time.Minute, // reasoning models may be silent for minutes
	})
}

// refused sends a request again only if the API has not acted on it.
func refused(f client.Failure) client.Decision {
	if !client.Refused(f.Err) {
		return client.Stop(nil)
	}
	return client.DefaultDecision(f)
}

// apiError is an error that the API reports, in a stream or in place of one.
type apiError struct{ Type, Message string }

func (e *apiError) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Type) }

// UnmarshalJSON also accepts an error that is only a text, as some APIs send it.
func (e *apiError) UnmarshalJSON(data []byte) error {
	type fields apiError
	if json.Unmarshal(data, (*fields)(e)) == nil {
		return nil
	}
	return json.Unmarshal(data, &e.Message)
}

// withAPIError adds to err what the API has said in place of a stream.
func withAPIError(err error) error {
	var refusal struct{ Error *apiError }
	e, ok := errors.AsType[*client.Error](err)
	if ok && json.Unmarshal(e.Body, &refusal) == nil && refusal.Error != nil {
		return fmt.Errorf("%w: %w", err, refusal.Error)
	}
	return err
}
