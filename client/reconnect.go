// Reconnection: how often the client tries, and how long it waits before each attempt.
// The attempt itself is in connect.go.

package client

import (
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/url"
	"time"
)

// tries counts the attempts and failures that the next wait depends on.
type tries struct {
	attempts int       // attempts to reconnect since the last event
	failures int       // failed connections in a row
	opened   time.Time // when the current connection opened
	gotEvent bool      // the current connection had an event
}

// connectionLost updates t after an open connection was lost because of err.
func (t *tries) connectionLost(err error, healthyAfter time.Duration) {
	inOrder := err == io.EOF && t.gotEvent //nolint:errorlint // a wrapped io.EOF is a failure
	if inOrder || time.Since(t.opened) >= healthyAfter {
		t.failures = 0
	} else {
		t.failures++
	}
}

// connect opens a connection. It waits and tries again as often as the Config allows.
// cause is why the connection before was lost, or nil for the first one. The error is
// what the session ends with.
func (s *Session) connect(cause error) error {
	for {
		if cause != nil {
			if err := s.wait(cause); err != nil {
				return err
			}
		}
		again, err := s.open()
		if err == nil {
			return nil
		}
		if stopped := s.stopError(); stopped != nil {
			return stopped
		}
		if !again {
			return err
		}
		cause = err
		s.tries.failures++
	}
}

// wait waits until it is time for the next attempt, after the one before ended with
// cause. If there must be no other attempt, it returns what the session ends with.
func (s *Session) wait(cause error) error {
	cfg := &s.call.cfg
	if !s.requests.mayRepeat || cfg.MaxReconnectionAttempts != Unlimited && s.tries.attempts >= cfg.MaxReconnectionAttempts {
		return s.finalError(cause)
	}
	delay, tooLong := s.delay(cause)
	if tooLong != nil {
		return s.asError(tooLong)
	}
	s.tries.attempts++
	level := slog.LevelWarn
	if cause == io.EOF { //nolint:errorlint // a wrapped io.EOF is a failure
		level = slog.LevelDebug
	}
	cfg.Logger.LogAttrs(s.ctx, level, "sse client reconnects",
		slog.String("host", s.call.url.Host), slog.Any("error", withoutURL(cause)), slog.Int("attempt", s.tries.attempts), slog.Duration("delay", delay))
	if cfg.OnRetry != nil {
		cfg.OnRetry(Retry{s.tries.attempts, delay, cause})
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	}
	return s.stopError()
}

// withoutURL returns err for the log. It removes the URL of a [*url.Error], because the
// query may hold a token.
func withoutURL(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		return urlErr.Err
	}
	return err
}

// delay returns how long to wait before the next attempt, which follows one that ended
// with cause. WHATWG HTML §9.2.3, "reestablish the connection", leaves the backoff to
// clients. If the server asks for a wait that is too long, delay returns a RetryError.
func (s *Session) delay(cause error) (delay time.Duration, tooLong *RetryError) {
	cfg := &s.call.cfg
	delay = cfg.ReconnectionTime
	if asked, ok := s.dec.Retry(); ok {
		if asked > cfg.MaxRetry {
			return 0, &RetryError{asked, cfg.MaxRetry, cause}
		}
		delay = max(asked, cfg.MinRetry)
	}
	for i := 1; i < s.tries.failures && delay < cfg.MaxBackoff; i++ {
		if delay > cfg.MaxBackoff/2 {
			delay = cfg.MaxBackoff
		} else {
			delay = max(2*delay, time.Millisecond) // so that a base of 0, or near it, grows too
		}
	}
	if status, ok := errors.AsType[*StatusError](cause); ok {
		if status.RetryAfter > cfg.MaxRetry {
			return 0, &RetryError{status.RetryAfter, cfg.MaxRetry, cause}
		}
		delay = max(delay, status.RetryAfter)
	}
	if cfg.Jitter > 0 {
		more := rand.Float64() * cfg.Jitter * float64(delay)
		delay += time.Duration(min(more, float64(math.MaxInt64/2-delay/2)))
	}
	return delay, nil
}
