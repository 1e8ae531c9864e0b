package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// kind is what happens to a connection.
type kind int

const (
	healthy   kind = iota // it reads, and leaves after some time
	slow                  // it reads a number of bytes a second
	pausing               // it stops reading for some time
	stalled               // it stops reading for good
	cut                   // it closes in mid-stream
	reset                 // it is reset in mid-stream
	vanishing             // its packets are dropped
	kinds
)

func (k kind) String() string {
	return [...]string{"healthy", "slow", "pausing", "stalled", "cut", "reset", "vanishing"}[k]
}

// conn is a connection of a client, or an attempt to have one.
type conn struct {
	*client
	number string
	kind   kind
	asked  []topic // in the request
	line   testkit.Line
	starts hub.Start // if it has no last event id
	from   string    // its last event id

	era atomic.Pointer[era] // nil until the handler runs

	once    sync.Once
	ended   chan struct{} // closed by OnClose
	end     sse.End
	cause   error
	endedAt time.Time

	checker
}

var connections atomic.Int64

// hasEnded notes the end of the session.
func (cn *conn) hasEnded(e sse.End, cause error) {
	cn.once.Do(func() {
		cn.end, cn.cause, cn.endedAt = e, cause, time.Now()
		close(cn.ended)
	})
}

func (cn *conn) subscription() hub.Subscription {
	sub := hub.Subscription{Topics: topicNames(cn.asked), Start: cn.starts, Slow: cn.policy, Info: cn}
	if cn.odd {
		sub.Filter = func(m *hub.Message) bool { return isOdd(m.Event.Data) }
	}
	return sub
}

// transport returns a transport whose connections line makes.
func (m *mode) transport(line *testkit.Line) *http.Transport {
	// An HTTP/2 connection is not idle yet when a stream has just been closed, so
	// CloseIdleConnections does not close it.
	tr := &http.Transport{Protocols: m.protocol.Protocols(), DialContext: line.DialContext, IdleConnTimeout: time.Second}
	if m.protocol.TLS {
		tr.TLSClientConfig = m.srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		tr.TLSClientConfig.ServerName = "example.com"
	}
	if line.Small {
		tr.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	}
	return tr
}

// open sends the request. The function that it returns gives up everything.
func (cn *conn) open(ctx context.Context) (*http.Response, func(), error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, cn.mode.srv.URL+"/?c="+cn.number, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	if cn.from != "" {
		r.Header.Set("Last-Event-ID", cn.from)
	}
	if cn.mode.old {
		return cn.openOld(ctx, r)
	}
	by, release := cn.mode.shared, func() {}
	if by == nil || cn.kind != healthy {
		tr := cn.mode.transport(&cn.line)
		by, release = &http.Client{Transport: tr}, tr.CloseIdleConnections
	}
	resp, err := by.Do(r)
	if err != nil {
		release()
		return nil, nil, err
	}
	return resp, func() { resp.Body.Close(); release() }, nil
}

