package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// balancer is a reverse proxy that sends each request to the server that is ready and has the
// fewest.
type balancer struct {
	*httptest.Server
	transport *http.Transport
	bad       atomic.Int64 // requests that no server has answered

	mu       sync.Mutex
	backends []*backend
}

// backend is a server as the balancer knows it.
type backend struct {
	*node
	ready atomic.Bool
}

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	b := &balancer{transport: &http.Transport{DisableKeepAlives: true}}
	b.Server = testkit.Serve(t, &httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {},
		Transport: b,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) {
			if r.Context().Err() == nil {
				b.bad.Add(1)
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	})
	return b
}

// add adds a server, and waits until it is ready. Every 10 ms the balancer asks whether it still is.
func (b *balancer) add(t *testing.T, n *node) {
	t.Helper()
	backend := &backend{node: n}
	b.mu.Lock()
	b.backends = append(b.backends, backend)
	b.mu.Unlock()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			backend.ready.Store(b.check(ctx, n))
			time.Sleep(10 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	testkit.Eventually(t, backend.ready.Load, "the server")
}

func (b *balancer) check(ctx context.Context, n *node) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.addr+"/ready", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := b.transport.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// RoundTrip implements http.RoundTripper. If a server does not answer, the next one is tried: all
// requests are GET.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	tried := make(map[*backend]bool)
	for {
		backend := b.pick(tried)
		if backend == nil {
			return nil, errors.New("no server is ready")
		}
		tried[backend] = true
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host = "http", backend.addr
		resp, err := b.transport.RoundTrip(out)
		left := sync.OnceFunc(func() { backend.open.Add(-1) })
		if err != nil {
			left()
			if r.Context().Err() != nil {
				return nil, err
			}
			continue
		}
		resp.Body = &counted{resp.Body, left}
		return resp, nil
	}
}

func (b *balancer) pick(tried map[*backend]bool) (best *backend) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range b.backends {
		if n.ready.Load() && !tried[n] && (best == nil || n.open.Load() < best.open.Load()) {
			best = n
		}
	}
	if best != nil {
		best.open.Add(1)
	}
	return best
}

// counted is a body that tells when it is closed.
type counted struct {
	io.ReadCloser
	left func()
}

func (c *counted) Close() error {
	c.left()
	return c.ReadCloser.Close()
}

// Two servers behind a balancer are replaced one after the other, while clients follow the feed and
// ask for answers. Nobody loses anything or gets it twice, and no browser gets a status that would
// stop it.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	for name, drain := range map[string]func(*server){
		"at once": func(*server) {},
		"over":    func(s *server) { s.over = 500 * time.Millisecond },
		"wait":    func(s *server) { s.wait = testkit.Patience },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testRollingRestart(t, drain)
		})
	}
}

func testRollingRestart(t *testing.T, drain func(*server)) {
	t.Helper()
	const followers, askers = 200, 20
	log := logtest.NewMemory(1)
	s := newServer(log)
	s.streams.Retry, s.streams.ShutdownSpread = 20*time.Millisecond, 200*time.Millisecond
	s.pace, s.notice = 10*time.Millisecond, 200*time.Millisecond
	drain(s)
	b := newBalancer(t)
	begin := func() *node {
		t.Helper()
		copied := *s
		n := start(t, &copied)
		b.add(t, n)
		return n
	}
	nodes := []*node{begin(), begin()}
	f := newFeed(t, log)

	var opened, answers atomic.Int64
	httpClient := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(httpClient.CloseIdleConnections)
	plain := newClient(httpClient)
	browser := newClient(httpClient, func(cfg *client.Config) {
		cfg.OnRequest = func(r *http.Request) error {
			r.Header.Set("User-Agent", "Mozilla/5.0")
			return nil
		}
		cfg.OnOpen = func(*http.Response) { opened.Add(1) }
		cfg.OnFailure = func(f client.Failure) client.Decision {
			if status, ok := errors.AsType[*client.StatusError](f.Err); ok {
				return client.Stop(status) // as EventSource does
			}
			return client.DefaultDecision(f)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*testkit.Patience)
	defer cancel()
	followed, asked := make(chan error, followers), make(chan error, askers)
	for i := range followers {
		c := plain
		if i%2 == 0 {
			c = browser
		}
		go func() { followed <- follow(ctx, c, b.URL) }()
	}
	testkit.Eventually(t, func() bool {
		return nodes[0].open.Load()+nodes[1].open.Load() == followers && opened.Load() == followers/2
	}, "the clients")
	assert.InDelta(t, followers/2, nodes[0].open.Load(), 10)
	var replaced atomic.Bool
	for range askers {
		go func() {
			var err error
			for err == nil && !replaced.Load() {
				err = ask(ctx, browser, b.URL)
				answers.Add(1)
			}
			asked <- err
		}()
	}
	published := make(chan struct{})
	go func() {
		defer close(published)
		for !replaced.Load() && assert.NoError(t, f.publish(ctx)) {
			time.Sleep(5 * time.Millisecond)
		}
	}()
	for _, old := range nodes {
		old.stop()
		err := testkit.Receive(t, old.done)
		require.NoError(t, err)
		begin()
	}
	replaced.Store(true)
	<-published
	f.end()
	for range followers {
		require.NoError(t, <-followed)
	}
	for range askers {
		require.NoError(t, <-asked)
	}
	t.Logf("%d events, %d answers, %d openings by browsers", f.n, answers.Load(), opened.Load())
	assert.Zero(t, b.bad.Load(), "requests that no server has answered")
}
