package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// conn is one connection of a session: the body of a response, with a watch over
// the time it takes.
type conn struct {
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	body   io.Reader
	closed sync.Once

	idle  time.Duration // IdleTimeout, or 0
	watch *time.Timer   // once it was needed
}

// Read reads from the body, and waits for a byte for no longer than IdleTimeout.
// The time between reads does not count.
func (c *conn) Read(p []byte) (int, error) {
	if c.idle > 0 {
		c.arm()
	}
	n, err := c.body.Read(p)
	if c.watch != nil {
		c.watch.Stop()
	}
	return n, err
}

func (c *conn) arm() {
	if c.watch != nil {
		c.watch.Reset(c.idle)
		return
	}
	c.watch = time.AfterFunc(c.idle, func() {
		c.cancel(&TimeoutError{"IdleTimeout", c.idle})
		c.close()
	})
}

// cause returns why what was done with the connection failed, if err is how it
// shows.
func (c *conn) cause(err error) error {
	if timeout, ok := errors.AsType[*TimeoutError](context.Cause(c.ctx)); ok {
		return timeout
	}
	return err
}

// close ends the connection, and with it a Read that is under way. It may be called
// from any goroutine, and more than once.
func (c *conn) close() {
	c.cancel(nil)
	c.closed.Do(func() {
		if body, ok := c.body.(io.Closer); ok {
			_ = body.Close() // there is nothing that its error could be about
		}
	})
}