// openOld is open over HTTP/1.0, which net/http's client does not speak.
func (cn *conn) openOld(ctx context.Context, r *http.Request) (*http.Response, func(), error) {
	c, err := cn.line.DialContext(ctx, "tcp", r.URL.Host)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	release := func() { stop(); c.Close() }
	text := "GET " + r.URL.RequestURI() + " HTTP/1.0\r\nHost: " + r.URL.Host + "\r\n"
	if cn.from != "" {
		text += "Last-Event-ID: " + cn.from + "\r\n"
	}
	var resp *http.Response
	if _, err = c.Write([]byte(text + "\r\n")); err == nil {
		resp, err = http.ReadResponse(bufio.NewReader(c), r)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return resp, release, nil
}

// connect has one connection, from the request to the end of the session.
func (c *client) connect(k kind) {
	cn := &conn{
		client: c, kind: k, number: strconv.FormatInt(connections.Add(1), 10), from: c.id,
		asked: slices.Clone(c.topics), ended: make(chan struct{}),
	}
	if c.r.IntN(5) == 0 {
		cn.starts = hub.Beginning
	}
	cn.line.Small = k != healthy
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if k == vanishing {
		var vanish, restore func()
		cn.line.Dial, vanish, restore = c.soak.network.vanisher(c.mode.remote)
		after := 100*time.Millisecond + exponential(c.r, time.Second)
		defer cn.background(func(over <-chan struct{}) { cn.vanish(after, vanish, restore, cancel, over) })()
	}
	c.mode.conns.Store(cn.number, cn)
	defer c.mode.conns.Delete(cn.number)

	before := c.mode.era.Load()
	head := before.hub.Position().Offset
	resp, release, err := cn.open(ctx)
	switch {
	case err != nil:
		if !c.soak.stopping() && ctx.Err() == nil && !isClosing(before) {
			cn.checkUnopened(err)
		}
		return
	case resp.StatusCode == http.StatusServiceUnavailable && (isClosing(before) || c.soak.stopping()):
		c.soak.refused.Add(1)
		release()
		return
	case resp.StatusCode != http.StatusOK:
		c.soak.fault("%v: connect: %s", cn, resp.Status)
		release()
		return
	}
	defer release()
	c.soak.connected[k].Add(1)
	cn.begin(before, head, resp.Header.Get(hub.GapHeader))
	if k == healthy {
		after := exponential(c.r, 7*time.Second)
		defer cn.background(func(over <-chan struct{}) {
			if pause(after, over, c.soak.stop); !c.soak.stopping() {
				cancel()
			}
		})()
	}
	cn.read(ctx, resp.Body, cancel)
	c.keep(cn)
}

// checkUnopened checks that there was a reason for err, which the client has got in place of a
// response.
func (cn *conn) checkUnopened(err error) {
	if cn.era.Load() == nil {
		if cn.mode.shared != nil { // over HTTP/2, net/http gives up a connection whose other side is not heard of for two seconds
			cn.soak.unreached.Add(1)
		} else {
			cn.soak.fault("%v: connect: %v", cn, err)
		}
		return
	}
	if !cn.soak.late.await(cn.ended) {
		cn.soak.fault("%v: connect: %v, but the session has not ended", cn, err)
		return
	}
	_, kicked := errors.AsType[*kick](cn.cause)
	cn.soak.noteEnd(cn.end.Reason, kicked, false)
	switch {
	case kicked, cn.end.Reason == sse.EndWriteTimeout:
	case cn.mode.protocol.Proto == "HTTP/2.0" && cn.end.Reason == sse.EndClientGone: // given up by the client's net/http, as above
		cn.soak.unreached.Add(1)
	default:
		cn.soak.fault("%v: connect: %v; the session has ended with %v: %v", cn, err, cn.end.Reason, cn.end.Err)
	}
}

// background runs f, and returns a function that tells it that the connection is over and
// waits for its end.
func (cn *conn) background(f func(over <-chan struct{})) (wait func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() { defer close(done); f(over) }()
	return func() { close(over); <-done }
}

// vanish makes the client vanish, and waits until the server has noticed.
func (cn *conn) vanish(after time.Duration, vanish, restore, cancel func(), over <-chan struct{}) {
	pause(after, over, cn.ended)
	if cn.era.Load() == nil || cn.isOver(over) {
		cancel()
		return
	}
	at := time.Now()
	vanish()
	defer restore()
	if cn.soak.late.await(cn.ended) {
		cn.soak.noteVanished(cn.endedAt.Sub(at))
	} else {
		cn.soak.fault("%v: %v after it vanished, the server has not noticed", cn, time.Since(at))
	}
	cancel()
}

func (cn *conn) isOver(over <-chan struct{}) bool {
	select {
	case <-over:
		return true
	case <-cn.ended:
		return true
	default:
		return false
	}
}

func isClosing(e *era) bool {
	select {
	case <-e.closing:
		return true
	default:
		return false
	}
}

func (cn *conn) String() string {
	return fmt.Sprintf("%s, %v connection %s (policy %d, odd %t, %d topics, from %q)", cn.mode.name, cn.kind, cn.number, cn.policy, cn.odd, len(cn.asked), cn.from)
}
