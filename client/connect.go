package client

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// maxRefusal bounds what is read of the body of a response that is no stream.
const maxRefusal = 64 << 10

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

// open makes one connection. If that fails, again says whether it is worth another
// attempt.
func (s *Session) open() (again bool, err error) {
	cfg := &s.call.cfg
	c := &conn{idle: cfg.IdleTimeout}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	defer func() {
		if err != nil {
			c.cancel(nil)
		}
	}()

	id, ok := headerValue(s.dec.LastEventID())
	if !ok {
		cfg.Logger.LogAttrs(s.ctx, slog.LevelWarn, "sse client cannot resume: no header can hold the last event id",
			slog.String("host", s.call.url.Host), slog.Int("length", len(s.dec.LastEventID())))
	}
	req, err := s.from.request(c.ctx, id)
	if err != nil {
		return false, s.fail(err)
	}
	stopWatch := func() bool { return true }
	if cfg.OpenTimeout > 0 {
		stopWatch = time.AfterFunc(cfg.OpenTimeout, func() { c.cancel(&TimeoutError{"OpenTimeout", cfg.OpenTimeout}) }).Stop
		defer stopWatch()
	}
	resp, err := do(s.http, req)
	if err != nil {
		if resp != nil { // a redirect that was refused
			return false, newError(resp, nil, err)
		}
		return true, s.fail(c.cause(err))
	}
	if err := check(resp); err != nil {
		body := readUpTo(resp.Body, maxRefusal)
		_ = resp.Body.Close()
		again := false
		if status, ok := errors.AsType[*StatusError](err); ok {
			again = cfg.RetryStatus(status.Status)
		}
		return again, newError(resp, body, err)
	}
	if cfg.KeepRedirect {
		s.from.follow(resp)
	}
	if resp.StatusCode == http.StatusNoContent {
		_ = resp.Body.Close()
		s.complete = true
		s.use(nil, resp)
		return false, errEnd
	}
	stopWatch()
	if err := context.Cause(c.ctx); err != nil { // too late, or closed
		_ = resp.Body.Close()
		return true, newError(resp, nil, err)
	}

	c.body = resp.Body
	s.dec.Reset(s.buffer.begin(c), s.dec.LastEventID())
	s.tries.opened, s.tries.fruitful = time.Now(), false
	s.use(c, resp)
	cfg.Logger.LogAttrs(s.ctx, slog.LevelDebug, "sse client connected", slog.String("host", s.call.url.Host))
	if cfg.OnOpen != nil {
		cfg.OnOpen(resp)
	}
	return false, nil
}

// do is hc.Do in a goroutine of its own, which is gone when do returns. A request
// needs twice the stack that waiting for events does, and the runtime would not take
// it back: 4 KiB of the 33 that an idle session has.
func do(hc *http.Client, req *http.Request) (resp *http.Response, err error) {
	var (
		done     = make(chan struct{})
		returned bool
		panicked any
	)
	go func() {
		defer close(done)
		defer func() {
			if !returned {
				panicked = recover()
			}
		}()
		resp, err = hc.Do(req) //nolint:bodyclose // do's caller has it
		returned = true
	}()
	<-done
	if panicked != nil {
		panic(panicked) // a Transport's, as if it had been called here
	}
	if !returned {
		runtime.Goexit() // likewise
	}
	return resp, err
}

// check returns why resp does not open a stream, if it does not (§9.2.2). A 204
// passes.
func check(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusOK:
	default:
		err := &StatusError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
		switch resp.StatusCode {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			err.noLocation = resp.Header.Get("Location") == ""
		}
		return err
	}
	if value := resp.Header.Get("Content-Type"); mediaType(value) != contentType {
		return &ContentError{"Content-Type", value}
	}
	// What a Transport has decompressed has the header no more.
	if value := resp.Header.Get("Content-Encoding"); value != "" && mediaType(value) != "identity" {
		return &ContentError{"Content-Encoding", value}
	}
	return nil
}

// retryStatus is the default of Config.RetryStatus.
func retryStatus(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter returns the wait that the header Retry-After asks for (RFC 9110
// §10.2.3), or 0.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(value, 10, 64) // too many are the most there can be
		return time.Duration(min(seconds, uint64(math.MaxInt64/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}
