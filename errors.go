package sse

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-chi/render"
)

var (
	// ErrClosed matches the error of every send on a session that has ended, for whatever
	// reason.
	ErrClosed = errors.New("sse: session closed")

	// ErrClientGone is the cause of a session's end if the client has left.
	ErrClientGone = errors.New("sse: client gone")

	// ErrCanceled is the cause of a session's end if a middleware has canceled the
	// request's context. The error that matches it also wraps the cause of that context.
	ErrCanceled = errors.New("sse: request canceled")

	// ErrAbandoned is the cause of a session's end if a middleware has returned while the
	// handler was still running in another goroutine, as a home-made timeout does.
	ErrAbandoned = errors.New("sse: a middleware has returned without the handler")

	// ErrWriteTimeout is the cause of a session's end if the client has not taken what it
	// was sent within Config.WriteTimeout.
	ErrWriteTimeout = errors.New("sse: write timeout")

	// ErrSlow is the cause of a session's end if a hub has dropped events before the
	// client took them.
	ErrSlow = errors.New("sse: client too slow")

	// ErrShutdown is the cause of a session's end if Plugin.Shutdown has been called. After
	// that, it is the reason for which sessions are refused.
	ErrShutdown = errors.New("sse: shutting down")

	// ErrExpired is matched by the cause of a session's end at the time of
	// ServerSession.EndAt or WithMaxAge. The cause also matches what EndAt was given.
	ErrExpired = errors.New("sse: session expired")

	// ErrRevoked is matched by the cause of a session's end if the check of WithRecheck has
	// failed. The cause also matches the error of the check.
	ErrRevoked = errors.New("sse: session revoked")

	// ErrReplaced is the cause of a session's end if a newer one has taken its place in
	// WithNewestSessionsBy.
	ErrReplaced = errors.New("sse: session replaced by a newer one")

	// ErrTooManySessions is matched by the reason for which a session beyond a limit is
	// refused, which is a *LimitError.
	ErrTooManySessions = errors.New("sse: too many sessions")

	// ErrUnsupported is the reason for which a request cannot be answered by a stream:
	// something between the handler and the connection cannot stream, for example
	// http.TimeoutHandler. The error that matches it names the type.
	ErrUnsupported = errors.New("sse: the response cannot be streamed")
)

// StatusError reports that a request is answered with an HTTP status instead of a stream.
type StatusError struct {
	Status int   // 4xx, 5xx or 204; anything else is answered with 500
	Err    error // the body of the answer; nil: the standard text of the status
}

// Error returns an error for a [Handler] to return before its session is open. The request
// is then answered with status and err. If err is a render.Renderer, the body is err
// rendered. Otherwise the body is a JSON or XML object, as the client accepts, with the text
// of err. A nil err means the standard text of the status.
//
// A browser's EventSource takes any such answer as final and does not reconnect.
//
// status must be 4xx, 5xx, or 204, which has no body; see [Stop]. Any other status is a mistake
// of the handler's: the request is answered with 500, and the log says why.
func Error(status int, err error) error { return &StatusError{status, err} }

// Stop returns an error for a [Handler] to return before its session is open. The request is
// then answered with 204 and no body, which tells a browser's EventSource, and other clients that
// follow the specification, not to reconnect (WHATWG HTML §9.2.2). Use it when a client comes
// back to a stream that has ended for good. Config.RenderError is not called.
//
// Once the session is open, Stop is an error like any other: the stream breaks.
func Stop() error { return Error(http.StatusNoContent, nil) }

func (e *StatusError) Error() string {
	text := e.text()
	if text == "" {
		return fmt.Sprintf("sse: status %d", e.Status)
	}
	return fmt.Sprintf("sse: status %d: %s", e.Status, text)
}

// text returns the text of Err, or else that of the status.
func (e *StatusError) text() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return http.StatusText(e.Status)
}

func (e *StatusError) valid() bool {
	return e.Status == http.StatusNoContent || e.Status >= 400 && e.Status <= 599
}

// Unwrap returns e.Err.
func (e *StatusError) Unwrap() error { return e.Err }

// RenderError is the default of Config.RenderError. It answers with the status and text of a
// *StatusError, with chi/render. It answers any other error, and an invalid Status, with a 500
// that does not show the client its text.
func RenderError(w http.ResponseWriter, r *http.Request, err error) {
	statusErr, ok := errors.AsType[*StatusError](err)
	if !ok || !statusErr.valid() {
		statusErr = &StatusError{Status: http.StatusInternalServerError}
	}
	if statusErr.Status == http.StatusNoContent {
		w.Header().Set("Cache-Control", "no-store") // a cache may keep a 204 (RFC 9110 §15.3.5)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	render.Status(r, statusErr.Status)
	if renderer, ok := errors.AsType[errorRenderer](statusErr.Err); ok {
		if err := render.Render(w, r, renderer); err == nil {
			return
		}
	}
	text := statusErr.text()
	if limitOf(statusErr) != nil {
		text = ErrTooManySessions.Error() // how many there may be is not the client's business
	}
	render.Respond(w, r, errorBody{Status: statusErr.Status, Error: text})
}

type errorRenderer interface {
	error
	render.Renderer
}

type errorBody struct {
	XMLName xml.Name `json:"-" xml:"response"`
	Status  int      `json:"status" xml:"status"`
	Error   string   `json:"error" xml:"error"`
}

// IndexError reports which of several events cannot be encoded, and why. It is an error of
// [ServerSession.SendAll] and of a hub's PublishAll.
type IndexError struct {
	Index int   // of the event in the call, from 0
	Err   error // as that of an event by itself
}

func (e *IndexError) Error() string { return fmt.Sprintf("event at index %d: %v", e.Index, e.Err) }

// Unwrap returns e.Err.
func (e *IndexError) Unwrap() error { return e.Err }

// closedError is the error of a send after the end. It wraps ErrClosed and the cause of the
// end.
type closedError struct{ cause error }

func (e *closedError) Error() string   { return ErrClosed.Error() + ": " + e.cause.Error() }
func (e *closedError) Unwrap() []error { return []error{ErrClosed, e.cause} }
