// The errors that the package returns. Their own texts repeat at most 100 bytes of an
// invalid value.

package client

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrClosed is the error of [Session.Incoming] after [Session.Close], and after an
	// earlier loop was left before its end.
	ErrClosed = errors.New("client: session closed")

	// ErrTruncated is the cause of an [*Error] if the stream ended in order, but before
	// the event that Config.Terminal names as the last one.
	ErrTruncated = errors.New("client: stream ended before its terminal event")

	// These never reach the caller.
	errEnd       = errors.New("client: end of session")    // the session ended normally
	errAgain     = errors.New("client: reconnected")       // there is a new connection to read from
	errReconnect = errors.New("client: reconnect")         // Session.Reconnect gave up the connection
	errResponse  = errors.New("client: ordinary response") // Client.Do returns the latest response
	errRefusal   = errors.New("client: refusal is read")   // the time for the body of a refusal is over
)

// Error reports why a session did not open or did not end normally, or wraps an error
// that the block of [Client.SSE] returned.
type Error struct {
	// Response is the latest response, or nil if there was none. Its Body can be read
	// and holds the same bytes as the field Body.
	Response *http.Response

	// Body is the part of the response's body that was kept. If the response did not open
	// a stream, it is what arrived within half a second, at most the first 64 KiB.
	// Otherwise it is the part of the stream that Config.BufferPolicy keeps, followed by
	// what the connection brought after its last event, at most 64 KiB: an unfinished
	// event, or a text that is no event stream. Complete comments, and blocks that only
	// set an id or a reconnection time, are left out. (If the block of [Client.SSE] failed,
	// Body ends with the last event that was handed out.)
	Body []byte

	// Partial reports that the response did not open a stream, and that its body goes on
	// after Body.
	Partial bool

	// Err is the cause: a *StatusError, *ContentError, *TimeoutError, *RetryError,
	// *AttemptsError, *LastEventIDError, *event.TooLargeError or ErrTruncated, an error of
	// net/http, or the error that OnRequest, OnFailure or the block returned. A
	// *url.Error names the host only, because the rest of the URL may hold a secret.
	Err error
}

func (e *Error) Error() string { return "client: " + causeText(e.Err) }

// causeText returns the text of an error's cause, without the package's prefix.
func causeText(err error) string {
	if err == nil {
		return "unknown cause"
	}
	return strings.TrimPrefix(err.Error(), "client: ")
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// newError returns an [*Error] with a copy of resp whose body is body. resp may be nil.
func newError(resp *http.Response, body []byte, err error) *Error {
	if resp != nil {
		again := *resp
		again.Body = io.NopCloser(bytes.NewReader(body))
		again.ContentLength, again.TransferEncoding = int64(len(body)), nil
		resp = &again
	}
	return &Error{Response: resp, Body: body, Err: err}
}

// StatusError reports a response with a status other than 200 and 204.
type StatusError struct {
	Status     int
	RetryAfter time.Duration // the wait that the server asked for; 0 if it asked for none

	noLocation bool // it is a redirect without a Location
	redirected bool // a redirect had turned the request into a GET
}

func (e *StatusError) Error() string {
	if e.noLocation {
		return fmt.Sprintf("expected status 200 but was %d, without a Location to follow", e.Status)
	}
	return fmt.Sprintf("expected status 200 but was %d", e.Status)
}

// ContentError reports a response with status 200 that is not an event stream.
type ContentError struct {
	Header string // "Content-Type" or "Content-Encoding"
	Value  string // the header's value
}

func (e *ContentError) Error() string {
	expected := "Content-Type " + contentType
	if e.Header == "Content-Encoding" {
		expected = "no Content-Encoding"
	}
	return fmt.Sprintf("expected %s but was %s", expected, cmp.Or(clip(mediaType(e.Value)), "missing"))
}

// TimeoutError reports that a connection took too long to open, or was silent for too
// long. It implements net.Error.
type TimeoutError struct {
	Option string        // "OpenTimeout", "IdleTimeout" or "EventTimeout"
	Limit  time.Duration // the value of that option
}

func (e *TimeoutError) Error() string {
	switch e.Option {
	case "OpenTimeout":
		return fmt.Sprintf("no response within %v (OpenTimeout)", e.Limit)
	case "EventTimeout":
		return fmt.Sprintf("no event received for %v (EventTimeout)", e.Limit)
	}
	return fmt.Sprintf("nothing received for %v (IdleTimeout)", e.Limit)
}

// Timeout returns true.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary returns true.
func (e *TimeoutError) Temporary() bool { return true }

// RetryError reports that the server asked the client to wait longer than
// Config.MaxRetry before it reconnects.
type RetryError struct {
	Asked time.Duration // the wait that a retry field or Retry-After asked for
	Limit time.Duration // Config.MaxRetry
	Err   error         // why the client would reconnect: io.EOF if the stream ended in order
}

func (e *RetryError) Error() string {
	return fmt.Sprintf("the server asked to wait %v before the next attempt, longer than MaxRetry (%v): %s", e.Asked, e.Limit, causeText(e.Err))
}

// Unwrap returns e.Err.
func (e *RetryError) Unwrap() error { return e.Err }

// AttemptsError reports that the attempts that Config.MaxReconnectionAttempts allows are
// used up, and that they were at least one. Without any, a session ends with the cause
// itself.
type AttemptsError struct {
	Attempts int   // Config.MaxReconnectionAttempts
	Err      error // the cause of the last failure: io.EOF if the last stream ended in order, or ErrTruncated if Config.Terminal is set too
}

func (e *AttemptsError) Error() string {
	why := causeText(e.Err)
	if inOrder(e.Err) {
		why = "the server ended the stream"
	}
	attempts := "attempts"
	if e.Attempts == 1 {
		attempts = "attempt"
	}
	return fmt.Sprintf("gave up after %d %s to reconnect (MaxReconnectionAttempts): %s", e.Attempts, attempts, why)
}

// Unwrap returns e.Err.
func (e *AttemptsError) Unwrap() error { return e.Err }

// LastEventIDError reports that the client cannot resume, because no request can carry
// the last event id, which the stream or OnRequest has set. No attempt was made. If
// Config.OnFailure decides to retry, the client connects without a Last-Event-ID, and the
// server may leave out events.
type LastEventIDError struct {
	ID    string
	Limit int // Config.MaxLastEventID
}

func (e *LastEventIDError) Error() string {
	if len(e.ID) > e.Limit {
		return fmt.Sprintf("cannot resume after an event id of %d bytes; MaxLastEventID allows %d", len(e.ID), e.Limit)
	}
	return fmt.Sprintf("cannot resume after the event id %s; a header cannot carry its control characters", quote(e.ID))
}

// ConfigError reports an invalid option or argument.
type ConfigError struct {
	Option  string // a field of Config, the name of an Option, "url", "Client", or "Reconnect"
	Problem string // the rest of the sentence that begins with Option
}

func (e *ConfigError) Error() string { return fmt.Sprintf("client: %s %s", e.Option, e.Problem) }

// clip returns s, cut to 100 bytes, for use in an error text.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

// quote returns s, cut to 100 bytes and quoted, for use in an error text.
func quote(s string) string { return strconv.Quote(clip(s)) }
