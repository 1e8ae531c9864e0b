package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	contentType = "text/event-stream"
	lastEventID = "Last-Event-Id" // as http.Header spells it

	// maxSentID bounds a Last-Event-ID, since servers refuse long headers, mostly
	// beyond 8 KiB: such an id would shut the client out for good.
	maxSentID = 4 << 10
)

// source makes the requests of a session, which are alike but for Last-Event-ID.
type source struct {
	template *http.Request
	prepare  func(*http.Request) error
	resend   bool
	sent     bool // template.Body is used up
	again    bool // the last request may be sent again
	away     bool // template goes where another host has sent it
}

func newSource(ctx context.Context, c *call) *source {
	method := cmp.Or(c.method, http.MethodGet)
	if c.method == "" && c.body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, "", c.body)
	if err != nil {
		panic("client: " + err.Error()) // the method has been checked
	}
	setMissing(c.header, "Accept", contentType)
	setMissing(c.header, "Cache-Control", "no-store")
	req.URL, req.Host, req.Header = c.url, c.host, c.header
	return &source{template: req, prepare: c.cfg.OnRequest, resend: c.cfg.Resend}
}

// request returns the request of the next connection. An error is for good.
func (s *source) request(ctx context.Context, lastID string) (*http.Request, error) {
	req := s.template.WithContext(ctx)
	req.Header = s.template.Header.Clone() // an http.Client adds its cookies to it
	if lastID != "" {
		req.Header[lastEventID] = []string{lastID}
	}
	var bodyErr error
	if s.sent && req.Body != nil && req.Body != http.NoBody {
		req.Body, bodyErr = nil, errNoBody
		if req.GetBody != nil {
			req.Body, bodyErr = req.GetBody()
		}
	}
	s.sent = true
	if s.prepare != nil {
		u := *req.URL
		req.URL = &u
		if err := s.prepare(req); err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
	}
	if req.Body == nil && bodyErr != nil {
		return nil, bodyErr
	}
	if s.away && sameHost(s.template.URL, req.URL) {
		keepImpersonal(req.Header)
	}
	s.again = s.resend || repeatable(req)
	return req, nil
}

var errNoBody = errors.New("client: the body cannot be sent again: it is no *bytes.Reader, *bytes.Buffer or *strings.Reader")

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

// repeatable reports whether req may be sent again without asking: its method is
// idempotent (RFC 9110 §9.2.2), and it has no body.
func repeatable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return req.Body == nil || req.Body == http.NoBody
	}
	return false
}

// headerValue returns id as it can be sent as Last-Event-ID, and whether it can. An
// id from a stream may hold control characters, which net/http refuses to send.
// Spaces at its ends are lost on the way in any case.
func headerValue(id string) (value string, ok bool) {
	value = strings.Trim(id, " \t")
	if len(value) > maxSentID {
		return "", false
	}
	if !printable(value) {
		return "", false
	}
	return value, true
}

// printable reports whether value can be that of a header field (RFC 9110 §5.5).
func printable(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return true
}

// token reports whether name can be that of a header field (RFC 9110 §5.6.2).
func token(name string) bool {
	for i := range len(name) {
		c := name[i]
		alphanumeric := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alphanumeric && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return name != ""
}

func setMissing(h http.Header, key, value string) {
	if len(h[key]) == 0 {
		h[key] = []string{value}
	}
}

// mediaType returns the value of a Content-Type without its parameters.
func mediaType(value string) string {
	value, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.Trim(value, " \t"))
}

// readUpTo reads r to its end, or to max bytes.
func readUpTo(r io.Reader, limit int64) []byte {
	if r == nil {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(r, limit)) // what there is of it
	return body
}
