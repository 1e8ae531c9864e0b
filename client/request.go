package client

import (
	"cmp"
	"context"
	"errors"
	"net/http"
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

// repeatable reports whether req may be sent again without asking: its method is
// idempotent (RFC 9110 §9.2.2), and it has no body.
func repeatable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return req.Body == nil || req.Body == http.NoBody
	}
	return false
}
