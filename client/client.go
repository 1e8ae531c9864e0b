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
// A session ends normally, without an error:
//
//   - when the server answers with status 204;
//   - when the server ends the stream and the client does not reconnect. By default it
//     never reconnects; set [Config].MaxReconnectionAttempts to change that;
//   - after the event that [Config].Terminal names as the last one. If Terminal is set,
//     a stream that ends without that event is an error instead.
//
// A session ends with an error:
//
//   - when the server refuses it, when the attempts to reconnect are used up and the last
//     one failed, or when the server exceeds a limit. The error is an [*Error];
//   - when the caller's context is done. The error matches the context's error;
//   - when the caller closes it. The error is [ErrClosed].
//
// An open session keeps no goroutine. The client reads, waits and reconnects inside the
// caller's loop over [Session.Incoming].
package client

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/chi-sse/sse/event"
)

// Event is [event.Event]: one event as it arrived. Its ID is the stream's last event
// id at that point, which an earlier event may have set.
type Event = event.Event

// Defaults that [Install] and [WithConfig] put in place of zero values in a [Config].
const (
	DefaultReconnectionTime = 3 * time.Second
	DefaultMaxBackoff       = 30 * time.Second
	DefaultJitter           = 0.5
	DefaultHealthyAfter     = time.Minute
	DefaultMinRetry         = 100 * time.Millisecond
	DefaultMaxRetry         = 24 * time.Hour
	DefaultOpenTimeout      = 30 * time.Second
	DefaultMaxEventSize     = event.DefaultMaxEventSize
)

// Unlimited is the value of Config.MaxReconnectionAttempts that makes the client reconnect
// forever.
const Unlimited = -1

// Config sets up a client. The zero value is ready to use. [Install] copies it, and
// [WithConfig] changes the copy of a single session.
type Config struct {
	// MaxReconnectionAttempts is how many times in a row the client tries to connect
	// again after a connection was refused or cut off, or after the server ended the
	// stream. An event that arrives resets the count; a connection without an event
	// does not. Default: 0, which means never. [Unlimited] means forever.
	//
	// When the attempts are used up, the session ends with the error of the last one.
	// If the server ended that last stream in order, the session ends normally too,
	// unless Terminal is set.
	MaxReconnectionAttempts int

	// ReconnectionTime is how long the client waits before it reconnects, until the
	// server sets another time with a retry field. Default: 3 seconds.
	ReconnectionTime time.Duration

	// MaxBackoff limits the wait after repeated failures. Each further failure doubles
	// the wait, from the reconnection time up to MaxBackoff. If the reconnection time is
	// longer than MaxBackoff, the wait stays at the reconnection time. A connection
	// fails if it cannot be opened, or if it breaks, or ends without an event, before it
	// is HealthyAfter old. Default: 30 seconds.
	MaxBackoff time.Duration

	// Jitter lengthens each wait by a random share of it, between zero and Jitter, so
	// that the clients of a restarted server do not all return at once. With 0.5, a wait
	// of 2 seconds lasts 2 to 3 seconds. It never shortens a wait. It must be at most
	// 100. Default: 0.5. Negative: none.
	Jitter float64

	// HealthyAfter is how long a connection must have been open for its loss not to
	// count as a failure. The backoff then starts over. Default: one minute.
	HealthyAfter time.Duration

	// MinRetry is the shortest wait that a server can set with a retry field. It keeps
	// "retry: 0" from making the client reconnect in a tight loop. Default: 100 ms.
	// Negative: none.
	MinRetry time.Duration

	// MaxRetry is the longest wait that the client accepts from a server, in a retry
	// field or in Retry-After (RFC 9110 §10.2.3). The client must not reconnect sooner
	// than the server asks (WHATWG HTML §9.2.3), so a longer wait ends the session with
	// a [*RetryError]. Default: 24 hours.
	MaxRetry time.Duration

	// RetryStatus reports whether the client may try again after a response with this
	// status. The client does not call it for 200 and 204. Default: true for 429, 500,
	// 502, 503 and 504. The specification retries after no status, Ktor after all.
	RetryStatus func(status int) bool

	// Resend allows the client to repeat a request that may not be idempotent: one with
	// a body, or with a method other than GET, HEAD, OPTIONS, TRACE, PUT and DELETE.
	// Without it, the client sends such a request once, however many attempts are
	// allowed, because a repeated POST can place an order twice. The client can send a
	// body again if it is a *bytes.Reader, *bytes.Buffer or *strings.Reader, or if
	// OnRequest sets another. Default: false.
	Resend bool

	// KeepRedirect makes the client reconnect to the URL that redirects led to. By
	// default it reconnects to the original URL and follows the redirects again. If the
	// redirects led through another host, later requests carry no credentials, not even
	// those that OnRequest sets; see [Install].
	KeepRedirect bool

	// OpenTimeout limits the time from the request until the response's header has
	// arrived or, if the response does not open a stream, until its body has been read.
	// If the header is late, the attempt is a failed connection. If the body is late, the
	// client keeps the part that it has read. Default: the Timeout of the http.Client,
	// which does not apply to streams otherwise, or 30 seconds if that is zero. Negative:
	// no limit.
	OpenTimeout time.Duration

	// IdleTimeout is how long the client waits for the next byte of a stream before it
	// treats the connection as lost. The bytes of a comment count. Default: no limit,
	// because a stream may be silent for as long as it likes. If the server sends
	// heartbeats, set it to three times their period: 45 seconds for the plugin's
	// default.
	IdleTimeout time.Duration

	// MaxEventSize limits the size of an event, and of a line of any kind, in bytes.
	// Anything larger ends the session with an [*event.TooLargeError]. The client uses
	// memory only for what has arrived. Default: 64 MiB.
	MaxEventSize int

	// ShowCommentEvents hands out comments. A comment among the fields of an event comes
	// with that event. Any other comes as an Event with a Comment and no Data.
	ShowCommentEvents bool

	// ShowRetryEvents hands out a block that only sets the reconnection time, as an
	// Event with a Retry and no Data.
	ShowRetryEvents bool

	// Terminal reports whether an event is the last one of its stream, as "[DONE]" is
	// with some LLM APIs. The session hands out that event, ends normally, and does not
	// reconnect. If a stream ends in order without such an event, and the client does
	// not reconnect, the session ends with [ErrTruncated]. Default: nil, which accepts
	// every orderly end.
	Terminal func(Event) bool

	// Deserializer decodes the data of events for [Decode] and [Incoming]. Default:
	// [JSON].
	Deserializer Deserializer

	// BufferPolicy selects the part of the stream that the client keeps for
	// [Error].Body. Default: [Off].
	BufferPolicy BufferPolicy

	// Logger receives each reconnection, at level Warn, or Debug if the server ended the
	// stream in order; each opened connection, at level Debug; and each last event id
	// that no header can carry, at level Warn. Default: slog.Default().
	Logger *slog.Logger

	// OnRequest is called with each request before it is sent, including the requests of
	// reconnections. It may change the request: its URL, a token in its header, or its
	// body (together with GetBody and ContentLength). It is not called for redirects,
	// which the http.Client follows. An error ends the session.
	OnRequest func(*http.Request) error

	// OnOpen is called with the response of each connection that opens. It must not
	// read the body, which belongs to the session.
	OnOpen func(*http.Response)

	// OnRetry is called before each wait for a reconnection.
	OnRetry func(Retry)
}

