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

	// ErrTooManySessions is the reason for which a session beyond Config.MaxSessions or
	// WithSessionLimit is refused.
	ErrTooManySessions = errors.New("sse: too many sessions")

	// ErrUnsupported is the reason for which a request cannot be answered by a stream:
	// something between the handler and the connection cannot stream, for example
	// http.TimeoutHandler. The error that matches it names the type.
	ErrUnsupported = errors.New("sse: the response cannot be streamed")
)

// StatusError reports that a request is answered with an HTTP status instead of a stream.
type StatusError struct {
	Status int   // 4xx or 5xx
	Err    error // the body of the answer
}

// Error returns an error for a [Handler] to return before its session is open. The request
// is then answered with status and err. If err is a render.Renderer, the body is err
// rendered. Otherwise the body is a JSON or XML object, as the client accepts, with the text
// of err. A nil err means the standard text of the status.
//
// A browser's EventSource takes any such answer as final and does not reconnect.
//
// Error panics if status is not 4xx or 5xx.
func Error(status int, err error) error {
	if status < 400 || status > 599 {
		panic(fmt.Sprintf("sse: Error with status %d; it must be 4xx or 5xx", status))
	}
	if err == nil {
		err = errors.New(http.StatusText(status))
	}
	return &StatusError{status, err}
}

func (e *StatusError) Error() string { return fmt.Sprintf("sse: status %d: %v", e.Status, e.Err) }

// Unwrap returns e.Err.
func (e *StatusError) Unwrap() error { return e.Err }

// RenderError is the default of Config.RenderError. It answers with the status and text of a
// *StatusError, with chi/render. It answers any other error with a 500 that does not show the
// client its text.
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

// closedError is the error of a send after the end. It wraps ErrClosed and the cause of the
// end.
type closedError struct{ cause error }

func (e *closedError) Error() string   { return ErrClosed.Error() + ": " + e.cause.Error() }
func (e *closedError) Unwrap() []error { return []error{ErrClosed, e.cause} }
