// Package client reads event streams: it opens them as a browser's EventSource
// does, reconnects when they break, resumes where they were, and hands out their
// events one by one.
//
// A complete program, which follows a stream until its server ends it for good:
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
// A session opens when a response with status 200 and Content-Type
// text/event-stream arrives. It ends normally, without an error, when the server
// answers 204, and when a stream ends and no reconnection is due (there is none
// unless [Config].MaxReconnectionAttempts allows it). Until then it goes on over
// as many connections as it takes: each begins with the Last-Event-ID of the last
// event that was read.
//
// It ends with an error when the server refuses it, when the attempts to
// reconnect are used up, when what it sends exceeds a bound ([*Error]), when the
// caller's context is done (an error that matches the context's), and when the
// caller closes it (ErrClosed).
//
// A session has no goroutine of its own. All that it does, it does in the loop of
// its caller, waiting and reconnecting included.
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

// Event is [event.Event]: one event, as it comes over the wire. Its ID is the last
// event id as of this event, which an earlier one may have set.
type Event = event.Event

// The defaults of a zero [Config].
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

// Unlimited as Config.MaxReconnectionAttempts reconnects for ever.
const Unlimited = -1

// Config sets up a client. Its zero value is ready to use; it is copied by
// [Install], and [WithConfig] changes the copy of one call.
type Config struct {
	// MaxReconnectionAttempts is how often in a row a connection is tried again, be
	// it refused, cut off or ended by the server. An event that arrives starts the
	// count anew; a connection without one does not. Default: 0, never. Unlimited:
	// for ever.
	//
	// When the attempts are used up, what broke the last one is the session's error.
	// If that was the orderly end of a stream, it is the session's as well.
	MaxReconnectionAttempts int

	// ReconnectionTime is the wait before a reconnection, until the server sets
	// another by a retry field. Default: 3 seconds.
	ReconnectionTime time.Duration

	// MaxBackoff bounds the wait on repeated failure: it doubles with each, from the
	// reconnection time up to MaxBackoff, or stays at the reconnection time if that
	// is longer. A connection that could not be opened is a failure, and so is one
	// that broke, or ended without an event, before it was HealthyAfter old. Default:
	// 30 seconds.
	MaxBackoff time.Duration

	// Jitter adds to each wait a random share of it, from none up to Jitter, so that
	// the clients of a server that was restarted do not all return at once. It never
	// shortens a wait. Default: 0.5. Negative: none.
	Jitter float64

	// HealthyAfter is how long a connection must have been open for the backoff to
	// start over. Default: a minute.
	HealthyAfter time.Duration

	// MinRetry is the shortest wait that a server can ask for: "retry: 0" must not
	// make a client spin. Default: 100 ms. Negative: none.
	MinRetry time.Duration

	// MaxRetry is the longest wait that a server can ask for, by a retry field or by
	// Retry-After (RFC 9110 §10.2.3). Sooner than asked the client must not return
	// (WHATWG HTML §9.2.3), so that a longer one ends the session, with a [*RetryError].
	// Default: 24 hours.
	MaxRetry time.Duration

	// RetryStatus says whether a response with this status, other than 200 and 204,
	// is worth another attempt. Default: 429, 500, 502, 503 and 504. The
	// specification has none; Ktor has all.
	RetryStatus func(status int) bool

	// Resend allows a request to be sent again that is not known to be idempotent:
	// one with a body, or of a method other than GET, HEAD, OPTIONS, TRACE, PUT and
	// DELETE. Without it such a request is made once, however many attempts there
	// are, since to send a POST again can place an order twice. A body can be sent
	// again if it is a *bytes.Reader, *bytes.Buffer or *strings.Reader, or if
	// OnRequest sets another.
	Resend bool

	// KeepRedirect makes reconnections go to where redirects led the connection
	// before. By default they go to the original URL, and are redirected anew. If the
	// redirects led by way of another host, its requests stay without credentials, even
	// those that OnRequest sets; see [Install].
	KeepRedirect bool

	// OpenTimeout bounds the time from the request to the head of its response, or to
	// the end of the body if it is a refusal. To exceed it is a failure like any other of
	// the connection. Default: the Timeout of the http.Client, which otherwise does not
	// apply to streams, or 30 seconds. Negative: none.
	OpenTimeout time.Duration

	// IdleTimeout is how long the client waits for the next byte of a stream, be it
	// only of a comment, before it takes the connection for dead. Default: none,
	// since a stream may be silent for as long as it wants. Where the server is known
	// to send heartbeats, three times their period is a good value: 45 seconds for
	// the plugin's default.
	IdleTimeout time.Duration

	// MaxEventSize bounds an event, and a line of any kind, in bytes; more ends the
	// session with an [*event.TooLargeError]. Default: 64 MiB. Memory is used only for
	// what really arrives.
	MaxEventSize int

	// ShowCommentEvents keeps comments: those among the fields of an event come with
	// it, others as an Event with only a Comment.
	ShowCommentEvents bool

	// ShowRetryEvents hands out what only sets the reconnection time, as an Event
	// with only a Retry.
	ShowRetryEvents bool

	// Terminal reports whether an event is the last of its stream, as "[DONE]" is
	// with some LLM APIs. The session ends normally right after it, and does not
	// reconnect. A stream that ends before it, and is not continued by a
	// reconnection, ends the session with [ErrTruncated]. Default: nil, any orderly
	// end will do.
	Terminal func(Event) bool

	// Deserializer turns data into values, for [Decode] and [Incoming]. Default:
	// JSON.
	Deserializer Deserializer

	// BufferPolicy says what is kept of the stream for [Error].Body. Default: Off.
	BufferPolicy BufferPolicy

	// Logger gets what operators want to know: each reconnection, at level Warn, or
	// Debug if the server ended the stream in order; each opened connection, at level
	// Debug. Default: slog.Default().
	Logger *slog.Logger

	// OnRequest is called with each request before it is sent, those of
	// reconnections included, and may change it: its URL, a token in its header, its
	// body (with GetBody and ContentLength). The redirects of a request are the
	// http.Client's. An error ends the session.
	OnRequest func(*http.Request) error

	// OnOpen is called with the response of each connection that opens. Its body is
	// the session's.
	OnOpen func(*http.Response)

	// OnRetry is called before each wait for a reconnection, with what there is to
	// say about it.
	OnRetry func(Retry)
}

