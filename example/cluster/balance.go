package main

import (
	"cmp"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxDial is how long a request waits for a node, if none takes connections.
const maxDial = 15 * time.Second

// balancer connects each request to the node that has the fewest of them. A stream is a
// request as long as it is open, so the streams are spread over the nodes. A client that
// comes back may get any node: all of them have what it missed.
type balancer struct {
	sockets []string

	mu   sync.Mutex
	open []int // connections, by node
	turn int   // the node that is the first among equals
}

// newBalancer returns a balancer of the nodes with these sockets.
func newBalancer(sockets []string) *balancer {
	return &balancer{sockets: sockets, open: make([]int, len(sockets))}
}

// handler passes requests to the nodes.
//
// Each request gets a connection of its own. If a node does not take it, another one gets
// the request. Once it is sent it is not sent again, since a node that dies may have carried
// it out: the client of a POST gets status 502, and knows best whether to repeat it.
func (b *balancer) handler() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "node" // dial chooses one; the header Host stays
			r.SetXForwarded()
		},
		Transport:     &http.Transport{DialContext: b.dial, DisableKeepAlives: true, DisableCompression: true},
		FlushInterval: -1, // pass on each event at once
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) {
			// EventSource reconnects after a lost connection, but gives up after an error.
			if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
				panic(http.ErrAbortHandler)
			}
			http.Error(w, "the node does not answer; try again in a moment", http.StatusBadGateway)
		},
	}
}

// dial connects to a node. It waits if there is none.
func (b *balancer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, maxDial)
	defer cancel()
	for {
		var err error
		for _, node := range b.choose() {
			var conn net.Conn
			if conn, err = new(net.Dialer).DialContext(ctx, "unix", b.sockets[node]); err == nil {
				b.count(node, 1)
				return &counted{Conn: conn, closed: sync.OnceFunc(func() { b.count(node, -1) })}, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// choose returns the nodes, those with the fewest connections first.
func (b *balancer) choose() (nodes []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.sockets {
		nodes = append(nodes, (b.turn+i)%len(b.sockets))
	}
	b.turn++
	slices.SortStableFunc(nodes, func(x, y int) int { return cmp.Compare(b.open[x], b.open[y]) })
	return nodes
}

func (b *balancer) count(node, by int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[node] += by
}

// counted is a connection to a node.
type counted struct {
	net.Conn
	closed func()
}

func (c *counted) Close() error {
	c.closed()
	return c.Conn.Close()
}
