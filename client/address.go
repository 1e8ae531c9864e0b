// The URL of a session: the one that the caller passes, with the parts that WithAddress
// replaces. An error names the fault but does not repeat the URL, which may hold a
// secret.

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

// resolveURL sets c.url to rawURL with the parts that [WithAddress] replaces.
func (c *call) resolveURL(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return &ConfigError{"url", "cannot be parsed: " + parseProblem(err)}
	}
	for _, a := range c.address {
		if err := a.replaceIn(u); err != nil {
			return err
		}
	}
	if err := checkURL(u); err != nil {
		return &ConfigError{"url", err.Error()}
	}
	u.Host = strings.TrimSuffix(u.Host, ":")
	c.url = u
	return nil
}

// address holds the arguments of one [WithAddress].
type address struct {
	scheme, host string
	port         int
	path         string
}

// replaceIn replaces the parts of u that a sets.
func (a address) replaceIn(u *url.URL) error {
	if a.scheme != "" {
		u.Scheme = a.scheme
	}
	host, port := u.Hostname(), u.Port()
	if a.host != "" {
		if !validHost(a.host) {
			return &ConfigError{"WithAddress", "has a host that is not a valid host name or IP address"}
		}
		host, port, u.Opaque = a.host, "", ""
	}
	if a.port < 0 || a.port > 65535 {
		return &ConfigError{"WithAddress", "must have a port from 0 to 65535, but has " + strconv.Itoa(a.port)}
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
		return &ConfigError{"WithAddress", "has a path that is not a valid URL path"}
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

// checkURL returns an error if u is not an http or https URL with a host. Its text
// continues a sentence whose subject is the URL.
func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https" && strings.Contains(u.Opaque, "@"): // the scheme is a user name
		return errors.New("has no scheme; it must be http or https")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("has the scheme %s; it must be http or https", quote(u.Scheme))
	case u.Hostname() == "":
		return errors.New("has no host")
	}
	return nil
}

// validHost reports whether host is an IP address or can be the host of a URL, without
// a port.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	u, err := url.Parse("http://" + host)
	return err == nil && u.Hostname() == host
}

// hostPort joins host and port for a URL. It puts an IPv6 address in brackets. port may
// be empty.
func hostPort(host, port string) string {
	if port != "" {
		return net.JoinHostPort(host, port)
	}
	if strings.Contains(host, ":") { // IPv6
		return "[" + host + "]"
	}
	return host
}
