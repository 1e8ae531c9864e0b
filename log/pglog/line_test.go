package pglog

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// line is the network between a Log and its server. Its trouble can be chosen.
type line struct {
	mu      sync.Mutex
	open    map[*lineConn]bool
	down    bool   // connections are refused
	held    bool   // what the server sends is held back
	trap    string // it is held back when a client has sent this
	changed chan struct{}
}

func newLine() *line {
	return &line{open: make(map[*lineConn]bool), changed: make(chan struct{})}
}

// dial is a pgconn.DialFunc.
func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return nil, errors.New("the line is down")
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	lc := &lineConn{Conn: c, l: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[lc] = true
	return lc, nil
}

var _ pgconn.DialFunc = (*line)(nil).dial

// set changes the line.
func (l *line) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

// hold holds back what the server sends, or lets it pass.
func (l *line) hold(held bool) { l.set(func() { l.held = held }) }

// refuse refuses connections from now on, or takes them again.
func (l *line) refuse(down bool) { l.set(func() { l.down = down }) }

// cut cuts all connections.
func (l *line) cut() {
	l.set(func() {
		for c := range l.open {
			_ = c.Conn.Close()
		}
		clear(l.open)
	})
}

// lineConn is a connection over a line.
type lineConn struct {
	net.Conn
	l    *line
	late bool // it has a deadline
}

func (c *lineConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.l.mu.Lock()
	for c.l.held && c.l.open[c] && !c.late {
		changed := c.l.changed
		c.l.mu.Unlock()
		<-changed
		c.l.mu.Lock()
	}
	alive, late := c.l.open[c], c.l.held && c.late
	c.l.mu.Unlock()
	switch {
	case !alive:
		return 0, net.ErrClosed
	case late:
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

// SetDeadline sets the deadline. A connection of pgx has one only when its time is over.
func (c *lineConn) SetDeadline(t time.Time) error {
	c.l.set(func() { c.late = !t.IsZero() })
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline is SetDeadline for reading.
func (c *lineConn) SetReadDeadline(t time.Time) error {
	c.l.set(func() { c.late = !t.IsZero() })
	return c.Conn.SetReadDeadline(t)
}

func (c *lineConn) Write(b []byte) (int, error) {
	c.l.mu.Lock()
	if c.l.trap != "" && bytes.Contains(b, []byte(c.l.trap)) {
		c.l.trap, c.l.held = "", true
	}
	c.l.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *lineConn) Close() error {
	c.l.set(func() { delete(c.l.open, c) })
	return c.Conn.Close()
}
