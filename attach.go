package sse

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/chi-sse/sse/internal/socket"
)

// Attach ties the plugin to srv. [ListenAndServe] does that itself. Otherwise call it before srv
// starts; a second call has no effect. A plugin can be attached to several servers. Without Attach, streams work, but the plugin cannot keep these promises:
//
//   - A client whose network has vanished is noticed within about the heartbeat's period and
//     the WriteTimeout. The operating system alone takes about 15 minutes.
//   - A client that does not read makes the kernel hold 128 KiB for it, and not up to 4 MB.
//   - srv.Shutdown ends the plugin's sessions, as [Plugin.Shutdown] does, and returns as soon
//     as all handlers have returned.
//   - When the context that srv.BaseContext returns is done, the plugin shuts down, as by
//     [Plugin.Shutdown]. Without Attach, a session cannot tell that from a client that leaves.
//
// The first two promises are kept on Linux, by TCP_USER_TIMEOUT and TCP_NOTSENT_LOWAT. A
// session that a hub detaches has its own socket from its opening on, so these two hold for it
// without Attach.
//
// If a server is not attached, the plugin logs that once, at level Warn: when the first session
// is detached, or when the first client that is not on the same machine opens a session. So a
// test, or a server that is tried out, logs nothing unless a hub detaches its sessions.
//
// Attach sets srv.ConnContext and srv.BaseContext, and calls those that were set before it.
//
// srv.Shutdown does not wait for detached sessions. If there are any, call [Plugin.Shutdown]
// before it. srv.Shutdown also waits 5 seconds for each connection on which no request has
// been sent; browsers open such connections in advance. To wait less, give srv.Shutdown a
// context with a deadline, and call srv.Close after it. srv.Close alone calls nothing of the
// plugin's: it closes the connections, except for those of detached sessions, which
// [Plugin.Shutdown] ends.
func (p *Plugin) Attach(srv *http.Server) {
	p.mu.Lock()
	_, attached := p.servers[srv]
	if !attached {
		p.servers[srv] = nil
	}
	p.mu.Unlock()
	if attached {
		return
	}
	srv.RegisterOnShutdown(p.drain)
	baseContext, connContext := srv.BaseContext, srv.ConnContext
	srv.BaseContext = func(l net.Listener) context.Context {
		base := context.Background()
		if baseContext != nil {
			base = baseContext(l)
		}
		context.AfterFunc(base, p.drain)
		return base
	}
	srv.ConnContext = func(server context.Context, conn net.Conn) context.Context {
		ctx := server
		if connContext != nil {
			ctx = connContext(server, conn)
		}
		return context.WithValue(ctx, connectionKey{}, &connection{conn: conn, server: server, plugin: p})
	}
}

// warnNotAttached says, once for a plugin, that a session's server is not attached. ctx is the
// context of a request; without a server, in a test, there is nothing to say.
func (p *Plugin) warnNotAttached(ctx context.Context) {
	if ctx.Value(http.ServerContextKey) == nil || !p.warnedNotAttached.CompareAndSwap(false, true) {
		return
	}
	missing := "neither its Shutdown nor the end of its base context shuts the plugin down"
	if p.root == nil { // see serverPlugins
		missing = "the end of its base context does not shut the plugin down"
	}
	p.cfg.Logger.Warn("sse: the server is not attached; serve it by sse.ListenAndServe, or call Plugin.Attach before it starts. "+
		"Now "+missing+", and only a detached session notices soon that its client has vanished, "+
		"and limits the memory for a client that does not read", "server", ctx.Value(http.LocalAddrContextKey))
}

// fromAfar reports whether a request with the context ctx came over a network, as far as one
// can tell. A client on this machine does not vanish, and a test's is always there.
func fromAfar(ctx context.Context) bool {
	addr, ok := ctx.Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && !addr.IP.IsLoopback()
}

