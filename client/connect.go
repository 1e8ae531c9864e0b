package client

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"time"
)

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
