// One attempt to connect: the request is sent, the response checked, and the connection
// handed to the session.

package client

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"time"
)

// open makes one request and, if its response opens a stream, makes that the session's
// connection. Otherwise it returns a Failure. It returns errEnd after a 204.
func (s *Session) open() (*Failure, error) {
	cfg := &s.call.cfg
	id, ok := s.nextLastEventID()
	if !ok && s.dec.LastEventID() != s.unsentID {
		return s.idFailure(s.dec.LastEventID()), nil
	}

	c := &conn{idle: cfg.IdleTimeout, event: cfg.EventTimeout}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	s.setOpening(c)
	opened := false
	defer func() {
		s.setOpening(nil)
		if !opened {
			c.cancel(nil)
		}
	}()

	req, err := s.requests.next(c.guarded(c.ctx, &s.requests.idempotent), id)
	if err != nil {
		return &Failure{Err: notEOF(err), permanent: true}, nil
	}
	if f := s.checkRequest(req); f != nil {
		return f, nil
	}
	stopTimer := func() bool { return true }
	if cfg.OpenTimeout > 0 {
		stopTimer = time.AfterFunc(cfg.OpenTimeout, func() { c.cancel(&TimeoutError{"OpenTimeout", cfg.OpenTimeout}) }).Stop
		defer stopTimer()
	}
	resp, err := doInGoroutine(s.http, req)
	if err != nil {
		if resp != nil { // CheckRedirect refused a redirect
			return &Failure{Err: withoutURL(err), Response: resp, permanent: true}, nil
		}
		if context.Cause(c.ctx) == errNetResend { //nolint:errorlint // never wrapped
			err = errNetResend
		}
		if err = c.timeoutOr(withoutURL(err)); c.redirected {
			err = &redirectedError{err}
		}
		return &Failure{Err: err}, nil
	}
	stopTimer()
	if err := context.Cause(c.ctx); err != nil { // OpenTimeout has passed, or the connection was given up
		_ = resp.Body.Close()
		return &Failure{Err: err, Response: resp}, nil
	}
	if f := s.checkResponse(c, resp); f != nil {
		opened = s.either // the caller may get the response
		if s.either && resp.StatusCode/100 == 2 {
			s.setConn(nil, resp)
			return nil, errResponse
		}
		return f, nil
	}
	if cfg.KeepRedirect {
		s.requests.followRedirects(resp)
	}
	if resp.StatusCode == http.StatusNoContent {
		_ = resp.Body.Close()
		s.complete = true
		s.setConn(nil, resp)
		return nil, errEnd
	}

	opened = true
	c.body = resp.Body
	if resp.Uncompressed {
		c.limitSilence(cfg.MaxEventSize)
	}
	s.dec.Reset(s.buffer.attach(c), s.dec.LastEventID())
	s.tries.opened, s.tries.resumedAfter = time.Now(), s.dec.LastEventID()
	s.setConn(c, resp)
	cfg.Logger.LogAttrs(s.ctx, slog.LevelDebug, "sse client connected", slog.String("host", s.call.url.Host))
	if cfg.OnOpen != nil {
		cfg.OnOpen(resp)
	}
	return nil, nil
}

// avoidUsedConnections makes the later requests of the session use connections that no
// other request has used. The peer of a used one may have vanished without a word, as when
// a proxy has forgotten it or the network has changed.
func (s *Session) avoidUsedConnections() {
	s.requests.ownConnection = true
	s.http.CloseIdleConnections() // of HTTP/1.1; net/http would try them one after the other
}

// connectionSuspect reports whether the failure err may come from a connection that is
// dead but still open: IdleTimeout, OpenTimeout, or a timeout of the Transport. The server
// that EventTimeout gives up has sent something.
func connectionSuspect(err error) bool {
	if timeout, ok := errors.AsType[*TimeoutError](err); ok {
		return timeout.Option != "EventTimeout"
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
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
