// Redirects: which of them the http.Client may follow, and which header fields it sends
// to another host.

package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// redirectCheck returns the CheckRedirect of a session's http.Client. It refuses a URL
// that no request can go to, removes personal header fields once the redirects have left
// the first host, and then calls check, which is the caller's. If check is nil, it
// allows 10 requests, as net/http does.
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
		if err := checkURL(req.URL); err != nil {
			return fmt.Errorf("redirected to a URL that %w", err)
		}
		// net/http copies the header of the first request to every one that follows, even
		// after a redirect has left the first host. So the whole way is checked each time.
		left := func(r *http.Request) bool { return !sameHost(via[0].URL, r.URL) }
		if left(req) || slices.ContainsFunc(via, left) {
			removePersonal(req.Header)
		}
		req.Close = via[0].Close // as net/http does not
		markRedirect(req, via)
		if err := check(req, via); err != nil {
			return err
		}
		if resp := req.Response; resp != nil && resp.Body != nil {
			resp.Body = &redirectBody{ReadCloser: resp.Body}
		}
		return nil
	}
}

// redirectBody is the body of a redirect. net/http reads up to 2 KiB of it before it
// follows the redirect, so that the connection can be used again. That must not take
// longer than refusalTime, because the server may keep the body open.
type redirectBody struct {
	io.ReadCloser
	timer *time.Timer
}

func (b *redirectBody) Read(p []byte) (int, error) {
	if b.timer == nil {
		b.timer = time.AfterFunc(refusalTime, func() { _ = b.ReadCloser.Close() })
	}
	return b.ReadCloser.Read(p)
}

func (b *redirectBody) Close() error {
	if b.timer != nil {
		b.timer.Stop()
	}
	return b.ReadCloser.Close()
}

// followRedirects makes later requests go to the URL that redirects led the request of
// resp to.
func (s *requestSource) followRedirects(resp *http.Response) {
	to := resp.Request
	if to == nil || to.Response == nil {
		return // not redirected
	}
	next := s.template.WithContext(s.template.Context())
	next.Method, next.URL, next.Host = to.Method, to.URL, to.Host
	next.Header = s.template.Header.Clone()
	for hop := to; hop != nil && hop.Response != nil; hop = hop.Response.Request {
		s.leftHost = s.leftHost || !sameHost(s.template.URL, hop.URL) // stays true if another host redirects back
	}
	if s.leftHost {
		removePersonal(next.Header)
	}
	if to.Body == nil {
		next.Body, next.GetBody, next.ContentLength = nil, nil, 0
		next.Header.Del("Content-Type")
	}
	s.template = next
	s.idempotent.Store(repeatable(next))
}

// sameHost reports whether b may get the credentials that are meant for a: it has the
// same host, scheme and port, or https on port 443 in place of http on port 80.
func sameHost(a, b *url.URL) bool {
	if !strings.EqualFold(a.Hostname(), b.Hostname()) {
		return false
	}
	if a.Scheme == "http" && b.Scheme == "https" && port(a) == "80" && port(b) == "443" {
		return true
	}
	return a.Scheme == b.Scheme && port(a) == port(b)
}

// port returns the port of u, or the default of its scheme.
func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// impersonal lists the header fields that say nothing about the caller.
var impersonal = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control",
	"Content-Encoding", "Content-Language", "Content-Type", lastEventID, "User-Agent",
}

// removePersonal removes every field from h except the impersonal ones.
func removePersonal(h http.Header) {
	for key := range h {
		if !slices.Contains(impersonal, key) {
			delete(h, key)
		}
	}
}
