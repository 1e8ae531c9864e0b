package client

import (
	"context"
	"io"
	"net/http"
)

// Read returns a session over a body that somebody else has opened, such as the
// response of an SDK. It reads body to its end, or to the event that
// Config.Terminal waits for, and does not reconnect. If body is an io.Closer, Close,
// and the end of the session, closes it; otherwise nothing can interrupt a Read of it
// that waits, IdleTimeout included.
//
// Options that shape requests and reconnections mean nothing here. If another makes
// no sense, that is the error that Incoming ends with.
func Read(body io.Reader, options ...Option) *Session {
	c := &call{cfg: Config{}.withDefaults(0), header: make(http.Header)}
	err := c.apply(options, 0)
	if err != nil {
		c.cfg = Config{}.withDefaults(0)
	}
	s := newSession(context.Background(), c)
	connection := &conn{idle: c.cfg.IdleTimeout, body: body}
	connection.ctx, connection.cancel = context.WithCancelCause(s.ctx)
	s.conn = connection
	s.dec.Reset(s.buffer.begin(connection), c.lastID)
	if err != nil {
		s.finish(err)
	}
	return s
}
