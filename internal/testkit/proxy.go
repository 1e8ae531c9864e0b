package testkit

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Proxy is a TCP proxy between clients and a server, whose trouble can be chosen. See [NewProxy].
type Proxy struct {
	listener net.Listener
	server   string // its address

	mu     sync.Mutex
	open   map[net.Conn]bool
	down   bool          // connections are refused
	delay  time.Duration // of every piece of data
	held   [2]bool       // what goes to the server, or to the client, is held back
	change chan struct{}
}

// The directions through a Proxy.
const (
	ToServer = iota
	ToClient
)

// NewProxy returns a proxy for the server at an address. The end of the test closes it.
func NewProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{listener: l, server: server, open: make(map[net.Conn]bool), change: make(chan struct{})}
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.set(func() { p.down, p.held = true, [2]bool{} })
		p.Cut()
	})
	return p
}

// Addr returns the address at which clients reach the server.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// set changes the proxy.
func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.change)
	p.change = make(chan struct{})
}

// Redirect makes connections from now on lead to the server at another address.
func (p *Proxy) Redirect(server string) { p.set(func() { p.server = server }) }

// Server returns the address of the server.
func (p *Proxy) Server() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

// Hold holds back what goes in a direction, as a network does that loses it, or lets it pass.
func (p *Proxy) Hold(direction int, held bool) { p.set(func() { p.held[direction] = held }) }

// Refuse refuses connections from now on, or takes them again.
func (p *Proxy) Refuse(down bool) { p.set(func() { p.down = down }) }

// Slow delays every piece of data.
func (p *Proxy) Slow(by time.Duration) { p.set(func() { p.delay = by }) }

// Cut cuts all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
	clear(p.open)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		address := p.server
		p.mu.Unlock()
		server, err := new(net.Dialer).DialContext(context.Background(), "tcp", address)
		p.mu.Lock()
		if err != nil || p.down {
			p.mu.Unlock()
			_ = client.Close()
			if server != nil {
				_ = server.Close()
			}
			continue
		}
		p.open[client], p.open[server] = true, true
		p.mu.Unlock()
		go p.copy(server, client, ToServer)
		go p.copy(client, server, ToClient)
	}
}

// copy passes on what it reads from a connection.
func (p *Proxy) copy(to, from net.Conn, direction int) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		delay := p.delay
		for p.held[direction] && p.open[from] {
			change := p.change
			p.mu.Unlock()
			<-change
			p.mu.Lock()
		}
		alive := p.open[from]
		p.mu.Unlock()
		time.Sleep(delay)
		if !alive {
			return
		}
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}
