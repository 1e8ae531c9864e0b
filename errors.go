package sse

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"

	"github.com/go-chi/render"
)

var (
	// ErrClosed is matched by the error of every send on a session that has ended,
	// whatever ended it.
	ErrClosed = errors.New("sse: session closed")

	// ErrClientGone is the cause of a session's end when the client left.
	ErrClientGone = errors.New("sse: client gone")

	// ErrCanceled is the cause of a session's end when a middleware canceled the
	// request's context. The context's own cause is wrapped with it.
	ErrCanceled = errors.New("sse: request canceled")

	// ErrWriteTimeout is the cause of a session's end when the client did not take
	// what it was sent within Config.WriteTimeout.
	ErrWriteTimeout = errors.New("sse: write timeout")

	// ErrSlow is the cause of a session's end when its client has fallen behind what is
	// kept for it; a hub ends sessions with it.
	ErrSlow = errors.New("sse: client too slow")

	// ErrShutdown is the cause of a session's end by Plugin.Shutdown, and why a
	// session is refused after it.
	ErrShutdown = errors.New("sse: shutting down")

	// ErrTooManySessions is why a session is refused beyond Config.MaxSessions or
	// WithSessionLimit.
	ErrTooManySessions = errors.New("sse: too many sessions")

	// ErrUnsupported is why a session cannot be: something between the handler and
	// the connection cannot stream, as http.TimeoutHandler cannot. The error that
	// matches it names the type.
	ErrUnsupported = errors.New("sse: the response cannot be streamed")
)

// StatusError answers a request with an HTTP status instead of a stream.
type StatusError struct {
	Status int   // an HTTP status of 400 and above
	Err    error // what is told to the client
}

// Error returns an error for a [Handler] to return before its session is open.
// The request is then answered with status, and err as the body: if err is a
// render.Renderer it is rendered, else its text stands in a JSON or XML object, as
// the client accepts. A nil err stands for the status's own text.
//
// Browsers' EventSource takes any such answer as final and does not reconnect.
func Error(status int, err error) error {
	if status < 400 || status > 599 {
		panic(fmt.Sprintf("sse: Error with status %d; only 4xx and 5xx are errors", status))
	}
	if err == nil {
		err = errors.New(http.StatusText(status))
	}
	return &StatusError{status, err}
}

func (e *StatusError) Error() string { return fmt.Sprintf("sse: status %d: %v", e.Status, e.Err) }

// Unwrap returns e.Err.
func (e *StatusError) Unwrap() error { return e.Err }

// RenderError is the default of Config.RenderError. It answers with the status
// and text of a *StatusError, through chi/render; any other error is a 500 whose
// text is kept from the client.
func RenderError(w http.ResponseWriter, r *http.Request, err error) {
	statusErr, ok := errors.AsType[*StatusError](err)
	if !ok {
		statusErr = &StatusError{http.StatusInternalServerError, errors.New(http.StatusText(http.StatusInternalServerError))}
	}
	render.Status(r, statusErr.Status)
	if renderer, ok := errors.AsType[errorRenderer](statusErr.Err); ok {
		if err := render.Render(w, r, renderer); err == nil {
			return
		}
	}
	render.Respond(w, r, errorBody{Status: statusErr.Status, Error: statusErr.Err.Error()})
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

// closedError is what sends return after the end: ErrClosed and what led to it.
type closedError struct{ cause error }

func (e *closedError) Error() string   { return ErrClosed.Error() + ": " + e.cause.Error() }
func (e *closedError) Unwrap() []error { return []error{ErrClosed, e.cause} }
