// One attempt to connect: the request is sent, the response checked, and the connection
// handed to the session.

package client

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"time"
)

// open makes one request and, if its response opens a stream, makes that the session's
// connection. It returns errEnd after a 204. After another error, again reports whether
// the session may try again.
func (s *Session) open() (again bool, err error) {
	cfg := &s.call.cfg
	c := &conn{idle: cfg.IdleTimeout}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	defer func() {
		if err != nil {
			c.cancel(nil)
		}
	}()

	id, ok := lastEventIDValue(s.dec.LastEventID())
	if !ok {
		cfg.Logger.LogAttrs(s.ctx, slog.LevelWarn, "sse client cannot resume: no header can carry the last event id",
			slog.String("host", s.call.url.Host), slog.Int("length", len(s.dec.LastEventID())))
	}
	req, err := s.requests.next(c.ctx, id)
	if err != nil {
		return false, s.asError(err)
	}
	stopTimer := func() bool { return true }
	if cfg.OpenTimeout > 0 {
		stopTimer = time.AfterFunc(cfg.OpenTimeout, func() { c.cancel(&TimeoutError{"OpenTimeout", cfg.OpenTimeout}) }).Stop
		defer stopTimer()
	}
	resp, err := doInGoroutine(s.http, req)
	if err != nil {
		if resp != nil { // CheckRedirect refused a redirect
			return false, newError(resp, nil, err)
		}
		return true, s.asError(c.timeoutOr(err))
	}
	if err := checkResponse(resp); err != nil {
		body := readUpTo(resp.Body, maxRefusal)
		_ = resp.Body.Close()
		again := false
		if status, ok := errors.AsType[*StatusError](err); ok {
			again = cfg.RetryStatus(status.Status)
		}
		return again, newError(resp, body, err)
	}
	if cfg.KeepRedirect {
		s.requests.followRedirects(resp)
	}
	if resp.StatusCode == http.StatusNoContent {
		_ = resp.Body.Close()
		s.complete = true
		s.setConn(nil, resp)
		return false, errEnd
	}
	stopTimer()
	if err := context.Cause(c.ctx); err != nil { // OpenTimeout has passed, or the session was closed
		_ = resp.Body.Close()
		return true, newError(resp, nil, err)
	}

	c.body = resp.Body
	s.dec.Reset(s.buffer.attach(c), s.dec.LastEventID())
	s.tries.opened, s.tries.gotEvent = time.Now(), false
	s.setConn(c, resp)
	cfg.Logger.LogAttrs(s.ctx, slog.LevelDebug, "sse client connected", slog.String("host", s.call.url.Host))
	if cfg.OnOpen != nil {
		cfg.OnOpen(resp)
	}
	return false, nil
}

// doInGoroutine calls hc.Do in a new goroutine and waits for it. A request needs twice
// the stack that waiting for events does, and the runtime would not shrink the stack of
// the caller's goroutine again: 4 KiB of the 33 KiB that an idle session uses. A panic of
// the Transport, or its runtime.Goexit, continues in the caller's goroutine.
func doInGoroutine(hc *http.Client, req *http.Request) (resp *http.Response, err error) {
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
		resp, err = hc.Do(req) //nolint:bodyclose // the caller of doInGoroutine closes it
		returned = true
	}()
	<-done
	if panicked != nil {
		panic(panicked)
	}
	if !returned {
		runtime.Goexit()
	}
	return resp, err
}
