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
// A response with status 2xx that is not a stream is returned at once. After another
// response, Do makes further attempts as [Client.Session] does: if Config.OnFailure, or
// else [DefaultDecision], retries, Do closes the response and tries again. After the last
// attempt, and if OnFailure decides Stop(nil), Do returns the response.
//
// ctx and the caller's Transport apply until the body is closed, but Config.OpenTimeout
// and the Timeout of the http.Client apply only until the header has arrived. By default
// the request accepts application/json and text/event-stream.
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

// sessionBody is the body of a response that the caller gets in place of the session. Its
// end, or closing it, releases what the session has used.
type sessionBody struct {
	io.ReadCloser
	session *Session
}

func (b *sessionBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.session.cancel(ErrClosed)
	}
	return n, err
}

func (b *sessionBody) Close() error {
	err := b.ReadCloser.Close()
	b.session.endWith(ErrClosed)
	return err
}
