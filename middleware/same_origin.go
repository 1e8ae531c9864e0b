package middleware

// This file defines SameOrigin, which refuses requests of other origins' pages.

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// SameOrigin returns a middleware that answers 403 to requests that a browser sends for a page
// of another origin, unless that origin is in allowed. CORS alone does not do that: it keeps the
// page from reading the response, but the request reaches the handler with the user's cookies.
// On a stream that is harm enough: it makes the user present, and takes a place of the user's limit.
//
// It checks each request that reaches it, whatever its method. So use it for SSE routes and APIs,
// as in r.With(middleware.SameOrigin()), and not for pages that other sites may link to. Use it
// after CORS middleware, so that a refusal has the headers with which an allowed page can read it.
//
// A request may pass if one of these holds:
//
//   - Its Origin header is one of allowed.
//   - Sec-Fetch-Site is same-origin or none. A browser sends none for an address that the user
//     typed. Another port or subdomain of the same site is another origin.
//   - It has no Sec-Fetch-Site, and its Origin has the host and the port of the Host header.
//     X-Forwarded-Host does not count, since any client can send it. If a proxy changes the Host
//     header, add the server's own origin to allowed.
//   - It has neither header. It is then not from a browser (curl, an app, another server), or the
//     server's address begins with http and is not localhost: a browser then sends no
//     Sec-Fetch-Site, and no Origin with an image or a link. So serve streams over https.
//
// Each of allowed must be an origin as a browser sends it: scheme://host or scheme://host:port,
// in lower case, without a default port, a path or a wildcard, such as https://app.example.com.
// SameOrigin panics if one is not. "null" is none either, since any page can get that origin in
// a sandbox.
//
// Where the plugin is installed, its Config.RenderError writes the answer. For an SSE route the
// plugin also logs the refusal, and calls Config.OnRefuse. The error is an [*sse.StatusError] that
// wraps a [*CrossOriginError]. EventSource does not try again after a 403.
//
// All responses get a Vary header that names Origin and Sec-Fetch-Site.
func SameOrigin(allowed ...string) func(http.Handler) http.Handler {
	set := make(map[string]bool, len(allowed))
	for _, origin := range allowed {
		if err := checkOrigin(origin); err != nil {
			panic(fmt.Sprintf("middleware: SameOrigin(%q): %v", origin, err))
		}
		set[origin] = true
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Add("Vary", "Origin, Sec-Fetch-Site")
			if err := checkRequest(r, set); err != nil {
				engine.Refuse(w, r, sse.Error(http.StatusForbidden, err))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// CrossOriginError reports that [SameOrigin] has refused a request of another origin's page.
type CrossOriginError struct {
	Origin string // the request's Origin header; "" if it has none, as for an image
	Site   string // its Sec-Fetch-Site header; "" if it has none
}

func (e *CrossOriginError) Error() string {
	return "a page of another origin has sent this request; only this server's own pages, and those of allowed origins, may"
}

// checkRequest returns a *CrossOriginError if a page of another origin, which is not one of
// allowed, has sent r.
//
// The rule is that of http.CrossOriginProtection, which cannot be used: it lets every GET pass,
// and so every EventSource. It also takes the host of an Origin for another one if the Host header
// names the default port, as some proxies do.
func checkRequest(r *http.Request, allowed map[string]bool) error {
	origin, site := r.Header.Get("Origin"), r.Header.Get("Sec-Fetch-Site")
	switch {
	case allowed[origin]:
	case site == "same-origin", site == "none":
	case site == "" && (origin == "" || isOriginOf(origin, r.Host)):
	default:
		return &CrossOriginError{Origin: origin, Site: site}
	}
	return nil
}

// isOriginOf reports whether origin has the host and port of a Host header. The scheme cannot be
// compared: behind a proxy, the server does not know its own.
func isOriginOf(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || defaultPorts[u.Scheme] == "" {
		return false // it is "null", or an app's
	}
	port := defaultPorts[u.Scheme]
	return strings.EqualFold(withPort(u.Host, port), withPort(host, port))
}

// withPort returns host with the port, if it has none.
func withPort(host, port string) string {
	u := url.URL{Host: host}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
}

// defaultPorts has the ports that an origin does not name.
var defaultPorts = map[string]string{"http": "80", "https": "443"}

// checkOrigin returns an error if origin is not as a browser sends it. The error says what is
// allowed.
func checkOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme == "" || u.Host == "" || origin != u.Scheme+"://"+u.Host || strings.Trim(u.Host, hostChars) != "" {
		return errors.New("must be scheme://host or scheme://host:port, such as https://app.example.com, in lower case, and without a path or a wildcard")
	}
	host, port := u.Hostname(), u.Port()
	if ip, err := netip.ParseAddr(host); strings.Contains(host, ":") && (err != nil || !ip.Is4In6() && ip.String() != host) {
		return errors.New("must have an IPv6 address in its shortest form, such as http://[2001:db8::1]:8080")
	}
	switch n, err := strconv.ParseUint(port, 10, 16); {
	case host == "", strings.HasSuffix(u.Host, ":"), port != "" && (err != nil || n == 0 || strconv.FormatUint(n, 10) != port):
		return errors.New("must have a port from 1 to 65535, or none")
	case port != "" && port == defaultPorts[u.Scheme]:
		return fmt.Errorf("must not have the port %s, since a browser sends the origin without it", port)
	}
	return nil
}

// hostChars has what the host and the port of an origin can consist of. A browser sends other
// characters as Punycode.
const hostChars = "abcdefghijklmnopqrstuvwxyz0123456789-._:[]"
