package client

import (
	"context"
	"io"
)

// Read returns a session over a body that somebody else has opened, such as the
// response of an SDK. It reads body to its end, or to the event that
// Config.Terminal waits for, and does not reconnect. If body is an io.Closer, Close,
// and the end of the session, closes it.
//
// Options that shape requests and reconnections mean nothing here. If another makes
// no sense, that is the error that Incoming ends with.
func Read(body io.Reader, options ...Option) *Session {
	c := &call{header: make(map[string][]string)}
	err := c.apply(options)
	s := newSession(context.Background(), c)
	s.err = err
	connection := &conn{idle: c.cfg.IdleTimeout, body: body}
	connection.ctx, connection.cancel = context.WithCancelCause(s.ctx)
	s.conn = connection
	s.dec.Reset(s.buffer.from(connection), c.lastID)
	return s
}
