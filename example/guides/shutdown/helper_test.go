package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// node is a server that runs.
type node struct {
	addr string
	ctx  context.Context // of its server; /ready says 503 when it is done
	stop func()          // sends the signal
	done chan error      // receives what serve returns

	listener *testkit.PipeListener // in a bubble
	open     atomic.Int64          // connections of a pool's
}

// start starts s on a socket. The end of the test stops it, if the test does not.
func start(t *testing.T, s *server) *node {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return startOn(t, s, l)
}

// startPipe starts s in a bubble.
func startPipe(t *testing.T, s *server) *node {
	t.Helper()
	l := testkit.NewPipeListener()
	n := startOn(t, s, l)
	n.listener = l
	return n
}

func startOn(t *testing.T, s *server, l net.Listener) *node {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	n := &node{addr: l.Addr().String(), ctx: ctx, stop: stop, done: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.done <- s.serve(ctx, l)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return n
}

// newServer returns a server of log.
func newServer(log hub.Log) *server {
	return &server{
		log:     log,
		streams: sse.Config{Retry: 2 * time.Second, Logger: slog.New(slog.DiscardHandler)},
		maxAge:  24 * time.Hour,
		pace:    200 * time.Millisecond,
		timeout: sse.DefaultDrainTimeout,
	}
}

// feed publishes to the feed, as another program does that has the log.
type feed struct {
	t   *testing.T
	hub *hub.Hub
	n   int
}

func newFeed(t *testing.T, log *logtest.Memory) *feed {
	t.Helper()
	h, err := hub.Open(t.Context(), hub.Config{Log: log})
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Shutdown(context.Background()) })
	return &feed{t: t, hub: h}
}

// publish publishes the next number.
func (f *feed) publish(ctx context.Context) error {
	_, err := f.hub.Publish(ctx, topic, sse.Event{Data: strconv.Itoa(f.n)})
	f.n++
	return err
}

// end publishes what ends each follower.
func (f *feed) end() {
	f.t.Helper()
	_, err := f.hub.Publish(f.t.Context(), topic, sse.Event{Name: "end", Data: strconv.Itoa(f.n)})
	require.NoError(f.t, err)
}

// follow follows the feed until its end. It returns an error unless each number has come once, in
// order.
func follow(ctx context.Context, c *client.Client, base string, options ...client.Option) error {
	next, ended := 0, false
	err := c.SSE(ctx, base+"/feed", func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			if ev.Data != strconv.Itoa(next) {
				return fmt.Errorf("event %q (%s) has come in place of %d", ev.Data, ev.Name, next)
			}
			if ended = ev.Name == "end"; ended {
				return nil
			}
			next++
		}
		return nil
	}, options...)
	if err == nil && !ended {
		err = errors.New("the feed has ended early")
	}
	return err
}

// ask reads an answer to its end. It returns an error unless each word has come once, in order.
func ask(ctx context.Context, c *client.Client, base string, options ...client.Option) error {
	n := 0
	err := c.SSE(ctx, base+"/answer", func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			if err != nil {
				return err
			}
			if n == len(words) || ev.Data != words[n] {
				return fmt.Errorf("word %d is %q", n, ev.Data)
			}
			n++
		}
		return nil
	}, options...)
	if err == nil && n < len(words) {
		err = fmt.Errorf("the answer has ended after %d words", n)
	}
	return err
}

// newClient returns a client that reconnects forever.
func newClient(httpClient *http.Client, options ...func(*client.Config)) *client.Client {
	cfg := client.Config{MaxReconnectionAttempts: client.Unlimited, Logger: slog.New(slog.DiscardHandler)}
	for _, option := range options {
		option(&cfg)
	}
	return client.Install(httpClient, cfg)
}

// pool is a balancer of connections in a bubble. Each goes to the server that is ready and has the
// fewest.
type pool struct {
	mu    sync.Mutex
	nodes []*node
	dials []time.Time
}

func (p *pool) add(n *node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nodes = append(p.nodes, n)
}

// client returns a client that uses each connection once.
func (p *pool) client() *client.Client {
	return newClient(&http.Client{Transport: &http.Transport{DialContext: p.dial, DisableKeepAlives: true}})
}

func (p *pool) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	p.mu.Lock()
	var best *node
	for _, n := range p.nodes {
		if n.ctx.Err() == nil && (best == nil || n.open.Load() < best.open.Load()) {
			best = n
		}
	}
	p.dials = append(p.dials, time.Now())
	if best == nil {
		p.mu.Unlock()
		return nil, errors.New("no server is ready")
	}
	best.open.Add(1)
	p.mu.Unlock()
	left := sync.OnceFunc(func() { best.open.Add(-1) })
	conn, err := best.listener.DialContext(ctx, network, addr)
	if err != nil {
		left()
		return nil, err
	}
	return &pooled{conn, left}, nil
}

// since returns the number of dials in each slot that has any, from a time on.
func (p *pool) since(began time.Time, slot time.Duration) map[int]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	slots := make(map[int]int)
	for _, at := range p.dials {
		if !at.Before(began) {
			slots[int(at.Sub(began)/slot)]++
		}
	}
	return slots
}

// pooled is a connection that tells when it is closed.
type pooled struct {
	net.Conn
	left func()
}

func (c *pooled) Close() error {
	c.left()
	return c.Conn.Close()
}
