package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
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

type address struct {
	scheme, host string
	port         int
	path         string
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

// locate sets c.url.
func (c *call) locate(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		if parseErr, ok := errors.AsType[*url.Error](err); ok {
			err = parseErr.Err // the rest of it is the whole URL, which may hold a secret
		}
		return &ConfigError{"url", "cannot be parsed: " + err.Error()}
	}
	for _, a := range c.address {
		if err := a.replace(u); err != nil {
			return err
		}
	}
	if err := reachable(u); err != nil {
		return &ConfigError{"url", err.Error()}
	}
	u.Host = strings.TrimSuffix(u.Host, ":")
	c.url = u
	return nil
}

// replace sets the parts of u that a has.
func (a address) replace(u *url.URL) error {
	if a.scheme != "" {
		u.Scheme = a.scheme
	}
	host, port := u.Hostname(), u.Port()
	if a.host != "" {
		if !validHost(a.host) {
			return &ConfigError{"WithAddress", "has a host that is none: " + quote(a.host)}
		}
		host, port, u.Opaque = a.host, "", ""
	}
	if a.port < 0 || a.port > 65535 {
		return &ConfigError{"WithAddress", "has port " + strconv.Itoa(a.port)}
	}
	if a.port != 0 {
		port = strconv.Itoa(a.port)
	}
	u.Host = hostPort(host, port)
	if a.path == "" {
		return nil
	}
	path, err := url.Parse(a.path)
	if err != nil || path.Host != "" || path.Scheme != "" {
		return &ConfigError{"WithAddress", "has a path that is none: " + quote(a.path)}
	}
	u.Path, u.RawPath, u.RawQuery, u.Fragment = path.Path, path.RawPath, path.RawQuery, ""
	if u.Path != "" && u.Path[0] != '/' {
		u.Path = "/" + u.Path
		if u.RawPath != "" {
			u.RawPath = "/" + u.RawPath
		}
	}
	return nil
}

// reachable returns what is wrong with u, as the predicate of a sentence.
func reachable(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("has the scheme %s; it must be http or https", quote(u.Scheme))
	case u.Hostname() == "":
		return errors.New("has no host")
	}
	return nil
}

func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	u, err := url.Parse("http://" + host)
	return err == nil && u.Hostname() == host
}

func hostPort(host, port string) string {
	if port != "" {
		return net.JoinHostPort(host, port)
	}
	if strings.Contains(host, ":") { // IPv6
		return "[" + host + "]"
	}
	return host
}

func quote(s string) string { return strconv.Quote(clip(s)) }
