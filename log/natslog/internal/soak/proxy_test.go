//go:build unix

package soak

import (
	"net"
	"sync"
	"time"
)

// cable is what connects two nodes: a hub and a server by one link, or two servers by two, one
// for the connections that each of them makes.
type cable struct {
	from, to string // their names
	isRoute  bool   // between servers
	links    []*link
	isBusy   bool // there is trouble
}

// hold holds back what goes in the directions. It does not arrive, and nobody is told.
func (c *cable) hold(directions ...int) {
	for i, l := range c.links {
		l.set(func() {
			for _, d := range directions {
				l.held[d^i] = true
			}
		})
	}
}

// refuse cuts all connections, and refuses new ones.
func (c *cable) refuse() {
	for _, l := range c.links {
		l.set(func() { l.refuse = true })
		l.cut()
	}
}

// slow delays every piece of data.
func (c *cable) slow(by time.Duration) {
	for _, l := range c.links {
		l.set(func() { l.delay = by })
	}
}

func (c *cable) each(f func(*link)) {
	for _, l := range c.links {
		f(l)
	}
}

func (c *cable) cut()   { c.each((*link).cut) }
func (c *cable) halve() { c.each((*link).halve) }
func (c *cable) heal()  { c.each((*link).heal) }
func (c *cable) close() { c.each((*link).close) }

// link is a TCP proxy from one place to another, in which there can be trouble. Bytes are
// never lost without the connection, as in any network under TCP.
type link struct {
	listener net.Listener
	target   string // the address

	mu     sync.Mutex
	pipes  map[*pipe]bool
	change chan struct{} // closed when anything below changes
	refuse bool          // new connections are refused
	dead   bool          // new connections are taken, and nothing comes of them
	delay  time.Duration // of every piece of data
	held   [2]bool       // what goes in a direction does not arrive
}

// The directions of a link.
const (
	forth = iota
	back
)

// pipe is a connection through a link.
type pipe struct {
	near, far net.Conn
	half      bool // the far end is gone, and the near one does not know
}

func newLink(target string) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{listener: listener, target: target, pipes: make(map[*pipe]bool), change: make(chan struct{})}
	go l.accept()
	return l, nil
}

func (l *link) address() string { return l.listener.Addr().String() }

// set changes the link.
func (l *link) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.change)
	l.change = make(chan struct{})
}

// heal ends all trouble. Connections that are half open are cut.
func (l *link) heal() {
	l.set(func() {
		l.refuse, l.dead, l.delay, l.held = false, false, 0, [2]bool{}
		for p := range l.pipes {
			if p.half {
				_ = p.near.Close()
			}
		}
	})
}

// cut cuts all connections. What is held is lost.
func (l *link) cut() {
	l.set(func() {
		for p := range l.pipes {
			_ = p.near.Close()
			if p.far != nil {
				_ = p.far.Close()
			}
		}
		clear(l.pipes)
	})
}

// halve closes the far ends of all connections, and leaves the near ones open. New connections
// have no far end.
func (l *link) halve() {
	l.set(func() {
		l.dead = true
		for p := range l.pipes {
			p.half = true
			if p.far != nil {
				_ = p.far.Close()
			}
		}
	})
}

func (l *link) close() {
	_ = l.listener.Close()
	l.heal()
	l.cut()
}

func (l *link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		go l.connect(near)
	}
}

// connect connects near to the target.
func (l *link) connect(near net.Conn) {
	p := &pipe{near: near}
	l.mu.Lock()
	refuse, dead := l.refuse, l.dead
	l.mu.Unlock()
	if !refuse && !dead {
		p.far, _ = net.DialTimeout("tcp", l.target, time.Second)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead && !refuse {
		p.half = true
		if p.far != nil {
			_ = p.far.Close()
		}
	} else if l.refuse || p.far == nil {
		_ = near.Close()
		if p.far != nil {
			_ = p.far.Close()
		}
		return
	}
	l.pipes[p] = true
	go l.copy(p, forth)
	if p.far != nil {
		go l.copy(p, back)
	}
}

// copy passes on what comes in a direction of p.
func (l *link) copy(p *pipe, direction int) {
	from, to := p.near, p.far
	if direction == back {
		from, to = to, from
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.half && direction == back { // the near end stays open
			return
		}
		delete(l.pipes, p)
		_ = p.near.Close()
		if p.far != nil {
			_ = p.far.Close()
		}
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.mu.Lock()
		for l.held[direction] && l.pipes[p] {
			change := l.change
			l.mu.Unlock()
			<-change
			l.mu.Lock()
		}
		alive, half, delay := l.pipes[p], p.half, l.delay
		l.mu.Unlock()
		if !alive || err != nil {
			return
		}
		if half && direction == forth {
			continue // it goes nowhere
		}
		if half {
			return
		}
		time.Sleep(delay)
		if _, err := to.Write(buf[:n]); err != nil {
			l.mu.Lock()
			half := p.half
			l.mu.Unlock()
			if !half {
				return
			}
		}
	}
}
