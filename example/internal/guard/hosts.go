// Package guard has middleware that refuses requests that web pages of others could send.
package guard

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
)

// Hosts are the hosts that the server answers for, in addition to localhost,
// 127.0.0.1, and [::1].
type Hosts struct {
	Addr string   // the host in -addr; "" if it names none
	more []string // of -host, each as a browser sends it: the port is missing if it is 80
}

// Set adds a host. It implements flag.Value, for -host.
func (h *Hosts) Set(host string) error {
	if host == "" || strings.ContainsAny(host, "/ ") {
		return errors.New("must be a host and its port as in a URL, such as mybox:8080")
	}
	h.more = append(h.more, host)
	return nil
}

// String returns the hosts of -host. It implements flag.Value.
func (h *Hosts) String() string { return strings.Join(h.more, ", ") }

// Middleware passes on the requests whose Host is known, and answers all others with
// 421 Misdirected Request.
//
// The check defends against DNS rebinding. In that attack, a site that the user visits
// lets its own name resolve to 127.0.0.1, so its scripts reach this server. The browser
// takes the server for a part of that site and lets the scripts read everything. But it
// sends the site's name as Host, which this server does not know.
func (h *Hosts) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		known := h.known(r)
		if !slices.Contains(known, withPort(r.Host)) {
			http.Error(w, fmt.Sprintf("this server does not answer for the host %.100q, only for %s; "+
				"if that host is yours, add it with the server's flag -host", r.Host, strings.Join(known, ", ")),
				http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// known returns the hosts that r may be for, each with its port. Without -host, the
// port is the one that the request's connection came in on.
//
// The address of that connection's own end is known too. It is one of this machine, and
// a DNS name, which an attack needs, is never equal to it. With it, a server that
// listens on all addresses can be reached by each of them.
func (h *Hosts) known(r *http.Request) []string {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr) // net/http sets it
	ip, port, _ := net.SplitHostPort(local.String())
	names := []string{"localhost", "127.0.0.1", "::1", ip}
	if h.Addr != "" {
		names = append(names, h.Addr)
	}
	var known []string
	for _, name := range names {
		known = append(known, withPort(net.JoinHostPort(name, port)))
	}
	for _, host := range h.more {
		known = append(known, withPort(host))
	}
	slices.Sort(known)
	return slices.Compact(known)
}

// withPort returns a Host in lower case and with its port, which is 80 if it has none.
func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err != nil {
		host = net.JoinHostPort(strings.Trim(host, "[]"), "80")
	}
	return strings.ToLower(host)
}
