package client

import (
	"cmp"
	"context"
	"errors"
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
	sent     bool // template.Body is used up
	again    bool // Config.Resend, or the request is idempotent
	prepare  func(*http.Request) error
}

func newSource(ctx context.Context, c *call) (*source, error) {
	method := c.method
	switch {
	case method != "":
	case c.body != nil:
		method = http.MethodPost
	default:
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, "", c.body)
	if err != nil {
		return nil, &ConfigError{"request", "cannot be made: " + err.Error()}
	}
	req.URL, req.Host = c.url, cmp.Or(c.host, c.url.Host)
	setMissing(c.header, "Accept", contentType)
	setMissing(c.header, "Cache-Control", "no-store")
	req.Header = c.header
	return &source{
		template: req,
		again:    c.cfg.Resend || req.Body == nil && idempotent(method),
		prepare:  c.cfg.OnRequest,
	}, nil
}

// request returns the request of the next connection. An error is for good.
func (s *source) request(ctx context.Context, lastID string) (*http.Request, error) {
	req := s.template.WithContext(ctx)
	req.Header = s.template.Header.Clone() // an http.Client adds its cookies to it
	if lastID != "" {
		req.Header[lastEventID] = []string{lastID}
	}
	var bodyErr error
	if s.sent && req.Body != nil {
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
				req.Body.Close()
			}
			return nil, err
		}
	}
	if req.Body == nil && bodyErr != nil {
		return nil, bodyErr
	}
	return req, nil
}

var errNoBody = errors.New("client: the body cannot be sent again: it is no *bytes.Reader, *bytes.Buffer or *strings.Reader")

// follow makes later requests go to where redirects led the request of resp.
func (s *source) follow(resp *http.Response) {
	if resp.Request == nil || resp.Request.Response == nil {
		return // not redirected
	}
	to := *resp.Request
	next := s.template.WithContext(s.template.Context())
	next.Method, next.URL, next.Host = to.Method, to.URL, to.Host
	next.Header = s.template.Header.Clone()
	if !sameHost(s.template.URL, to.URL) {
		keepImpersonal(next.Header)
	}
	if to.Body == nil {
		next.Body, next.GetBody, next.ContentLength = nil, nil, 0
		next.Header.Del("Content-Type")
	}
	s.template = next
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
	"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Type", lastEventID, "User-Agent",
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

// idempotent is RFC 9110 §9.2.2.
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
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
