// A connection of a session: it reads the response's body, applies the limits on how long
// and how far a read may go without news, and can be closed from any goroutine.

package client

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse/event"
)

// conn represents one connection of a session: a response's body, or the body of [Read].
// The goroutine that reads owns the fields below closed.
type conn struct {
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	body   io.Reader
	closed sync.Once

	// The limits on waiting. The timers run only within Read, so that the time that the
	// caller takes does not count, and so that none is left when the connection is dropped.
	idle       time.Duration // IdleTimeout, or 0
	idleTimer  *time.Timer   // closes the connection; nil until the first Read that needs it
	event      time.Duration // EventTimeout, or 0
	eventTimer *time.Timer   // as idleTimer
	waited     time.Duration // how long Read has waited since the last event, if event is set
	began      time.Time     // when the latest Read began, if event is set
	late       *TimeoutError // the limit that has been exceeded, or nil

	// Of the request, before its response is there; see guarded.
	redirected bool        // a redirect has turned it into a GET
	headSent   atomic.Bool // its header was sent
	sentOn     net.Conn    // the connection that it was last sent on
	resends    int         // how often net/http has sent it again on another connection

	got    bool // a byte has arrived
	events int  // how many events have arrived

	// The limit on bytes without an event.
	maxSilent   int       // the most in a silentTime, or 0 for no limit
	silent      int       // since the last event, and since silentSince
	silentSince time.Time // if maxSilent is set
}

// A decompressed stream may bring maxSilent bytes in a silentTime without an event. The
// limit is one on the rate because heartbeats go on for as long as the stream does. It is
// maxFraming times MaxEventSize, because an event of empty lines takes six bytes of the
// stream for each of its own. It is at least minSilent, which takes milliseconds to decode.
const (
	silentTime = time.Minute
	maxFraming = 6
	minSilent  = 1 << 20
)

// limitSilence limits how much the connection may bring without an event.
func (c *conn) limitSilence(maxEventSize int) {
	c.maxSilent = max(maxFraming*min(maxEventSize, math.MaxInt/maxFraming), minSilent)
	c.silentSince = time.Now()
}

// Read reads from the body. It waits for a byte no longer than IdleTimeout, and for the
// next event, over several calls, no longer than EventTimeout. The time between two calls
// of Read does not count.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.beforeRead(); err != nil {
		return 0, err
	}
	n, err := c.body.Read(p)
	c.afterRead(n)
	return n, err
}

// beforeRead starts the timers. It returns an error if a limit has been exceeded.
func (c *conn) beforeRead() error {
	if c.late != nil { // closing the body has not ended the read before this one
		return c.late
	}
	if c.maxSilent > 0 {
		if c.silent > c.maxSilent {
			return &event.TooLargeError{What: "stretch without an event", Limit: c.maxSilent}
		}
		if now := time.Now(); now.Sub(c.silentSince) >= silentTime {
			c.silent, c.silentSince = 0, now
		}
	}
	if c.idle > 0 {
		c.startTimer(&c.idleTimer, c.idle, "IdleTimeout", c.idle)
	}
	if c.event > 0 {
		c.began = time.Now()
		c.startTimer(&c.eventTimer, max(c.event-c.waited, 1), "EventTimeout", c.event)
	}
	return nil
}

// startTimer starts timer, which ends the connection after wait because limit, the value
// of option, is exceeded.
func (c *conn) startTimer(timer **time.Timer, wait time.Duration, option string, limit time.Duration) {
	if *timer != nil {
		(*timer).Reset(wait)
		return
	}
	*timer = time.AfterFunc(wait, func() {
		c.cancel(&TimeoutError{option, limit})
		c.close()
	})
}

// afterRead stops the timers after a read of n bytes.
func (c *conn) afterRead(n int) {
	if n > 0 {
		c.got = true
		c.silent += n
	}
	if c.idleTimer != nil && !c.idleTimer.Stop() {
		c.late = &TimeoutError{"IdleTimeout", c.idle}
	}
	if c.eventTimer != nil {
		if !c.eventTimer.Stop() && c.late == nil {
			c.late = &TimeoutError{"EventTimeout", c.event}
		}
		c.waited += time.Since(c.began)
	}
}

// gotEvent records that an event has arrived.
func (c *conn) gotEvent() {
	c.events++
	c.silent, c.waited = 0, 0
}

// timeoutOr returns the [*TimeoutError] that ended the connection, or err if none did.
// A timeout ends a connection by closing it, so err alone does not show it.
func (c *conn) timeoutOr(err error) error {
	if c.late != nil {
		return c.late
	}
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
// if the server ends the response now, and so that the server does not see a client that
// left. It reads for a bounded time only. The body must be one that close interrupts.
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