// Retry is a reconnection to come.
type Retry struct {
	Attempt int           // 1 for the first since the last event
	Delay   time.Duration // how long it is waited
	Err     error         // why: io.EOF if the server ended the stream in order
}

// Client opens sessions. It is made by [Install], and safe for concurrent use.
type Client struct {
	http    *http.Client // its Timeout taken off
	timeout time.Duration
	cfg     Config
}

// Install makes a [Client] that sends its requests through hc: its Transport, Jar
// and CheckRedirect. It panics if cfg makes no sense. hc itself stays as it is, and
// goes on to serve ordinary requests.
//
// The Timeout of hc covers the whole of a response, which for a stream has no
// bound. Sessions use a copy of hc without it, and heed it up to the response's
// head, as Config.OpenTimeout. The timeouts of the Transport all apply.
//
// A redirect to another host takes along none of the header that the caller set,
// but for what says nothing about who asks (Accept, Accept-Language, Cache-Control,
// Content-Type, User-Agent, Last-Event-ID and alike), and no Referer. Another port, or
// http instead of https, is another host; https instead of http, on their own ports,
// is not.
//
// A Transport that reads a body before it returns the response, as loggers that dump
// it do, holds back a stream until its end.
func Install(hc *http.Client, cfg Config) *Client {
	if hc == nil {
		panic("client: Install without an http.Client; use http.DefaultClient")
	}
	if err := cfg.check(); err != nil {
		panic(err.Error())
	}
	own := *hc
	own.CheckRedirect = redirectCheck(hc.CheckRedirect)
	own.Timeout = 0
	return &Client{http: &own, timeout: hc.Timeout, cfg: cfg.withDefaults(hc.Timeout)}
}

// SSE opens a session as [Client.Session] does, runs block with it, and closes it.
//
// If the session did not open, the error is that of Session, and block is not run.
// An error of block is returned as an [*Error], with the response and what
// Config.BufferPolicy kept of the stream; it still matches what block returned. One
// that came from the session, or of ctx's end, is returned as it is.
func (c *Client) SSE(ctx context.Context, url string, block func(*Session) error, options ...Option) error {
	s, err := c.Session(ctx, url, options...)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := block(s); err != nil {
		return s.blame(ctx, err)
	}
	return nil
}

// Session opens a session that reads the stream at url. It returns when the
// response's head is there, after as many attempts as Config.MaxReconnectionAttempts
// allows. The caller must close the session, or read it to its end.
//
// ctx spans the whole session. The error is an [*Error] if the server could not be
// reached, or did not answer as it should; a [*ConfigError] if url or an option
// makes no sense; or one that matches ctx.Err().
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
	s.from = newSource(s.ctx, call)
	opened := false
	defer func() {
		if !opened { // a hook's panic included
			s.finish(ErrClosed)
		}
	}()
	if err := s.connect(nil); err != nil && err != errEnd { //nolint:errorlint // errEnd is never wrapped
		return nil, err
	}
	opened = true
	return s, nil
}

func (c *Config) check() error {
	switch {
	case c.MaxReconnectionAttempts < Unlimited:
		return &ConfigError{"MaxReconnectionAttempts", "is negative; client.Unlimited is for ever"}
	case c.ReconnectionTime < 0:
		return &ConfigError{"ReconnectionTime", "is negative"}
	case c.MaxBackoff < 0:
		return &ConfigError{"MaxBackoff", "is negative; to wait equally long each time, set it to ReconnectionTime"}
	case c.Jitter != c.Jitter || c.Jitter > 100:
		return &ConfigError{"Jitter", fmt.Sprintf("is %v; it is a share of the wait, such as 0.5", c.Jitter)}
	case c.HealthyAfter < 0:
		return &ConfigError{"HealthyAfter", "is negative"}
	case c.MaxRetry < 0:
		return &ConfigError{"MaxRetry", "is negative"}
	case c.IdleTimeout < 0:
		return &ConfigError{"IdleTimeout", "is negative; zero is none"}
	case c.MaxEventSize < 0:
		return &ConfigError{"MaxEventSize", "is negative"}
	}
	return nil
}

// withDefaults returns c complete. timeout is that of the http.Client, or 0.
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
