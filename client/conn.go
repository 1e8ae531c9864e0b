// A connection of a session: it reads the response's body, applies IdleTimeout, and can
// be closed from any goroutine.

package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// conn represents one connection of a session: a response's body, with a limit on how
// long a read may wait.
type conn struct {
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	body   io.Reader
	closed sync.Once

	idle  time.Duration // IdleTimeout, or 0
	timer *time.Timer   // closes the connection after idle; nil until the first Read that needs it
}

// Read reads from the body. It waits for a byte no longer than IdleTimeout. The time
// between two calls of Read does not count.
func (c *conn) Read(p []byte) (int, error) {
	if c.idle > 0 {
		c.startTimer()
	}
	n, err := c.body.Read(p)
	if c.timer != nil {
		c.timer.Stop()
	}
	return n, err
}

func (c *conn) startTimer() {
	if c.timer != nil {
		c.timer.Reset(c.idle)
		return
	}
	c.timer = time.AfterFunc(c.idle, func() {
		c.cancel(&TimeoutError{"IdleTimeout", c.idle})
		c.close()
	})
}

// timeoutOr returns the [*TimeoutError] that ended the connection, or err if none did.
// A timeout ends a connection by closing it, so err alone does not show it.
func (c *conn) timeoutOr(err error) error {
	if timeout, ok := errors.AsType[*TimeoutError](context.Cause(c.ctx)); ok {
		return timeout
	}
	return err
}

// close ends the connection, and with it a Read that waits. It may be called from any
// goroutine, and more than once.
func (c *conn) close() {
	c.cancel(nil)
	c.closed.Do(func() {
		if body, ok := c.body.(io.Closer); ok {
			_ = body.Close() // the connection is given up, so its error says nothing
		}
	})
}
