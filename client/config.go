// Config: what a client can be told, its defaults, and what is wrong with one.

package client

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/chi-sse/sse/event"
)

// Defaults that [Install] and [WithConfig] put in place of zero values in a [Config].
const (
	DefaultReconnectionTime = 3 * time.Second
	DefaultMaxBackoff       = 30 * time.Second
	DefaultJitter           = 0.5
	DefaultMinRetry         = 100 * time.Millisecond
	DefaultMaxRetry         = 24 * time.Hour
	DefaultOpenTimeout      = 30 * time.Second
	DefaultBodyOpenTimeout  = 10 * time.Minute // for a request with a body
	DefaultMaxEventSize     = event.DefaultMaxEventSize
	DefaultMaxLastEventID   = 4 << 10
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
	// does not. If Resend is needed to repeat the request, events reset it only if the
	// last event id has changed since the connection opened, because otherwise the server
	// starts over. Default: 0, which means never. [Unlimited] means forever.
	//
	// When the attempts are used up, the session ends with an [*AttemptsError], also if
	// the server ended the last stream in order.
	MaxReconnectionAttempts int

	// ReconnectionTime is how long the client waits before it reconnects, until the
	// server sets another time with a retry field. Default: 3 seconds.
	ReconnectionTime time.Duration

	// MaxBackoff limits the wait after repeated failures. Each further failure doubles
	// the wait, from the reconnection time up to MaxBackoff. If the reconnection time is
	// longer than MaxBackoff, the wait stays at the reconnection time. A connection
	// fails if it cannot be opened, or if it ends without having brought a byte before
	// the reconnection time has passed. Default: 30 seconds.
	MaxBackoff time.Duration

	// Jitter lengthens each wait by a random share of it, between zero and Jitter, so
	// that the clients of a restarted server do not all return at once. With 0.5, a wait
	// of 2 seconds lasts 2 to 3 seconds. It never shortens a wait. It must be at most
	// 100. Default: 0.5. Negative: none.
	Jitter float64

	// MinRetry is the shortest wait that a server can set with a retry field. It keeps
	// "retry: 0" from making the client reconnect in a tight loop. Default: 100 ms.
	// Negative: none.
	MinRetry time.Duration

	// MaxRetry is the longest wait that the client accepts from a server, in a retry
	// field, in Retry-After (RFC 9110 §10.2.3) or in Retry-After-Ms. The client must not
	// reconnect sooner than the server asks (WHATWG HTML §9.2.3), so a longer wait ends
	// the session with a [*RetryError]. Default: 24 hours.
	MaxRetry time.Duration

	// OnFailure decides what the session does after each failure: an attempt that opened
	// no stream, the loss of a connection, and also the orderly end of a stream. It may
	// call [DefaultDecision]. MaxReconnectionAttempts and Resend still limit what it
	// decides. It is not called after status 204, a terminal event, or the end of the
	// caller's context. A session of [Read] has one connection, so its Failure is Final.
	//
	// It is called by the goroutine that opens or reads the session, and so by several
	// at once if the client has several sessions. If the session is closed or its context
	// ends meanwhile, the decision has no effect. After [Session.Reconnect], a decision to
	// retry takes effect at once. Default: [DefaultDecision].
	OnFailure func(Failure) Decision

	// Resend says when the client may repeat a request that may not be idempotent: one
	// with a body, or with a method other than GET, HEAD, OPTIONS, TRACE, PUT and DELETE.
	// A repeated POST can place an order, or bill a completion, twice. The client can
	// send a body again if it is a *bytes.Reader, *bytes.Buffer or *strings.Reader, or if
	// OnRequest sets another. Default: [ResendNever].
	Resend ResendMode

	// KeepRedirect makes the client reconnect to the URL that redirects led to. By
	// default it reconnects to the original URL and follows the redirects again. If the
	// redirects led through another host, later requests carry no credentials, not even
	// those that OnRequest sets; see [Install].
	KeepRedirect bool

	// OpenTimeout limits the time from the request until the response's header has
	// arrived. If the header is late, the attempt is a failed connection. Default: the
	// Timeout of the http.Client, which does not apply to streams otherwise; if that is
	// zero, 30 seconds, or 10 minutes for a request with a body (see [WithBody]), because
	// an LLM API may send the header only with the first token. Negative: no limit.
	OpenTimeout time.Duration

	// IdleTimeout is how long the client waits for the next byte of a stream before it
	// treats the connection as lost. The bytes of a comment count. Default: no limit,
	// because a stream may be silent for as long as it likes. If the server sends
	// heartbeats, set it to three times their period: 45 seconds for the plugin's
	// default. The time that the caller takes does not count.
	//
	// A connection that is lost this way, or through OpenTimeout, may be dead but still
	// open. The session therefore sends its later requests over connections that no other
	// request has used, and closes the idle connections of the Transport. So an HTTP/2
	// connection that it shares with others is left at once.
	IdleTimeout time.Duration

	// EventTimeout is how long the client waits for the next event before it treats the
	// connection as lost. Comments do not count, so heartbeats cannot hide that a server
	// or a model has stalled. The time that the caller takes does not count either.
	// Default: no limit.
	EventTimeout time.Duration

	// MaxEventSize limits the size of an event, and of a line of any kind, in bytes.
	// Anything larger ends the session with an [*event.TooLargeError]. The client uses
	// memory only for what has arrived. Default: 64 MiB.
	MaxEventSize int

	// MaxLastEventID limits the last event id that the client sends, in bytes. Servers
	// refuse long headers, most of them beyond 8 KiB. If the stream sets a longer id, or
	// one that no header can carry, the client cannot resume after it, and the next
	// reconnection fails with a [*LastEventIDError]. Default: 4 KiB.
	MaxLastEventID int

	// CheckResponse reports why a response does not open a stream. It must not read the
	// body. The client does not call it for status 204, which ends the session. Replace
	// it to accept a stream that has no Content-Type or another one. Default:
	// [CheckResponse].
	CheckResponse func(*http.Response) error

	// AcceptGzip lets the server compress the stream, if the http.Client's Transport asks
	// for gzip, as net/http's does by default. If a compressed stream brings more than six
	// times MaxEventSize (and more than 1 MiB) within a minute, and no event, the session
	// ends with an [*event.TooLargeError], because a few bytes could otherwise keep the
	// client busy for minutes. Default: false; the client sends Accept-Encoding: identity.
	AcceptGzip bool

	// ShowCommentEvents hands out comments. A comment among the fields of an event comes
	// with that event. Any other comes as an Event with a Comment and no Data.
	ShowCommentEvents bool

	// ShowRetryEvents hands out a block that only sets the reconnection time, as an
	// Event with a Retry and no Data.
	ShowRetryEvents bool

	// Terminal reports whether an event is the last one of its stream, as "[DONE]" is
	// with some LLM APIs. The session hands out that event, ends normally, and does not
	// reconnect. Before the loop over the events ends, it reads on for at most 100 ms and
	// 64 KiB, so that the connection can be used again if the server ends the response
	// then. Close ends that at once. If a stream ends in order without such
	// an event, and the client does not reconnect, the session ends with [ErrTruncated].
	// A terminal event counts even if the blank line after it is missing. Default: nil,
	// which accepts every orderly end.
	Terminal func(Event) bool

	// Deserializer decodes the data of events for [Decode] and [Incoming]. Default:
	// [JSON].
	Deserializer Deserializer

	// BufferPolicy selects the part of the stream that the client keeps for
	// [Error].Body. Default: [Off].
	BufferPolicy BufferPolicy

	// Logger receives each reconnection, at level Warn, or Debug if the server ended the
	// stream in order, and each opened connection, at level Debug. Default:
	// slog.Default().
	Logger *slog.Logger

	// OnRequest is called with each request before it is sent, including the requests of
	// reconnections. It may change the request: its URL, a token in its header, or its
	// body (together with GetBody and ContentLength). It is not called for redirects,
	// which the http.Client follows. An error is a [Failure] like any other: it ends the
	// session, unless OnFailure decides to try again.
	OnRequest func(*http.Request) error

	// OnOpen is called with the response of each connection that opens. It must not
	// read the body, which belongs to the session.
	OnOpen func(*http.Response)

	// OnRetry is called before each wait for a reconnection, after OnFailure. The
	// Failure's Delay is the wait that was decided.
	OnRetry func(Failure)
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
	case c.MaxRetry < 0:
		return &ConfigError{"MaxRetry", positive}
	case c.IdleTimeout < 0:
		return &ConfigError{"IdleTimeout", "must be positive, or zero for no limit"}
	case c.EventTimeout < 0:
		return &ConfigError{"EventTimeout", "must be positive, or zero for no limit"}
	case c.Resend < ResendNever || c.Resend > ResendAlways:
		return &ConfigError{"Resend", "must be client.ResendNever, client.ResendUntilEvent or client.ResendAlways"}
	case c.MaxLastEventID < 0:
		return &ConfigError{"MaxLastEventID", positive}
	case c.MaxEventSize < 0:
		return &ConfigError{"MaxEventSize", positive}
	}
	return nil
}

// withDefaults returns c with defaults in place of its zero values. OpenTimeout stays
// zero, because its default depends on the request.
func (c Config) withDefaults() Config {
	setDefault(&c.ReconnectionTime, DefaultReconnectionTime)
	setDefault(&c.MaxBackoff, DefaultMaxBackoff)
	setDefault(&c.Jitter, DefaultJitter)
	setDefault(&c.MinRetry, DefaultMinRetry)
	setDefault(&c.MaxRetry, DefaultMaxRetry)
	setDefault(&c.MaxEventSize, DefaultMaxEventSize)
	setDefault(&c.MaxLastEventID, DefaultMaxLastEventID)
	if c.OnFailure == nil {
		c.OnFailure = DefaultDecision
	}
	if c.CheckResponse == nil {
		c.CheckResponse = CheckResponse
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
