package client

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Option shapes one session.
type Option func(*call) error

// WithConfig lets edit change the client's [Config] for this session alone. It
// gets a copy, in which defaults stand for what was left out.
func WithConfig(edit func(*Config)) Option {
	return func(c *call) error {
		edit(&c.cfg)
		return nil
	}
}

// WithMethod sets the request's method. Default: GET, or POST if there is a body.
func WithMethod(method string) Option {
	return func(c *call) error {
		c.method = method
		return nil
	}
}

// WithHeader adds a header field to the request. It may be given several times.
// Accept and Cache-Control, which are text/event-stream and no-store otherwise, are
// the caller's if set.
func WithHeader(key, value string) Option {
	return func(c *call) error {
		if !token(key) {
			return &ConfigError{"WithHeader", "has a name that is none: " + quote(key)}
		}
		if !printable(value) {
			return &ConfigError{"WithHeader", "has a value for " + key + " with control characters"}
		}
		switch http.CanonicalHeaderKey(key) {
		case lastEventID:
			return WithLastEventID(value)(c)
		case "Host": // which net/http takes from elsewhere
			c.host = value
		case "Content-Type": // one at the most; the last is meant
			c.header.Set(key, value)
		default:
			c.header.Add(key, value)
		}
		return nil
	}
}

// WithBody sets the request's body and its Content-Type. Whether it is sent again
// on a reconnection is Config.Resend's to say.
func WithBody(contentType string, body io.Reader) Option {
	return func(c *call) error {
		if !printable(contentType) {
			return &ConfigError{"WithBody", "has a Content-Type with control characters: " + quote(contentType)}
		}
		c.body = body
		if contentType != "" {
			c.header.Set("Content-Type", contentType)
		}
		return nil
	}
}

// WithLastEventID makes the session resume after the event with this id, which is
// mostly an earlier session's [Session.LastEventID]. Streams can set ids that HTTP
// cannot carry: such a one is not sent.
func WithLastEventID(id string) Option {
	return func(c *call) error {
		if strings.ContainsAny(id, "\r\n\x00") {
			return &ConfigError{"WithLastEventID", "has an id that no event can have: " + quote(id)}
		}
		c.lastID = id
		return nil
	}
}

// WithAddress sets the parts of the URL: those that are not empty, or 0 for the
// port, replace those of the url that the session is opened with, which may be
// empty itself. A path may have a query.
func WithAddress(scheme, host string, port int, path string) Option {
	return func(c *call) error {
		c.address = append(c.address, address{scheme, host, port, path})
		return nil
	}
}

// call is one session as it was asked for.
type call struct {
	cfg     Config
	url     *url.URL
	method  string
	host    string
	header  http.Header
	body    io.Reader
	lastID  string
	address []address
}

func newCall(cfg Config, timeout time.Duration, rawURL string, options []Option) (*call, error) {
	c := &call{cfg: cfg, header: make(http.Header)}
	if err := c.apply(options, timeout); err != nil {
		return nil, err
	}
	if err := c.locate(rawURL); err != nil {
		return nil, err
	}
	if c.method != "" && !token(c.method) {
		return nil, &ConfigError{"WithMethod", "has a method that is none: " + quote(c.method)}
	}
	return c, nil
}

func (c *call) apply(options []Option, timeout time.Duration) error {
	for _, option := range options {
		if err := option(c); err != nil {
			return err
		}
	}
	if err := c.cfg.check(); err != nil {
		return err
	}
	c.cfg = c.cfg.withDefaults(timeout)
	return nil
}
