// Reconnection: how often the client tries, and how long it waits before each attempt.
// The attempt itself is in connect.go, and what follows a failure is decided in
// failure.go.

package client

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"
)

// tries counts the attempts and failures that the next wait depends on.
type tries struct {
	attempts int       // attempts to reconnect, since an event last set them back
	failures int       // failed connections in a row
	opened   time.Time // when the current connection opened

	resumedAfter string // the last event id when the current connection opened
}

// countEvents updates t after the connection c has brought its last event, and left the
// stream with the given last event id. If the request is not idempotent, its events set
// the attempts back only if the next connection can resume after them: if the server
// starts over each time, the bound on the attempts must hold.
func (t *tries) countEvents(c *conn, lastEventID string, idempotent bool) {
	if c.events > 0 && (idempotent || lastEventID != "" && lastEventID != t.resumedAfter) {
		t.attempts = 0
	}
}

// connectionLost updates t after the connection c was lost. A connection that brought
// anything, or that lasted at least the reconnection time, has not failed: many gateways end
// a quiet stream after a fixed time.
func (t *tries) connectionLost(c *conn, reconnectionTime time.Duration) {
	if c.got || time.Since(t.opened) >= reconnectionTime {
		t.failures = 0
	} else {
		t.failures++
	}
}

// connect opens a connection. It waits and tries again as often as the Config and its
// OnFailure allow. f is what happened to the connection before, or nil to connect at
// once. The error is what the session ends with.
func (s *Session) connect(f *Failure) error {
	for {
		if f != nil {
			if err := s.afterFailure(f); err != nil {
				return err
			}
		}
		var err error
		if f, err = s.open(); f == nil {
			return err
		}
		if inOrder(f.Err) { // only a stream can end in order; a hook has returned this
			f.Err = fmt.Errorf("no stream: %w", f.Err)
		}
		if stopped := s.stopError(); stopped != nil {
			f.release()
			return stopped
		}
		switch {
		case isA[*LastEventIDError](f.Err): // nothing was sent, so this was no attempt
			s.tries.attempts = max(0, s.tries.attempts-1)
		case s.takeReconnect():
			f.release()
			f = nil
		default:
			s.tries.failures++
		}
	}
}

// afterFailure decides what to do after f and, if that is to try again, waits until it is
// time. Otherwise it returns what the session ends with.
func (s *Session) afterFailure(f *Failure) error {
	decision := s.decide(f)
	again := decision.action == actRetry || decision.action == actRetryIn
	if stopped := s.stopError(); stopped != nil { // the context ended, or Close was called, during OnFailure
		f.release()
		return stopped
	}
	if connectionSuspect(f.Err) {
		s.avoidUsedConnections()
	}
	if again && s.takeReconnect() {
		f.release()
		return nil
	}
	if f.discard != nil && decision.action != actEnd && decision.err == nil && (f.Final || !again) {
		s.setConn(nil, f.Response)
		return errResponse
	}
	f.release()
	switch decision.action {
	case actRetryIn:
		f.Delay = decision.delay
	case actStop:
		if decision.err != nil {
			return s.failureError(f, decision.err)
		}
		return s.finalError(f, false)
	case actEnd:
		s.complete = true
		s.setConn(nil, f.Response)
		return errEnd
	}
	if f.Final {
		return s.finalError(f, s.mayResend() && s.call.cfg.MaxReconnectionAttempts > 0)
	}
	return s.wait(f)
}

// decide completes f and returns what OnFailure, or else DefaultDecision, decides.
func (s *Session) decide(f *Failure) Decision {
	cfg := &s.call.cfg
	attemptsLeft := cfg.MaxReconnectionAttempts == Unlimited || s.tries.attempts < cfg.MaxReconnectionAttempts
	f.Final = !s.mayResend() || !attemptsLeft
	f.Attempt = s.tries.attempts + 1
	f.LastEventID, _ = s.nextLastEventID()
	var asked time.Duration
	f.Delay, asked = s.delay(f.Err)
	if asked > cfg.MaxRetry && !f.Final && DefaultDecision(*f) == Retry() {
		f.Err = &RetryError{asked, cfg.MaxRetry, f.Err}
	}
	f.rewind()
	decision := cfg.OnFailure(*f)
	if decision.action == actDefault {
		decision = DefaultDecision(*f)
	}
	return decision
}

// rewind makes the body of f.Response readable from its beginning.
func (f *Failure) rewind() {
	if f.Response != nil && f.discard == nil {
		f.Response = newError(f.Response, f.Body, nil).Response
	}
}

// release closes the body of f.Response if it was left alone.
func (f *Failure) release() {
	if f.discard != nil {
		f.discard()
	}
}

// wait waits before the next attempt, which follows f. It returns what the session ends
// with if it was stopped.
func (s *Session) wait(f *Failure) error {
	cfg := &s.call.cfg
	s.tries.attempts++
	level := slog.LevelWarn
	if inOrder(f.Err) {
		level = slog.LevelDebug
	}
	cfg.Logger.LogAttrs(s.ctx, level, "sse client reconnects",
		slog.String("host", s.call.url.Host), slog.Any("error", f.Err), slog.Int("attempt", f.Attempt), slog.Duration("delay", f.Delay))
	if cfg.OnRetry != nil {
		f.rewind()
		cfg.OnRetry(*f)
	}
	timer := time.NewTimer(f.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
	case <-s.wake: // Reconnect, which is no attempt
		s.tries.attempts--
	}
	return s.stopError()
}

// reconnectionTime returns the wait after a connection that has not failed.
func (s *Session) reconnectionTime() time.Duration {
	if retry, ok := s.dec.Retry(); ok {
		return max(retry, s.call.cfg.MinRetry)
	}
	return s.call.cfg.ReconnectionTime
}

// delay returns how long to wait before the next attempt, which follows one that ended
// with cause. WHATWG HTML §9.2.3, "reestablish the connection", leaves the backoff to
// clients. asked is the longest wait that the server has asked for, or 0.
func (s *Session) delay(cause error) (delay, asked time.Duration) {
	cfg := &s.call.cfg
	asked, _ = s.dec.Retry()
	delay = s.reconnectionTime()
	for i := 1; i < s.tries.failures && delay < cfg.MaxBackoff; i++ {
		if delay > cfg.MaxBackoff/2 {
			delay = cfg.MaxBackoff
		} else {
			delay = max(2*delay, time.Millisecond) // so that a base of 0, or near it, grows too
		}
	}
	if status, ok := errors.AsType[*StatusError](cause); ok {
		asked = max(asked, status.RetryAfter)
		delay = max(delay, status.RetryAfter)
	}
	if cfg.Jitter > 0 {
		more := rand.Float64() * cfg.Jitter * float64(delay)
		delay += time.Duration(min(more, float64(math.MaxInt64/2-delay/2)))
	}
	return delay, asked
}
