package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/chi-sse/sse/client"
)

// transport carries the JSON-RPC messages of one MCP session over Streamable HTTP.
type transport struct {
	client *client.Client
	url    string
	handle func(msg []byte) // is called with requests and notifications of the server, by several goroutines

	mu        sync.Mutex
	sessionID string // from the first response that has one; some servers have no sessions
	version   string // of the protocol; from the result of initialize
}

func newTransport(hc *http.Client, url string, handle func(msg []byte)) *transport {
	t := &transport{url: url, handle: handle}
	t.client = client.Install(hc, client.Config{
		MaxReconnectionAttempts: 5,
		ReconnectionTime:        time.Second,
		OnRequest:               t.prepare,
		OnOpen:                  func(r *http.Response) { t.setSession(r.Header) },
		OnFailure:               retryGET,
	})
	return t
}

// message has the fields of a JSON-RPC message that tell what it is.
type message struct {
	ID     json.RawMessage `json:"id"`     // a notification has none
	Method string          `json:"method"` // a response has none
}

// isResponse reports whether msg is the response to the request with this id.
func isResponse(msg []byte, id json.RawMessage) bool {
	var m message
	return json.Unmarshal(msg, &m) == nil && m.Method == "" && len(id) > 0 && bytes.Equal(m.ID, id)
}

// send sends a message. If it is a request, send waits for the response and returns it.
func (t *transport) send(ctx context.Context, msg []byte) (response []byte, err error) {
	var m message
	if err := json.Unmarshal(msg, &m); err != nil {
		return nil, err
	}
	stream, response, err := t.do(ctx, client.WithBody("application/json", bytes.NewReader(msg)),
		client.WithConfig(func(cfg *client.Config) {
			cfg.Resend = client.ResendAlways // as far as retryPOST allows it
			cfg.OnFailure = retryPOST
			cfg.Terminal = func(ev client.Event) bool { return isResponse([]byte(ev.Data), m.ID) }
		}))
	switch isRequest := m.Method != "" && m.ID != nil; {
	case err != nil:
		return nil, err
	case !isRequest && stream != nil:
		return nil, stream.Close()
	case !isRequest:
		return nil, nil // the status was 202
	case stream != nil:
		if response, err = t.read(stream, m.ID); err != nil {
			return nil, err
		}
	}
	if !isResponse(response, m.ID) {
		return nil, fmt.Errorf("the server sent no response to %s, but %.100q", m.Method, response)
	}
	if m.Method == "initialize" {
		var r struct {
			Result struct{ ProtocolVersion string }
		}
		err = json.Unmarshal(response, &r)
		t.mu.Lock()
		t.version = r.Result.ProtocolVersion
		t.mu.Unlock()
	}
	return response, err
}

// listen hands the messages that the server sends by itself to handle, until ctx ends. It
// returns nil if the server offers no such stream.
func (t *transport) listen(ctx context.Context) error {
	err := t.client.SSE(ctx, t.url, func(stream *client.Session) error {
		_, err := t.read(stream, nil)
		return err
	}, client.WithConfig(func(cfg *client.Config) { cfg.MaxReconnectionAttempts = client.Unlimited }))
	if status, ok := errors.AsType[*client.StatusError](err); ok && status.Status == http.StatusMethodNotAllowed {
		return nil
	}
	return err
}

// close ends the session at the server.
func (t *transport) close(ctx context.Context) error {
	t.mu.Lock()
	none := t.sessionID == ""
	t.mu.Unlock()
	if none {
		return nil
	}
	stream, _, err := t.do(ctx, client.WithMethod(http.MethodDelete))
	if status, ok := errors.AsType[*client.StatusError](err); ok &&
		(status.Status == http.StatusNotFound || status.Status == http.StatusMethodNotAllowed) {
		return nil // it has ended already, or the server ends it when it likes
	}
	if stream != nil {
		_ = stream.Close()
	}
	return err
}

// read reads a stream to its end, and returns the response to the request with this id.
func (t *transport) read(stream *client.Session, id json.RawMessage) (response []byte, err error) {
	for ev, err := range stream.Incoming() {
		switch {
		case err != nil:
			return nil, err
		case ev.Data == "" || ev.Name != "" && ev.Name != "message":
			// It only has an id, to resume after.
		case isResponse([]byte(ev.Data), id):
			response = []byte(ev.Data)
		default:
			t.handle([]byte(ev.Data))
		}
	}
	return response, nil
}

// do makes a request. It returns a stream, or the body of a response with status 2xx.
func (t *transport) do(ctx context.Context, options ...client.Option) (*client.Session, []byte, error) {
	stream, resp, err := t.client.Do(ctx, t.url, options...)
	switch {
	case err != nil:
		return nil, nil, err
	case stream != nil:
		return stream, nil, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(http.MaxBytesReader(nil, resp.Body, client.DefaultMaxEventSize))
	if resp.StatusCode/100 != 2 {
		return nil, nil, fmt.Errorf("%w: %.500s", client.CheckResponse(resp), body)
	}
	t.setSession(resp.Header)
	return nil, body, err
}

func (t *transport) setSession(header http.Header) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sessionID == "" {
		t.sessionID = header.Get("Mcp-Session-Id")
	}
}

// prepare completes a request. A POST whose stream can be resumed becomes a GET.
func (t *transport) prepare(r *http.Request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sessionID != "" {
		r.Header.Set("Mcp-Session-Id", t.sessionID)
	}
	if t.version != "" {
		r.Header.Set("Mcp-Protocol-Version", t.version)
	}
	if r.Header.Get("Last-Event-ID") != "" {
		r.Method, r.Body, r.GetBody, r.ContentLength = http.MethodGet, nil, nil, 0
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Del("Content-Type")
	}
	return nil
}

// retryPOST stops if the request could be carried out twice.
func retryPOST(f client.Failure) client.Decision {
	if f.LastEventID == "" && !client.Refused(f.Err) {
		return client.Stop(nil)
	}
	return retryGET(f)
}

// retryGET also tries again while the server has not noticed that the stream was lost.
func retryGET(f client.Failure) client.Decision {
	if status, ok := errors.AsType[*client.StatusError](f.Err); ok && status.Status == http.StatusConflict {
		return client.Retry()
	}
	return client.DefaultDecision(f)
}
