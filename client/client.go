// Package client reads event streams. It opens a stream as a browser's EventSource
// does, reconnects when the connection is lost, resumes after the last event that it
// read, and hands out the events one by one.
//
// This complete program follows a stream until the server ends it with status 204:
//
//	package main
//
//	import (
//		"context"
//		"fmt"
//		"log"
//		"net/http"
//
//		"github.com/chi-sse/sse/client"
//	)
//
//	func main() {
//		c := client.Install(http.DefaultClient, client.Config{
//			MaxReconnectionAttempts: client.Unlimited,
//		})
//		err := c.SSE(context.Background(), "http://localhost:8080/clock", func(s *client.Session) error {
//			for ev, err := range s.Incoming() {
//				if err != nil {
//					return err
//				}
//				fmt.Println(ev.ID, ev.Name, ev.Data)
//			}
//			return nil
//		})
//		if err != nil {
//			log.Fatal(err)
//		}
//	}
//
// # Life of a session
//
// A session opens when the server answers with status 200 and the Content-Type
// text/event-stream. It may then read from many connections, one after the other.
// Each new connection sends the Last-Event-ID of the last event that the client read,
// so that the server can resume after it.
//
// [Config].OnFailure is told of each failure, and of each orderly end of a stream. It
// decides whether the session tries again, when, or how it ends. Without it,
// [DefaultDecision] decides.
//
// A session ends normally, without an error:
//
//   - when the server answers with status 204;
//   - after the event that [Config].Terminal names as the last one;
//   - when the server ends the stream, Terminal is not set, and the client does not
//     reconnect. By default it never reconnects; set [Config].MaxReconnectionAttempts to
//     change that;
//   - when OnFailure returns [End].
//
// Every other end is an [*Error] with the response and what it brought. errors.Is and
// errors.As find its cause:
//
//   - [ErrTruncated]: the stream ended without its terminal event;
//   - [*StatusError] or [*ContentError]: the response opened no stream;
//   - [*TimeoutError], *url.Error, *net.OpError, io.ErrUnexpectedEOF and other errors of
//     net/http: no connection could be made, or it broke or fell silent;
//   - [*event.TooLargeError], [*RetryError] or [*LastEventIDError]: a limit is exceeded;
//   - the error of OnRequest, of CheckResponse or of OnFailure, with [Stop];
//   - [*AttemptsError]: the attempts are used up. It wraps the cause of the last failure,
//     which is io.EOF if that was the orderly end of a stream.
//
// Two ends are the caller's own, and are no *Error: [ErrClosed] after [Session.Close], and
// an error that matches the context's error after the end of the caller's context.
//
// An open session keeps no goroutine. The client reads, waits and reconnects inside the
// caller's loop over [Session.Incoming].
package client

import (
	"context"
	"net/http"
	"time"

	"github.com/chi-sse/sse/event"
)

// Event is [event.Event]: one event as it arrived. Its ID is the stream's last event
// id at that point, which an earlier event may have set.
type Event = event.Event

// Client opens sessions. [Install] makes one. It is safe for concurrent use.
type Client struct {
	http    *http.Client // the caller's, without its Timeout
	timeout time.Duration
	cfg     Config
}

// Install returns a [Client] that sends its requests with the Transport, Jar and
// CheckRedirect of hc. It leaves hc unchanged, and hc can still serve ordinary
// requests. It panics if hc is nil or cfg is invalid.
//
// The Timeout of hc covers a whole response, and a stream may last forever. Sessions
// therefore use a copy of hc without it, and apply it until the response's header has
// arrived; see Config.OpenTimeout. The timeouts of the Transport all apply.
//
// After a redirect to another host, the client drops every header field that the caller
// set, except those that say nothing about the caller (Accept, Accept-Language,
// Cache-Control, Content-Type, User-Agent, Last-Event-ID and similar ones). It sends no
// Referer either. Another port is another host, and so is http in place of https. https
// in place of http is the same host if both use their default ports.
//
// A Transport that reads the body before it returns the response, as loggers that dump
// responses do, delays a stream until its end.
func Install(hc *http.Client, cfg Config) *Client {
	if hc == nil {
		panic("client: Install without an http.Client; use http.DefaultClient")
	}
	if err := cfg.validate(); err != nil {
		panic(err.Error())
	}
	own := *hc
	own.Transport = &ownConnTransport{hc.Transport}
	own.CheckRedirect = redirectCheck(hc.CheckRedirect)
	own.Timeout = 0
	return &Client{http: &own, timeout: hc.Timeout, cfg: cfg.withDefaults()}
}

// SSE opens a session as [Client.Session] does, calls block with it, and closes it.
//
// If the session does not open, SSE returns the error of Session and does not call
// block. It returns an error of block as an [*Error] that wraps it, with the response
// and the part of the stream that Config.BufferPolicy keeps. If block returns an error
// that came from the session, or the error of ctx, SSE returns it unchanged.
func (c *Client) SSE(ctx context.Context, url string, block func(*Session) error, options ...Option) error {
	s, err := c.Session(ctx, url, options...)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := block(s); err != nil {
		return s.blockError(ctx, err)
	}
	return nil
}

// Session opens a session that reads the stream at url. It returns when the response's
// header has arrived, after as many attempts as Config.MaxReconnectionAttempts allows.
// The caller must close the session or read it to its end. ctx applies to the whole
// session.
//
// The error is an [*Error] if the server could not be reached or answered with neither a
// stream nor status 204, a [*ConfigError] if url or an option is invalid, or an error that
// matches ctx.Err().
func (c *Client) Session(ctx context.Context, url string, options ...Option) (*Session, error) {
	s, err := c.open(ctx, url, options, false)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// open opens a session. If either is set, the error is errResponse if the latest response
// is to be handed to the caller; the session is then returned too, and must be ended.
func (c *Client) open(ctx context.Context, url string, options []Option, either bool) (*Session, error) {
	if c == nil || c.http == nil {
		return nil, &ConfigError{"Client", "is not installed; make it with client.Install"}
	}
	call, err := newCall(c.cfg, c.timeout, url, options)
	if err != nil {
		return nil, err
	}
	s := newSession(ctx, call)
	s.http = c.http
	if either {
		setDefaultField(call.header, "Accept", "application/json, "+contentType) // as MCP asks for
	}
	s.requests = newRequestSource(s.ctx, call)
	s.either = either
	keep := false
	defer func() {
		if !keep { // also if a hook panicked
			s.endWith(ErrClosed)
		}
	}()
	err = s.connect(nil)
	s.either = false
	if err == errEnd { //nolint:errorlint // never wrapped, as errResponse
		s.endWith(errEnd)
		err = nil
	}
	keep = err == nil || err == errResponse //nolint:errorlint // see above
	return s, err
}
