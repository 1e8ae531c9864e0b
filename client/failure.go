// Failures: what a session is told when it has lost its stream or could not open it, and
// what it does then. This is the one place that decides about it. reconnect.go carries
// the decision out.

package client

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/chi-sse/sse/event"
)

// Failure describes why a session has no stream: an attempt that opened none, or the end
// of a connection.
type Failure struct {
	// Err is the cause. It is io.EOF if the server ended the stream in order, and
	// otherwise one of the causes that [Error] lists. It is never an [*AttemptsError].
	Err error

	// Response is the response of the attempt or of the connection, or nil if none
	// arrived. Its Body can be read and holds the same bytes as the field Body, except in
	// [Client.Do], where the body of a response that is no stream is not read yet and
	// must be left alone.
	Response *http.Response

	// Body and Partial are what the client has of the response's body, as in [Error].
	Body    []byte
	Partial bool

	// Events is the number of events that the connection has brought. It is 0 after a
	// stream that was no event stream in spite of its header; see Body.
	Events int

	// LastEventID is the Last-Event-ID that the next request will carry, or empty if it
	// will carry none. A server cannot resume after a request that carries none: it sends
	// the stream from its beginning, or acts on a POST once more.
	LastEventID string

	// Attempt is the number of the attempt that would follow, counted from 1. It starts
	// over as Config.MaxReconnectionAttempts says.
	Attempt int

	// Delay is how long the client would wait before that attempt: the reconnection time
	// with backoff and Jitter, and not less than the server asks. It is longer than
	// Config.MaxRetry if Err is a [*RetryError].
	Delay time.Duration

	// Final reports that Config.MaxReconnectionAttempts or Config.Resend allows no
	// further attempt. A decision to retry then ends the session.
	Final bool

	permanent bool   // DefaultDecision does not retry, although Err does not show it
	discard   func() // closes the body of Response, which was left alone; or nil
}

// Decision says what a session does after a [Failure]. The zero value means that
// [DefaultDecision] decides. [Retry], [RetryIn], [Stop] and [End] return the other decisions.
type Decision struct {
	action action
	delay  time.Duration
	err    error
}

type action uint8

const (
	actDefault action = iota
	actRetry          // after Failure.Delay
	actRetryIn        // after delay
	actStop
	actEnd
)

// Retry makes the session try again after Failure.Delay. The wait begins when
// Config.OnFailure returns.
func Retry() Decision { return Decision{action: actRetry} }

// RetryIn makes the session try again after d, even if the server has asked for a longer
// wait. Zero means at once. A hook that always returns RetryIn(0) makes a session with
// unlimited attempts try again in a tight loop.
func RetryIn(d time.Duration) Decision { return Decision{action: actRetryIn, delay: max(0, d)} }

// Stop ends the session with err, in an [*Error] with the failure's response and body. If
// err is nil, the session ends as if no attempts were left: with Failure.Err, or normally
// if that is io.EOF and Config.Terminal is not set.
func Stop(err error) Decision { return Decision{action: actStop, err: err} }

// End ends the session normally, without an error. If the session has not opened yet, it
// opens and has no events, as after status 204.
func End() Decision { return Decision{action: actEnd} }

// DefaultDecision returns what a session does after f if Config.OnFailure is nil.
//
// It retries after the orderly end of a stream, after a broken or silent connection, and
// after an attempt without a response. After a response with another status than 200, it
// does what the header X-Should-Retry says, "true" or "false", as some LLM APIs send it.
// Without that header, it retries if [RetryStatus] is true. After everything else, it
// stops: a response that is not an event stream, a limit that the stream has exceeded, a
// redirect that was refused, an error of Config.OnRequest, a wait longer than
// Config.MaxRetry, and a last event id that no request can carry.
func DefaultDecision(f Failure) Decision {
	if f.permanent || isA[*RetryError](f.Err) || isA[*ContentError](f.Err) ||
		isA[*LastEventIDError](f.Err) || isA[*event.TooLargeError](f.Err) {
		return Stop(nil)
	}
	if status, ok := errors.AsType[*StatusError](f.Err); ok && !shouldRetry(status.Status, f.Response) {
		return Stop(nil)
	}
	return Retry()
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// RetryStatus reports whether a response with this status is worth another attempt. It is
// true for 408, 425, 429, 500, 502, 503, 504, 520 to 524, and 529. The specification
// retries after no status (WHATWG HTML §9.2.2), and Ktor after all.
func RetryStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout,
		520, 521, 522, 523, 524, // a proxy could not reach the server, or it gave no answer in time
		529: // overloaded
		return true
	}
	return false
}

// shouldRetry reports whether DefaultDecision tries again after the status. resp is the
// response that has it, or nil.
func shouldRetry(status int, resp *http.Response) bool {
	if resp != nil {
		switch strings.ToLower(resp.Header.Get("X-Should-Retry")) {
		case "true":
			return true
		case "false":
			return false
		}
	}
	return RetryStatus(status)
}

// failureError returns err as an [*Error], with the response of f, or else the latest one
// that opened a connection.
func (s *Session) failureError(f *Failure, err error) *Error {
	if f.Response == nil {
		return newError(s.Call(), s.received(), err) //nolint:bodyclose // it is the session's
	}
	e := newError(f.Response, f.Body, err)
	e.Partial = f.Partial
	return e
}

// received returns what [Error].Body shows of the latest connection.
func (s *Session) received() []byte { return append(s.buffer.bytes(), s.dec.Rest()...) }

// finalError returns what a session ends with that does not try again after f: an
// [*Error], or errEnd after the orderly end of a stream. usedUp reports that the attempts
// are used up.
func (s *Session) finalError(f *Failure, usedUp bool) error {
	err := f.Err
	switch {
	case !inOrder(err):
	case s.call.cfg.Terminal != nil:
		err = ErrTruncated
	case !usedUp:
		return errEnd
	}
	if usedUp {
		err = &AttemptsError{s.call.cfg.MaxReconnectionAttempts, err}
	}
	return s.failureError(f, err)
}

// inOrder reports whether err is the orderly end of a stream. A wrapped io.EOF is a
// failure.
func inOrder(err error) bool { return err == io.EOF } //nolint:errorlint // see above
