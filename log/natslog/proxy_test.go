package natslog

import (
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

var (
	proxiesMu sync.Mutex
	proxies   = make(map[*nats.Conn]*testkit.Proxy)
)

// connectByProxy connects to the server at a URL through a proxy of its own.
func connectByProxy(t testing.TB, server string, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	u, err := url.Parse(server)
	require.NoError(t, err)
	p := testkit.NewProxy(t, u.Host)
	nc, err := nats.Connect("nats://"+p.Addr(), append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond), nats.ReconnectJitter(0, 0), nats.IgnoreDiscoveredServers()}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	proxiesMu.Lock()
	defer proxiesMu.Unlock()
	proxies[nc] = p
	return newJetStream(t, nc)
}

// proxyOf returns the proxy through which l is connected.
func proxyOf(l *Log) *testkit.Proxy {
	proxiesMu.Lock()
	defer proxiesMu.Unlock()
	return proxies[l.nc]
}

// loseAnswer makes the next publication of l lose its answer: its connection is cut when the
// server has got it.
func loseAnswer(t testing.TB, l *Log) {
	t.Helper()
	p := proxyOf(l)
	require.NoError(t, l.nc.Flush())
	before := bounds(t, l).Last
	watcher, err := nats.Connect("nats://" + p.Server())
	require.NoError(t, err)
	js := newJetStream(t, watcher)
	p.Hold(testkit.ToClient, true)
	go func() {
		defer watcher.Close()
		for {
			s, err := js.Stream(t.Context(), l.cfg.Stream)
			if t.Context().Err() != nil || err == nil && s.CachedInfo().State.LastSeq > before {
				break
			}
			time.Sleep(time.Millisecond)
		}
		p.Cut()
		p.Hold(testkit.ToClient, false)
	}()
}
