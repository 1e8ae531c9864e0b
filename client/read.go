// Read: a session over a body that the caller has opened. It has one connection and
// makes no requests.

package client

import (
	"context"
	"io"
	"net/http"
)

// Read returns a session that reads an event stream from body, such as a file or a pipe;
// for a response, see [ReadResponse]. It reads body to its end, or to the event that
// Config.Terminal names as the last one, and does not reconnect. When ctx is done, the
// session ends with an error that matches ctx.Err().
//
// If body is an io.Closer, the end of the session closes it, and so do Close and the end
// of ctx. If it is not, nothing can interrupt a Read of body that waits, not even
// IdleTimeout.
//
// Read ignores the options that shape requests and reconnections. Config.OnFailure is
// called when body has ended, except after a terminal event: the Failure is Final, and a
// decision to retry counts as Stop(nil). If another option is invalid, Incoming ends with
// its error.
func Read(ctx context.Context, body io.Reader, options ...Option) *Session {
	return read(ctx, nil, body, options)
}

// ReadResponse returns a session that reads the body of a response that the caller has
// received, for example from an SDK. It does what [Read] does, and errors have the
// response. If Config.CheckResponse refuses the response, Incoming ends with an [*Error]
// as [Client.Session] would return it; ReadResponse itself then waits for the body, for at
// most half a second. A response with status 204 has no events.
func ReadResponse(ctx context.Context, resp *http.Response, options ...Option) *Session {
	body := resp.Body
	if body == nil {
		body = http.NoBody
	}
	s := read(ctx, resp, body, options)
	if s.err != nil {
		return s
	}
	if resp.StatusCode == http.StatusNoContent {
		s.endWith(errEnd)
		return s
	}
	if f := s.checkResponse(s.conn, resp); f != nil {
		why := ErrClosed // if OnFailure panics
		defer func() { s.endWith(why) }()
		if why = s.stopError(); why == nil {
			why = s.afterOnlyConnection(f)
		}
	}
	return s
}

// read returns the session of Read, or of ReadResponse if resp is not nil.
func read(ctx context.Context, resp *http.Response, body io.Reader, options []Option) *Session {
	c := &call{cfg: Config{}.withDefaults(), header: make(http.Header)}
	err := c.apply(options)
	if err != nil {
		c.cfg = Config{}.withDefaults()
	}
	s := newSession(ctx, c)
	s.resp = resp
	connection := &conn{idle: c.cfg.IdleTimeout, event: c.cfg.EventTimeout, body: body}
	connection.ctx, connection.cancel = context.WithCancelCause(s.ctx)
	context.AfterFunc(connection.ctx, connection.close)
	s.conn = connection
	s.dec.Reset(s.buffer.attach(connection), c.lastID)
	if err != nil {
		s.endWith(err)
	}
	return s
}