// connection is a connection of an attached server. It has one stream at a time over
// HTTP/1.x, and may have many over HTTP/2.
type connection struct {
	conn   net.Conn
	server context.Context // done when the server's base context is
	plugin *Plugin         // that the server is attached to

	mu       sync.Mutex
	limited  bool          // the kernel limits unsent bytes
	timeouts []openStreams // of the streams that are open
	acks     unackedWatch  // in place of the kernel's timeout
}

// openStreams is the number of open streams that have the same write timeout.
type openStreams struct {
	timeout time.Duration
	n       int
}

type connectionKey struct{}

// connectionOf returns the connection of a request, or nil if its server is not attached.
func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

// serverDone reports whether the base context of an attached server is done.
func (c *connection) serverDone() bool { return c != nil && c.server.Err() != nil }

// beginStream bounds what the kernel does for the connection while a stream is open.
func (c *connection) beginStream(timeout time.Duration) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.limited {
		c.limited = true
		_ = socket.LimitUnsent(c.conn) // where there is no such option, a client costs more memory
	}
	before := c.longest()
	for i := range c.timeouts {
		if c.timeouts[i].timeout == timeout {
			c.timeouts[i].n++
			return
		}
	}
	c.timeouts = append(c.timeouts, openStreams{timeout, 1})
	c.update(before)
}

// resetOnClose says whether a close of the connection looks broken to the client. net/http
// closes it as soon as a write has failed.
func (c *connection) resetOnClose(on bool) {
	if c != nil {
		_ = socket.ResetOnClose(c.conn, on) // what is no TCP connection has no reset
	}
}

// endStream undoes beginStream: the connection may serve other requests.
func (c *connection) endStream(timeout time.Duration) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.longest()
	for i := range c.timeouts {
		if t := &c.timeouts[i]; t.timeout == timeout {
			if t.n--; t.n == 0 {
				last := len(c.timeouts) - 1
				*t = c.timeouts[last]
				c.timeouts = c.timeouts[:last]
			}
			break
		}
	}
	c.update(before)
}

// longest returns the longest write timeout of the open streams, or 0 without one.
func (c *connection) longest() (d time.Duration) {
	for _, t := range c.timeouts {
		d = max(d, t.timeout)
	}
	return d
}

// update sets the kernel's timeout if the longest write timeout is not what it was before.
func (c *connection) update(before time.Duration) {
	if d := c.longest(); d != before {
		c.acks.active = !setUnackedTimeout(c.conn, d)
	}
}

// vanished reports whether the client has acknowledged nothing for longer than timeout,
// where the kernel does not watch that itself.
func (c *connection) vanished(now, timeout time.Duration) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acks.vanished(c.conn, now, timeout)
}

// setUnackedTimeout makes the kernel end conn when the peer has acknowledged nothing for
// somewhat longer than a write timeout, so that a write that waits times out first, with an
// error that says so. It reports false if unackedWatch has to find out instead.
func setUnackedTimeout(conn net.Conn, writeTimeout time.Duration) bool {
	return socket.SetUnackedTimeout(conn, writeTimeout+writeTimeout/8) == nil
}

// unackedWatch finds out that a client has vanished where the kernel cannot: over multipath
// TCP. It looks at each heartbeat whether the client has acknowledged anything since the last.
type unackedWatch struct {
	active bool
	n      int           // unacknowledged bytes at the last heartbeat
	acked  uint64        // socket.Progress at the last heartbeat, where the system has it
	since  time.Duration // since epoch: when the client had acknowledged everything, or something more
}

func (w *unackedWatch) vanished(conn net.Conn, now, timeout time.Duration) bool {
	if !w.active {
		return false
	}
	n, err := socket.Unacked(conn)
	if err != nil {
		w.active = false // the system has no such call
		return false
	}
	acked, _ := socket.Progress(conn) // without it, n tells, which need not fall while more is sent
	if n == 0 || n < w.n || w.n == 0 || acked != w.acked {
		w.since = now
	}
	w.n, w.acked = n, acked
	return now-w.since > timeout // never if it has acknowledged everything
}
