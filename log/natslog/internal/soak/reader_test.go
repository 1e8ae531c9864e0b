//go:build unix

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/hub"
)

// reader is a client, which reads from all nodes in turn and resumes where it was.
type reader struct {
	s      *soak
	name   string
	index  int
	rng    *rand.Rand
	topics []string
	follow map[string]bool // the same
	habit

	hurry  atomic.Bool   // it is to catch up, without pauses
	cursor atomic.Uint64 // it has everything up to here, except in gaps
	id     string        // its last event id

	mu          sync.Mutex
	segments    []*segment // the last one goes on
	connections []*connection
}

// habit is how a reader reads.
type habit struct {
	raw    bool          // it looks at the bytes
	stay   int           // after about how many events it leaves; 0 for never
	away   time.Duration // about how long it then stays away
	pause  time.Duration // after each event, for a while
	buffer int           // of its socket, in bytes; 0 for what the system says
}

// segment is what a reader has got between two gaps.
type segment struct {
	after, upTo uint64   // where it begins and ends
	got         []uint64 // the offsets of events
	gap         hub.Gap  // that ends it
}

// connection is a connection of a reader, or an attempt.
type connection struct {
	id   string
	node int
	most uint64 // the highest offset that came
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil && !r.s.failed() {
		if r.raw {
			r.readRaw(ctx)
		} else if err := r.readClient(ctx); err != nil && ctx.Err() == nil {
			r.s.fail("%s: %v", r.name, err)
			return
		}
		if r.away > 0 {
			for until := time.Now().Add(r.away/2 + time.Duration(r.rng.Int64N(int64(r.away)))); time.Now().Before(until) && !r.hurry.Load() && ctx.Err() == nil; {
				time.Sleep(5 * time.Millisecond)
			}
		}
	}
}

// choose chooses the node for the next connection, and returns its URL.
func (r *reader) choose() *url.URL {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &connection{id: fmt.Sprint(r.index, "-", r.s.connections.Add(1)), node: r.rng.IntN(len(r.s.nodes))}
	r.connections = append(r.connections, c)
	start := "now"
	if r.id == "" || r.rng.IntN(2) == 0 {
		start = "beginning"
	}
	q := url.Values{"connection": {c.id}, "topics": {strings.Join(r.topics, ",")}, "start": {start}}
	return &url.URL{Scheme: "http", Host: r.s.nodes[c.node].cfg.HTTP, Path: "/events", RawQuery: q.Encode()}
}

// leaves reports whether the reader leaves after so many events.
func (r *reader) leaves(n int) bool {
	return r.stay > 0 && !r.hurry.Load() && r.rng.IntN(r.stay) == 0 && n > 1
}

// rest rests after an event.
func (r *reader) rest(n int) {
	if r.pause > 0 && n/200%2 == 0 && !r.hurry.Load() {
		time.Sleep(r.pause)
	}
}

// retryWait is how long a reader waits before it goes to another node.
func (r *reader) retryWait() time.Duration {
	return time.Duration(10+r.rng.IntN(100)) * time.Millisecond
}

// readClient reads with package client until ctx ends, or the reader leaves.
func (r *reader) readClient(ctx context.Context) error {
	transport := &http.Transport{DialContext: r.dial, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	c := client.Install(&http.Client{Transport: transport}, client.Config{
		MaxReconnectionAttempts: client.Unlimited,
		OnFailure:               func(client.Failure) client.Decision { return client.RetryIn(r.retryWait()) },
		OnRequest:               func(req *http.Request) error { req.URL = r.choose(); req.Host = ""; return nil },
		OnOpen:                  func(*http.Response) { r.s.opened.Add(1) },
		OpenTimeout:             8 * time.Second,
		IdleTimeout:             4 * beat,
		Logger:                  slog.New(slog.DiscardHandler),
	})
	var options []client.Option
	if r.id != "" {
		options = append(options, client.WithLastEventID(r.id))
	}
	return c.SSE(ctx, "http://chosen.invalid/", func(s *client.Session) error {
		defer func() { r.id = s.LastEventID() }()
		n := 0
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			if err := r.take(ev.ID, ev.Name, ev.Data); err != nil {
				return err
			}
			if n++; r.leaves(n) {
				return nil
			}
			r.rest(n)
		}
		return nil
	}, options...)
}

// dial connects with the reader's buffer.
func (r *reader) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err == nil && r.buffer > 0 {
		_ = conn.(*net.TCPConn).SetReadBuffer(r.buffer)
	}
	return conn, err
}

// take checks and notes an event.
func (r *reader) take(id, name, data string) error {
	at, err := hub.ParsePosition(id)
	if err != nil {
		return fmt.Errorf("the event %s with %.100q: %w", name, data, err)
	}
	if name == hub.GapEvent {
		return r.takeGap(at, data)
	}
	e, err := r.s.ledger.deliver(data, at)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.connections[len(r.connections)-1]
	switch {
	case name != "":
		return fmt.Errorf("%v has the name %s", at, name)
	case !r.follow[e.Topic]:
		return fmt.Errorf("%v is of %s, which it does not follow", at, e.Topic)
	case at.Offset <= r.cursor.Load():
		return fmt.Errorf("%v comes twice or late: it has everything up to %d, on connection %s of node %d", at, r.cursor.Load(), c.id, c.node)
	}
	last := r.segments[len(r.segments)-1]
	last.got = append(last.got, at.Offset)
	c.most = max(c.most, at.Offset)
	r.cursor.Store(at.Offset)
	return nil
}

// takePosition notes an id that comes without an event.
func (r *reader) takePosition(at hub.Position) error {
	if at.Epoch != r.s.ledger.epochNow() || at.Offset < r.cursor.Load() {
		return fmt.Errorf("it is told the position %v after %d", at, r.cursor.Load())
	}
	r.cursor.Store(at.Offset)
	return nil
}

// takeGap checks and notes a gap.
func (r *reader) takeGap(at hub.Position, data string) error {
	var gap hub.Gap
	if err := json.Unmarshal([]byte(data), &gap); err != nil {
		return fmt.Errorf("a gap with %.100q: %w", data, err)
	}
	from, err := hub.ParsePosition(gap.LastEventID)
	switch {
	case err != nil:
		return fmt.Errorf("a gap with %s: %w", data, err)
	case gap.Position != at || gap.Snapshot:
		return fmt.Errorf("a gap at %v with %s", at, data)
	case from.Epoch != at.Epoch || at.Epoch != r.s.ledger.epochNow():
		return fmt.Errorf("a gap at %v with another epoch: %s", at, data)
	case from.Offset < r.cursor.Load():
		return fmt.Errorf("a gap from %v at %v, but it has everything up to %d", from, at, r.cursor.Load())
	}
	if err := r.s.noteGap(gap.Reason, from.Offset, at.Offset); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.segments[len(r.segments)-1]
	last.upTo, last.gap = from.Offset, gap
	r.segments = append(r.segments, &segment{after: at.Offset})
	r.cursor.Store(at.Offset)
	return nil
}
