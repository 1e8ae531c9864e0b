package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

// session is an MCP session: what a client does with a transport.
type session struct {
	*transport
	lastID atomic.Int64
}

// open opens a session with the server at url. notify gets the notifications of the server;
// several goroutines call it.
func open(ctx context.Context, hc *http.Client, url string, notify func(method string, params json.RawMessage)) (*session, error) {
	s := &session{}
	s.transport = newTransport(hc, url, func(msg []byte) { s.received(ctx, msg, notify) })
	var server struct{ ProtocolVersion string }
	err := s.call(ctx, "initialize", map[string]any{
		"protocolVersion": "2025-11-25",
		"capabilities":    map[string]any{},
		"clientInfo":      map[string]string{"name": "guide", "version": "1"},
	}, &server)
	if err != nil {
		return nil, err
	}
	if version := server.ProtocolVersion; version != "2025-11-25" && version != "2025-06-18" {
		return nil, errors.Join(fmt.Errorf("the server speaks version %q of the protocol", version), s.close(ctx))
	}
	err = s.notify(ctx, "notifications/initialized", nil)
	return s, err
}

// call sends a request, and decodes its result into result unless that is nil. It returns an
// *rpcError if the server responds with an error.
func (s *session) call(ctx context.Context, method string, params, result any) error {
	id := s.lastID.Add(1)
	msg, err := json.Marshal(outgoing{ID: id, Method: method, Params: params})
	if err != nil {
		return err
	}
	response, err := s.send(ctx, msg)
	if ctx.Err() != nil { // a server does not take a lost connection for a cancellation
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = s.notify(ctx, "notifications/cancelled", map[string]any{"requestId": id})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	var r struct {
		Result json.RawMessage
		Error  *rpcError
	}
	switch err := json.Unmarshal(response, &r); {
	case err != nil:
		return fmt.Errorf("%s: %w", method, err)
	case r.Error != nil:
		return fmt.Errorf("%s: %w", method, r.Error)
	case result == nil:
		return nil
	}
	return json.Unmarshal(r.Result, result)
}

// notify sends a notification.
func (s *session) notify(ctx context.Context, method string, params any) error {
	msg, err := json.Marshal(outgoing{Method: method, Params: params})
	if err == nil {
		_, err = s.send(ctx, msg)
	}
	return err
}

// received hands a notification of the server to notify. To a request of the server, it
// responds.
func (s *session) received(ctx context.Context, msg []byte, notify func(string, json.RawMessage)) {
	var m struct {
		message
		Params json.RawMessage
	}
	if json.Unmarshal(msg, &m) != nil || m.Method == "" {
		return // not JSON, or a response that nobody waits for
	}
	if m.ID == nil {
		notify(m.Method, m.Params)
		return
	}
	answer := outgoing{ID: m.ID, Error: &rpcError{Code: -32601, Message: "this client has no method " + m.Method}}
	if m.Method == "ping" {
		answer = outgoing{ID: m.ID, Result: struct{}{}}
	}
	if msg, err := json.Marshal(answer); err == nil {
		_, _ = s.send(ctx, msg) // if it fails, the server waits in vain
	}
}

// outgoing is a JSON-RPC message of the client.
type outgoing struct {
	ID     any       `json:"id,omitempty"`
	Method string    `json:"method,omitempty"`
	Params any       `json:"params,omitempty"`
	Result any       `json:"result,omitempty"`
	Error  *rpcError `json:"error,omitempty"`
}

func (o outgoing) MarshalJSON() ([]byte, error) {
	type fields outgoing
	return json.Marshal(struct {
		JSONRPC string `json:"jsonrpc"`
		fields
	}{"2.0", fields(o)})
}

// rpcError is the error of a response.
type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *rpcError) Error() string { return fmt.Sprintf("%s (code %d)", e.Message, e.Code) }
