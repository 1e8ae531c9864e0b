// A connection of a session: it reads the response's body, applies the limits on how long
// and how far a read may go without news, and can be closed from any goroutine.

package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/chi-sse/sse/event"
)

// conn represents one connection of a session: a response's body, or the body of [Read].
type conn struct {
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	body   io.Reader
	closed sync.Once

	idle    time.Duration // IdleTimeout, or 0
	timer   *time.Timer   // closes the connection after idle; nil until the first Read that needs it
	waiting *time.Timer   // closes the connection after EventTimeout; nil until the first event is awaited
	waits   bool          // waiting is running

	got    bool // a byte has arrived
	events int  // how many events have arrived

	maxSilent int // the most bytes without an event, or 0 for no limit
	silent    int // bytes since the last event, if maxSilent is set
}

// Read reads from the body. It waits for a byte no longer than IdleTimeout. The time
// between two calls of Read does not count.
func (c *conn) Read(p []byte) (int, error) {
	if c.maxSilent > 0 && c.silent > c.maxSilent {
		return 0, &event.TooLargeError{What: "stretch without an event", Limit: c.maxSilent}
	}
	if c.idle > 0 {
		c.startTimer()
	}
	n, err := c.body.Read(p)
	if c.timer != nil {
		c.timer.Stop()
	}
	if n > 0 {
		c.got = true
		c.silent += n
	}
	return n, err
}

func (c *conn) startTimer() {
	if c.timer != nil {
		c.timer.Reset(c.idle)
		return
	}
	c.timer = c.closeAfter(&TimeoutError{"IdleTimeout", c.idle})
}

// awaitEvent starts EventTimeout, unless it is running already.
func (c *conn) awaitEvent(limit time.Duration) {
	switch {
	case c.waits:
		return
	case c.waiting == nil:
		c.waiting = c.closeAfter(&TimeoutError{"EventTimeout", limit})
	default:
		c.waiting.Reset(limit)
	}
	c.waits = true
}

// gotEvent records that an event has arrived.
func (c *conn) gotEvent() {
	c.events++
	c.silent = 0
	if c.waits {
		c.waits = false
		c.waiting.Stop()
	}
}

// closeAfter returns a timer that ends the connection because of timeout.
func (c *conn) closeAfter(timeout *TimeoutError) *time.Timer {
	return time.AfterFunc(timeout.Limit, func() {
		c.cancel(timeout)
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

// How far and how long drain reads.
const (
	drainBytes = 64 << 10
	drainTime  = 100 * time.Millisecond
)

// drain reads on after the terminal event, so that net/http can use the connection again
// if the server ends the response now. It reads for a bounded time only. The body must be
// one that close interrupts.
func (c *conn) drain() {
	timer := time.AfterFunc(drainTime, c.close)
	defer timer.Stop()
	_, _ = io.CopyN(io.Discard, c.body, drainBytes) // an error only means that the connection is not used again
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
