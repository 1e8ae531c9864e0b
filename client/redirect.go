package client

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// redirectCheck returns the CheckRedirect of a client whose caller wants check.
func redirectCheck(check func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	if check == nil {
		check = func(_ *http.Request, via []*http.Request) error {
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		}
	}
	return func(req *http.Request, via []*http.Request) error {
		if err := reachable(req.URL); err != nil {
			return fmt.Errorf("redirected to a URL that %w", err)
		}
		// Once away from the first host, net/http copies the header of the first
		// request all the same to each that follows, so each is looked at.
		away := func(r *http.Request) bool { return !sameHost(via[0].URL, r.URL) }
		if away(req) || slices.ContainsFunc(via, away) {
			keepImpersonal(req.Header)
		}
		return check(req, via)
	}
}

// follow makes later requests go to where redirects led the request of resp.
func (s *source) follow(resp *http.Response) {
	to := resp.Request
	if to == nil || to.Response == nil {
		return // not redirected
	}
	next := s.template.WithContext(s.template.Context())
	next.Method, next.URL, next.Host = to.Method, to.URL, to.Host
	next.Header = s.template.Header.Clone()
	for hop := to; hop != nil && hop.Response != nil; hop = hop.Response.Request {
		s.away = s.away || !sameHost(s.template.URL, hop.URL) // and stays so, if another host sends it back
	}
	if s.away {
		keepImpersonal(next.Header)
	}
	if to.Body == nil {
		next.Body, next.GetBody, next.ContentLength = nil, nil, 0
		next.Header.Del("Content-Type")
	}
	s.template = next
	s.again = s.resend || repeatable(next)
}

// sameHost reports whether what may be told to a may be told to b.
func sameHost(a, b *url.URL) bool {
	if !strings.EqualFold(a.Hostname(), b.Hostname()) {
		return false
	}
	if a.Scheme == "http" && b.Scheme == "https" && port(a) == "80" && port(b) == "443" {
		return true
	}
	return a.Scheme == b.Scheme && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// impersonal are the header fields that say nothing about who asks.
var impersonal = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control",
	"Content-Encoding", "Content-Language", "Content-Type", lastEventID, "User-Agent",
}

func keepImpersonal(h http.Header) {
	for key := range h {
		if !slices.Contains(impersonal, key) {
			delete(h, key)
		}
	}
}
