// Read: a session over a body that the caller has opened. It has one connection and
// makes no requests.

package client

import (
	"context"
	"io"
	"net/http"
)

// Read returns a session that reads a body which the caller has opened, such as the
// response of an SDK. It reads body to its end, or to the event that Config.Terminal
// names as the last one, and does not reconnect.
//
// If body is an io.Closer, the end of the session closes it, and so does Close. If it is
// not, nothing can interrupt a Read of body that waits, not even IdleTimeout.
//
// Read ignores the options that shape requests and reconnections. If another option is
// invalid, Incoming ends with its error.
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
	s.dec.Reset(s.buffer.attach(connection), c.lastID)
	if err != nil {
		s.endWith(err)
	}
	return s
}
