// The options of a session, and the call that they fill in. An option is checked when
// the session opens, before anything is sent.

package client

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Option configures one session.
type Option func(*call) error

// WithConfig calls edit to change the client's [Config] for this session only. edit gets
// a copy with defaults in place of zero values. Only OpenTimeout is zero in it, unless the
// http.Client has a Timeout, because its default depends on the request.
func WithConfig(edit func(*Config)) Option {
	return func(c *call) error {
		edit(&c.cfg)
		return nil
	}
}

// WithMethod sets the request's method. Default: GET, or POST if the request has a body.
func WithMethod(method string) Option {
	return func(c *call) error {
		c.method = method
		return nil
	}
}

// WithHeader adds a header field to the request. It may be used several times. Accept,
// Accept-Encoding and Cache-Control replace the client's own values: text/event-stream (for
// [Client.Do] also application/json), identity and no-cache. Last-Event-ID does what
// [WithLastEventID] does, Host sets the request's Host, and of several Content-Types the
// last counts.
func WithHeader(key, value string) Option {
	return func(c *call) error {
		if !validToken(key) {
			return &ConfigError{"WithHeader", "has the name " + quote(key) + ", which is not a valid header name"}
		}
		if !validFieldValue(value) {
			return &ConfigError{"WithHeader", "must not have control characters in the value of " + key}
		}
		switch http.CanonicalHeaderKey(key) {
		case lastEventID:
			return WithLastEventID(value)(c)
		case "Host": // net/http ignores it in the header
			c.host = value
		case "Content-Type": // at most one; the last counts
			c.header.Set(key, value)
		default:
			c.header.Add(key, value)
		}
		return nil
	}
}

// WithBody sets the request's body, and its Content-Type if contentType is not empty.
// Config.Resend says when the client may send the body again.
func WithBody(contentType string, body io.Reader) Option {
	return func(c *call) error {
		if !validFieldValue(contentType) {
			return &ConfigError{"WithBody", "must not have control characters in the Content-Type, but has " + quote(contentType)}
		}
		c.body = body
		if contentType != "" {
			c.header.Set("Content-Type", contentType)
		}
		return nil
	}
}

// WithLastEventID makes the session resume after the event with this id, usually the
// [Session.LastEventID] of an earlier session. A header must be able to carry the id: it
// must not have control characters other than a tab, and must not be longer than
// Config.MaxLastEventID.
func WithLastEventID(id string) Option {
	return func(c *call) error {
		if !validFieldValue(id) {
			return &ConfigError{"WithLastEventID", "must not have control characters in the id, but has " + quote(id)}
		}
		c.lastID = id
		return nil
	}
}

// WithAddress replaces parts of the URL that the session is opened with. Empty strings
// and port 0 leave their parts as they are, except that a new host does not keep the old
// port. path may include a query; it replaces the old query too. If WithAddress sets a
// scheme and a host, the url may be empty.
func WithAddress(scheme, host string, port int, path string) Option {
	return func(c *call) error {
		c.address = append(c.address, address{scheme, host, port, path})
		return nil
	}
}

// call holds what the caller has asked for with the options of one session.
type call struct {
	cfg     Config
	url     *url.URL // set by resolveURL
	method  string   // empty: GET or POST
	host    string   // the Host header; empty: the host of url
	header  http.Header
	body    io.Reader
	lastID  string
	address []address // of WithAddress, in order
}

// newCall returns the call for a session at rawURL. cfg is the client's Config, and
// timeout the Timeout of its http.Client. The error is a [*ConfigError].
func newCall(cfg Config, timeout time.Duration, rawURL string, options []Option) (*call, error) {
	c := &call{cfg: cfg, header: make(http.Header)}
	setDefault(&c.cfg.OpenTimeout, timeout)
	if err := c.apply(options); err != nil {
		return nil, err
	}
	if err := c.resolveURL(rawURL); err != nil {
		return nil, err
	}
	openTimeout := DefaultOpenTimeout
	if c.body != nil {
		openTimeout = DefaultBodyOpenTimeout
	}
	setDefault(&c.cfg.OpenTimeout, cmp.Or(timeout, openTimeout))
	if c.method != "" && !validToken(c.method) {
		return nil, &ConfigError{"WithMethod", "has the method " + quote(c.method) + ", which is not a valid HTTP method"}
	}
	return c, nil
}

// apply applies options, then checks the Config and completes it with defaults.
func (c *call) apply(options []Option) error {
	for _, option := range options {
		if err := option(c); err != nil {
			return err
		}
	}
	if err := c.cfg.validate(); err != nil {
		return err
	}
	c.cfg = c.cfg.withDefaults()
	if limit := c.cfg.MaxLastEventID; len(c.lastID) > limit {
		return &ConfigError{"WithLastEventID", fmt.Sprintf("must not have an id longer than MaxLastEventID (%d bytes), but has one of %d", limit, len(c.lastID))}
	}
	return nil
}
