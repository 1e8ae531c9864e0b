package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for something that must happen. An election takes up to
// nine seconds, and a restart begins with one.
const patience = 60 * time.Second

// fakeNode serves h on a socket.
func fakeNode(t *testing.T, socket string, h http.HandlerFunc) *http.Server {
	t.Helper()
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return srv
}

// balance serves a balancer of n nodes, and returns its URL.
func balance(t *testing.T, n int) (b *balancer, url string) {
	t.Helper()
	var sockets []string
	dir := t.TempDir()
	for i := range n {
		sockets = append(sockets, fmt.Sprintf("%s/%d", dir, i))
	}
	b = newBalancer(sockets)
	srv := httptest.NewServer(b.handler())
	t.Cleanup(srv.Close)
	return b, srv.URL
}

// Streams are spread over the nodes. A node that does not run gets none, and the first ones
// when it is back.
func TestBalancerSpreadsStreams(t *testing.T) {
	t.Parallel()
	b, url := balance(t, 3)
	var open [3]atomic.Int64
	start := func(i int) *http.Server {
		return fakeNode(t, b.sockets[i], func(w http.ResponseWriter, r *http.Request) {
			assert.Equal(t, strings.TrimPrefix(url, "http://"), r.Host)
			open[i].Add(1)
			defer open[i].Add(-1)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
	}
	counts := func() [3]int64 { return [3]int64{open[0].Load(), open[1].Load(), open[2].Load()} }
	get := func(n int) {
		for range n {
			resp, err := http.Get(url)
			require.NoError(t, err)
			t.Cleanup(func() { _ = resp.Body.Close() })
		}
	}
	start(0)
	second := start(1)
	get(6)
	require.Equal(t, [3]int64{3, 3, 0}, counts())
	start(2)
	get(3)
	require.Equal(t, [3]int64{3, 3, 3}, counts())
	require.NoError(t, second.Close())
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.open[1] == 0 && open[1].Load() == 0
	}, patience, time.Millisecond)
	get(2)
	require.Equal(t, [3]int64{4, 0, 4}, counts())
	start(1)
	get(4)
	require.Equal(t, [3]int64{4, 4, 4}, counts())
}

// A request waits until a node runs.
func TestBalancerWaits(t *testing.T) {
	t.Parallel()
	b, url := balance(t, 2)
	time.AfterFunc(200*time.Millisecond, func() {
		fakeNode(t, b.sockets[1], func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	})
	resp, err := http.Post(url, "text/plain", strings.NewReader("Hello"))
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "Hello", string(text))
}

// A request that may have been carried out is not sent again. EventSource, which gives up after
// an error, is told of it by a lost connection.
func TestBalancerSendsOnce(t *testing.T) {
	t.Parallel()
	b, url := balance(t, 2)
	var mu sync.Mutex
	var got []string
	for _, socket := range b.sockets {
		fakeNode(t, socket, func(_ http.ResponseWriter, r *http.Request) {
			mu.Lock()
			got = append(got, r.Method)
			mu.Unlock()
			panic(http.ErrAbortHandler)
		})
	}
	resp, err := http.Post(url, "text/plain", strings.NewReader("Hello"))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusBadGateway, resp.StatusCode)

	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	req.Header.Set("Accept", "text/event-stream")
	_, err = (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.Error(t, err)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, []string{http.MethodPost, http.MethodGet}, got)
}
