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
	// ErrClosed is what [Session.Incoming] ends with after [Session.Close], or when it
	// is called again after its loop was left.
	ErrClosed = errors.New("client: session closed")

	// ErrTruncated is matched by the [*Error] of a stream that ended in order, but
	// before the event that Config.Terminal waits for.
	ErrTruncated = errors.New("client: stream ended before its terminal event")

	errEnd   = errors.New("client: end of session") // the normal one
	errAgain = errors.New("client: reconnected")
)

// Error is the end of a session other than the normal one, or an error of the
// block of [Client.SSE].
type Error struct {
	// Response is the last response, or nil if there was none. Its Body can be read
	// once more, and holds what Body holds.
	Response *http.Response

	// Body is what was read of the response's body: of one that was refused, up to
	// 64 KiB; of a stream, what Config.BufferPolicy keeps of what was handed out.
	Body []byte

	// Err is the cause: a *StatusError, *ContentError, *TimeoutError, *RetryError,
	// *event.TooLargeError, ErrTruncated, what net/http said, or what OnRequest or
	// the block returned.
	Err error
}

func (e *Error) Error() string {
	msg := e.Err.Error()
	if strings.HasPrefix(msg, "client: ") {
		return msg
	}
	return "client: " + msg
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// newError returns err as the end of a session with the given response, of whose
// body the given part was read.
func newError(resp *http.Response, body []byte, err error) *Error {
	if resp != nil {
		again := *resp
		again.Body = io.NopCloser(bytes.NewReader(body))
		again.ContentLength, again.TransferEncoding = int64(len(body)), nil
		resp = &again
	}
	return &Error{resp, body, err}
}

// StatusError is a response with a status other than 200 and 204.
type StatusError struct {
	Status     int
	RetryAfter time.Duration // as the server asked; 0 if it did not

	noLocation bool
}

func (e *StatusError) Error() string {
	if e.noLocation {
		return fmt.Sprintf("expected status 200 but was %d, without a Location to follow", e.Status)
	}
	return fmt.Sprintf("expected status 200 but was %d", e.Status)
}

// ContentError is a response with status 200 that is no event stream.
type ContentError struct {
	Header string // "Content-Type" or "Content-Encoding"
	Value  string // of the header
}

func (e *ContentError) Error() string {
	expected := "Content-Type " + contentType
	if e.Header == "Content-Encoding" {
		expected = "no Content-Encoding"
	}
	return fmt.Sprintf("expected %s but was %s", expected, cmp.Or(clip(mediaType(e.Value)), "missing"))
}

// TimeoutError is a connection that took too long. It implements net.Error.
type TimeoutError struct {
	Option string        // "OpenTimeout" or "IdleTimeout"
	Limit  time.Duration // its value
}

func (e *TimeoutError) Error() string {
	if e.Option == "OpenTimeout" {
		return fmt.Sprintf("no response within %v (OpenTimeout)", e.Limit)
	}
	return fmt.Sprintf("nothing received for %v (IdleTimeout)", e.Limit)
}

// Timeout returns true.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary returns true.
func (e *TimeoutError) Temporary() bool { return true }

// RetryError is a server that asks the client to wait for longer than Config.MaxRetry.
type RetryError struct {
	Asked time.Duration // by a retry field, or by Retry-After
	Limit time.Duration // Config.MaxRetry
	Err   error         // why another attempt is due; io.EOF if the stream ended in order
}

func (e *RetryError) Error() string {
	return fmt.Sprintf("asked to wait %v before the next attempt, longer than MaxRetry, which is %v: %s",
		e.Asked, e.Limit, strings.TrimPrefix(e.Err.Error(), "client: "))
}

// Unwrap returns e.Err.
func (e *RetryError) Unwrap() error { return e.Err }

// ConfigError is an option, or another argument, that makes no sense.
type ConfigError struct {
	Option  string // a field of Config, the name of an Option, or "url"
	Problem string
}

func (e *ConfigError) Error() string { return fmt.Sprintf("client: %s %s", e.Option, e.Problem) }

// clip bounds what an error repeats of what it complains about.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "..."
	}
	return s
}

func quote(s string) string { return strconv.Quote(clip(s)) }
