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

// tries counts what was tried in vain.
type tries struct {
	attempts int       // to reconnect, since the last event
	failures int       // of connections, in a row
	opened   time.Time // when the connection was
	fruitful bool      // it had an event
}

// lost is called when an open connection was lost to err.
func (t *tries) lost(err error, healthyAfter time.Duration) {
	inOrder := err == io.EOF && t.fruitful //nolint:errorlint // a wrapped io.EOF is a failure
	if inOrder || time.Since(t.opened) >= healthyAfter {
		t.failures = 0
	} else {
		t.failures++
	}
}

// connect opens a connection, again and again as far as the config allows. cause is
// why the last one was lost, or nil at first. The error is what the session ends
// with.
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
		if stopped := s.stopped(); stopped != nil {
			return stopped
		}
		if !again {
			return err
		}
		cause = err
		s.tries.failures++
	}
}

// wait waits until the next attempt is due, after what went before has failed with
// cause. If there is none, it returns what the session ends with.
func (s *Session) wait(cause error) error {
	cfg := &s.call.cfg
	if !s.from.again || cfg.MaxReconnectionAttempts != Unlimited && s.tries.attempts >= cfg.MaxReconnectionAttempts {
		return s.exhausted(cause)
	}
	delay, tooLong := s.delay(cause)
	if tooLong != nil {
		return s.fail(tooLong)
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
	return s.stopped()
}

// withoutURL returns what goes into the log about err. The URL of a url.Error has a
// query, which may hold a token.
func withoutURL(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		return urlErr.Err
	}
	return err
}

// delay returns how long to wait before the next attempt (§9.2.3, "reestablish the
// connection", with the backoff that it leaves to clients).
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
			delay = max(2*delay, time.Millisecond) // a base of next to nothing grows as well
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
