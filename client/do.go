// Do: a request whose response may be a stream or not.

package client

import (
	"context"
	"io"
	"net/http"
)

// Do sends a request that the server may answer with a stream or with an ordinary
// response, as MCP servers and LLM APIs do. It returns the session if the response opens a
// stream. Otherwise it returns the response as it is, with any status, also 204; the caller
// must close its body. Exactly one of the three results is not nil.
//
// Do makes further attempts as [Client.Session] does. If Config.OnFailure, or else
// [DefaultDecision], retries after a response, Do closes that response and tries again.
// After the last attempt Do returns the response.
//
// The error is an [*Error] if the server could not be reached or OnFailure stopped the
// session with an error, a [*ConfigError] if url or an option is invalid, or an error that
// matches ctx.Err().
func (c *Client) Do(ctx context.Context, url string, options ...Option) (*Session, *http.Response, error) {
	s, err := c.open(ctx, url, options, true)
	switch {
	case err == errResponse: //nolint:errorlint // never wrapped
		resp := s.Call()
		resp.Body = &sessionBody{resp.Body, s}
		return nil, resp, nil
	case err != nil:
		return nil, nil, err
	}
	return s, nil, nil
}

// sessionBody is the body of a response that the caller gets in place of the session.
// Closing it releases what the session has used.
type sessionBody struct {
	io.ReadCloser
	session *Session
}

func (b *sessionBody) Close() error {
	err := b.ReadCloser.Close()
	b.session.endWith(ErrClosed)
	return err
}
