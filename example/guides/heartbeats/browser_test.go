package main

import (
	"context"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/example/internal/browser"
	"github.com/chi-sse/sse/hub"
)

const lines = `[...document.querySelectorAll("#lines li")].map(line => line.textContent).join("|")`

// proxy passes on the bytes of connections, until it goes silent: it then keeps them open, and
// passes on nothing, as a network does that drops packets.
type proxy struct {
	net.Listener
	to string

	mu     sync.Mutex
	silent chan struct{} // closed when the connections of now go silent
	dead   bool          // new ones are silent too
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{Listener: l, to: to, silent: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { p.serve(ctx, c) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		conns.Wait()
	})
	return p
}

func (p *proxy) serve(ctx context.Context, near net.Conn) {
	p.mu.Lock()
	silent, dead := p.silent, p.dead
	p.mu.Unlock()
	far, err := new(net.Dialer).DialContext(ctx, "tcp", p.to)
	if err != nil {
		_ = near.Close()
		return
	}
	var copies sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer stop()
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		copies.Go(func() {
			_, _ = io.Copy(&gate{pair[0], silent, dead}, pair[1])
			_, _ = near.Close(), far.Close()
		})
	}
	copies.Wait()
}

// gate drops what is written, once it is silent.
type gate struct {
	net.Conn
	silent chan struct{}
	dead   bool
}

func (g *gate) Write(p []byte) (int, error) {
	select {
	case <-g.silent:
		return len(p), nil
	default:
		if g.dead {
			return len(p), nil
		}
		return g.Conn.Write(p)
	}
}

// goSilent makes all connections silent, and new ones if dead.
func (p *proxy) goSilent(dead bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.silent)
	p.silent, p.dead = make(chan struct{}), dead
}

// The page notices that the network is silent, shows that, and misses nothing when it is back.
func TestBrowserNotices(t *testing.T) {
	const period = 400 * time.Millisecond
	h, err := hub.New(hub.Config{Detached: true})
	require.NoError(t, err)
	r := routes(h, period)
	srv := httptest.NewUnstartedServer(r)
	r.Plugin().Attach(srv.Config)
	srv.Start()
	t.Cleanup(func() {
		require.NoError(t, r.Plugin().Shutdown(context.Background()))
		srv.Close()
		require.NoError(t, h.Shutdown(context.Background()))
	})
	p := newProxy(t, srv.Listener.Addr().String())
	b := browser.New(t)
	b.Do(chromedp.EmulateViewport(1000, 700), chromedp.Navigate("http://"+p.Addr().String()+"/"))
	const connected, lost = `document.querySelector("#state").textContent.startsWith("Connected. ")`, `document.querySelector("#state").textContent === "Connection lost"`
	b.Await("it is connected", connected)
	browser.Eval[bool](b, `(document.querySelector("#publish").click(), true)`)
	b.Await("the news are there", lines+` === "News 1"`)
	b.Picture("heartbeats-connected")

	browser.Eval[bool](b, `(() => {
		window.silent = performance.now();
		new MutationObserver(() => {
			if (document.querySelector("#state").textContent === "Connection lost") window.noticed ??= performance.now() - silent;
		}).observe(document.querySelector("#state"), { childList: true });
		return true;
	})()`)
	p.goSilent(true)
	b.Await("it notices", lost)
	b.Picture("heartbeats-lost")
	t.Logf("it has noticed after %.0f ms, with a period of %v", browser.Eval[float64](b, "noticed"), period)
	_, err = h.Publish(t.Context(), "news", sse.Event{Data: "meanwhile"})
	require.NoError(t, err)
	time.Sleep(3 * period) // it tries again in vain
	assert.True(t, browser.Eval[bool](b, lost))
	p.goSilent(false)
	b.Await("it is connected again", connected)
	b.Await("nothing is missing", lines+` === "meanwhile|News 1"`)
	b.RequireLooks()

	// It does so each time, also while the server is silent for one connection only.
	browser.Eval[bool](b, `delete window.noticed`)
	p.goSilent(false)
	b.Await("it notices", `window.noticed !== undefined`) // it does not show it for long
	b.Await("it is connected again", connected)
}
