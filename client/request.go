// The requests of a session: one for each connection, made from a template. Nothing here
// sends a request.

package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
)

// requestSource makes the requests of a session. They differ only in Last-Event-ID and
// in what OnRequest changes.
type requestSource struct {
	template  *http.Request
	onRequest func(*http.Request) error
	sent      bool // a request was made, so template.Body is used up
	leftHost  bool // redirects led through another host to the URL of template

	// ownConnection makes each further request use a connection that no other request
	// has used; see ownConnTransport.
	ownConnection bool

	// idempotent reports that the latest request, if there was one, may be sent again in any
	// ResendMode. Session.Reconnect reads it from other goroutines.
	idempotent atomic.Bool
}

func newRequestSource(ctx context.Context, c *call) *requestSource {
	method := cmp.Or(c.method, http.MethodGet)
	if c.method == "" && c.body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, "", c.body)
	if err != nil {
		panic("client: " + err.Error()) // the method has been checked
	}
	setDefaultField(c.header, "Accept", contentType)
	setDefaultField(c.header, "Cache-Control", "no-cache") // browsers also send Pragma, which only caches of HTTP/1.0 heed
	if !c.cfg.AcceptGzip {
		setDefaultField(c.header, "Accept-Encoding", "identity")
	}
	req.URL, req.Host, req.Header = c.url, c.host, c.header
	s := &requestSource{template: req, onRequest: c.cfg.OnRequest}
	s.idempotent.Store(true) // nothing was sent yet, so the first request is not sent again
	return s
}

// next returns the request of the next connection. lastID is the value of its
// Last-Event-ID, or empty for none. The error is that of OnRequest, or errNoBody.
func (s *requestSource) next(ctx context.Context, lastID string) (*http.Request, error) {
	req := s.template.WithContext(ctx)
	req.Header = s.template.Header.Clone() // a copy, because http.Client adds its cookies to it
	req.Close = s.ownConnection
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
	if s.onRequest != nil {
		u := *req.URL
		req.URL = &u
		if err := s.onRequest(req); err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
	}
	if req.Body == nil && bodyErr != nil {
		return nil, bodyErr
	}
	if s.leftHost && sameHost(s.template.URL, req.URL) {
		removePersonal(req.Header)
	}
	s.idempotent.Store(repeatable(req))
	return req, nil
}

// nextLastEventID returns the Last-Event-ID of the next request, or empty for none, and
// whether a header can carry the session's last event id.
func (s *Session) nextLastEventID() (value string, ok bool) {
	return lastEventIDValue(s.dec.LastEventID(), s.call.cfg.MaxLastEventID)
}

// checkRequest returns a Failure if OnRequest has made req one that net/http would refuse
// to send, and closes its body then. If the Failure for the same Last-Event-ID did not end
// the session before, checkRequest removes that header instead.
func (s *Session) checkRequest(req *http.Request) (f *Failure) {
	defer func() {
		if f != nil && req.Body != nil {
			_ = req.Body.Close()
		}
	}()
	if err := sendable(req); err != nil {
		return &Failure{Err: fmt.Errorf("client: OnRequest set %w", err), permanent: true}
	}
	for _, id := range req.Header[lastEventID] {
		if len(id) <= s.call.cfg.MaxLastEventID && validFieldValue(id) {
			continue
		}
		if id != s.unsentID {
			return s.idFailure(id)
		}
		req.Header.Del(lastEventID)
	}
	return nil
}

// sendable returns an error if req has a part, other than its Last-Event-ID, that no
// request can have. The error says what that part is, and does not repeat its secrets.
func sendable(req *http.Request) error {
	if req.URL == nil {
		return errors.New("no URL")
	}
	if err := checkURL(req.URL); err != nil {
		return fmt.Errorf("a URL that %w", err)
	}
	if req.Method != "" && !validToken(req.Method) {
		return fmt.Errorf("the method %s, which is not a valid HTTP method", quote(req.Method))
	}
	for name, values := range req.Header {
		if !validToken(name) {
			return fmt.Errorf("a header with the name %s, which is not a valid header name", quote(name))
		}
		if name != lastEventID && !allValid(values) {
			return fmt.Errorf("a value of the header %s that has control characters", clip(name))
		}
	}
	return nil
}

// idFailure returns the Failure of a request that was not made, because it cannot carry
// the last event id. The next request goes without it.
func (s *Session) idFailure(id string) *Failure {
	s.unsentID = id
	return &Failure{Err: &LastEventIDError{id, s.call.cfg.MaxLastEventID}, permanent: true}
}

var errNoBody = errors.New("client: the body cannot be sent again: it must be a *bytes.Reader, *bytes.Buffer or *strings.Reader, or OnRequest must set another")

// repeatable reports whether req may be sent again without Config.Resend: its method is
// idempotent (RFC 9110 §9.2.2), and it has no body.
func repeatable(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return req.Body == nil || req.Body == http.NoBody
	}
	return false
}