// Retry describes a reconnection that the client is about to make.
type Retry struct {
	Attempt int           // its number, counted from 1 since the last event
	Delay   time.Duration // how long the client waits before it
	Err     error         // the reason: io.EOF if the server ended the stream in order
}

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
	own.CheckRedirect = redirectCheck(hc.CheckRedirect)
	own.Timeout = 0
	return &Client{http: &own, timeout: hc.Timeout, cfg: cfg.withDefaults(hc.Timeout)}
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
	if c == nil || c.http == nil {
		return nil, &ConfigError{"Client", "is not installed; make it with client.Install"}
	}
	call, err := newCall(c.cfg, c.timeout, url, options)
	if err != nil {
		return nil, err
	}
	s := newSession(ctx, call)
	s.http = c.http
	s.requests = newRequestSource(s.ctx, call)
	opened := false
	defer func() {
		if !opened { // also if a hook panicked
			s.endWith(ErrClosed)
		}
	}()
	if err := s.connect(nil); err != nil && err != errEnd { //nolint:errorlint // errEnd is never wrapped
		return nil, err
	}
	opened = true
	return s, nil
}

// validate returns a [*ConfigError] about the first invalid field of c, or nil.
func (c *Config) validate() error {
	const positive = "must be positive, or zero for the default"
	switch {
	case c.MaxReconnectionAttempts < Unlimited:
		return &ConfigError{"MaxReconnectionAttempts", "must be zero or more, or client.Unlimited"}
	case c.ReconnectionTime < 0:
		return &ConfigError{"ReconnectionTime", positive}
	case c.MaxBackoff < 0:
		return &ConfigError{"MaxBackoff", positive + "; for equal waits, set it to ReconnectionTime"}
	case c.Jitter != c.Jitter || c.Jitter > 100:
		return &ConfigError{"Jitter", fmt.Sprintf("must be a share of the wait, at most 100, such as 0.5, but is %v", c.Jitter)}
	case c.HealthyAfter < 0:
		return &ConfigError{"HealthyAfter", positive}
	case c.MaxRetry < 0:
		return &ConfigError{"MaxRetry", positive}
	case c.IdleTimeout < 0:
		return &ConfigError{"IdleTimeout", "must be positive, or zero for no limit"}
	case c.MaxEventSize < 0:
		return &ConfigError{"MaxEventSize", positive}
	}
	return nil
}

// withDefaults returns c with defaults in place of its zero values. timeout is the
// Timeout of the http.Client, or 0.
func (c Config) withDefaults(timeout time.Duration) Config {
	setDefault(&c.ReconnectionTime, DefaultReconnectionTime)
	setDefault(&c.MaxBackoff, DefaultMaxBackoff)
	setDefault(&c.Jitter, DefaultJitter)
	setDefault(&c.HealthyAfter, DefaultHealthyAfter)
	setDefault(&c.MinRetry, DefaultMinRetry)
	setDefault(&c.MaxRetry, DefaultMaxRetry)
	setDefault(&c.OpenTimeout, cmp.Or(timeout, DefaultOpenTimeout))
	setDefault(&c.MaxEventSize, DefaultMaxEventSize)
	if c.RetryStatus == nil {
		c.RetryStatus = retryStatus
	}
	if c.Deserializer == nil {
		c.Deserializer = JSON
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
