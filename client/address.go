package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

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

type address struct {
	scheme, host string
	port         int
	path         string
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
