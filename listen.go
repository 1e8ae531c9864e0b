package sse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// A server from its start to its end: ListenAndServe, and how it drains.

// DefaultDrainTimeout is the default of [WithDrainTimeout].
const DefaultDrainTimeout = 10 * time.Second

// drainTick is the time between two looks at which sessions are to end.
const drainTick = 20 * time.Millisecond

// ServeOption is an option of [ListenAndServe].
type ServeOption func(*serving)

// WithListener makes the server accept connections from l, and not listen on srv.Addr. The server
// closes l.
func WithListener(l net.Listener) ServeOption {
	return func(s *serving) { s.listener = l }
}

// WithHubs shuts down each of hubs when the server drains, so that what was published reaches the
// subscribers, and what is published later fails. The server's other sessions end meanwhile. A
// hub that is not given drains too, but accepts publications that then reach nobody.
func WithHubs(hubs ...interface{ Shutdown(context.Context) error }) ServeOption {
	return func(s *serving) { s.hubs = append(s.hubs, hubs...) }
}

// WithDrainOver ends the sessions one after the other, evenly over d, in place of all at once.
// Use it behind a load balancer, so that their clients arrive evenly at the other servers. d must
// not be negative. Default: 0.
func WithDrainOver(d time.Duration) ServeOption {
	if d < 0 {
		panic(fmt.Sprintf("sse: WithDrainOver(%v): the time must not be negative", d))
	}
	return func(s *serving) { s.over, s.wait = d, 0 }
}

// WithDrainWait lets sessions go on for up to d, and then ends those that are left. Use it for
// streams that finish by themselves, such as answers and exports. It replaces [WithDrainOver]. d
// must not be negative. Default: 0.
func WithDrainWait(d time.Duration) ServeOption {
	if d < 0 {
		panic(fmt.Sprintf("sse: WithDrainWait(%v): the time must not be negative", d))
	}
	return func(s *serving) { s.over, s.wait = 0, d }
}

// WithDrainTimeout sets how long the end of everything may take: of sessions, hubs and other
// requests, after the time of [WithDrainOver] or [WithDrainWait]. What is left then is cut off.
// d must be positive. Default: 10 seconds.
func WithDrainTimeout(d time.Duration) ServeOption {
	if d <= 0 {
		panic(fmt.Sprintf("sse: WithDrainTimeout(%v): the time must be positive", d))
	}
	return func(s *serving) { s.timeout = d }
}

// ListenAndServe serves r until ctx is done, and then drains the server. It attaches r's plugin to
// srv (see [Plugin.Attach]), and uses r as srv.Handler if that is nil. It listens on srv.Addr, or
// uses the listener of [WithListener], with TLS if srv.TLSConfig has a certificate, GetCertificate
// or GetConfigForClient.
//
// From the beginning of the drain on, new sessions are refused, as [Plugin.Shutdown] says. Sessions
// end at once, or as [WithDrainOver] or [WithDrainWait] says. Ordinary requests are served
// meanwhile. Then hubs (see [WithHubs]) and the plugin are shut down, and last srv, which closes
// the listener. Connections that have not sent a request are closed. A second ctx, such as
// that of a second signal, is up to the application.
//
// ListenAndServe returns nil after a drain in which nothing had to be cut off. If it cannot listen,
// it returns the error, and everything is as before. If srv stops for another reason, it drains at
// once, and returns that error, which is [http.ErrServerClosed] if srv was shut down or closed. It
// returns an error that matches [ErrShutdown] if the plugin has been shut down before.
//
// The requests' contexts have the values of ctx, if srv.BaseContext is nil, and are not done when
// ctx is. If srv.BaseContext is set and its context ends, all sessions end at once. Several servers
// can serve one router: the end of one ends the sessions of all.
func ListenAndServe(ctx context.Context, srv *http.Server, r *Router, opts ...ServeOption) error {
	s := &serving{plugin: r.plugin, srv: srv, timeout: DefaultDrainTimeout}
	for _, opt := range opts {
		opt(s)
	}
	if s.plugin.isDraining() {
		return s.closeListener(fmt.Errorf("sse: serve: %w", ErrShutdown))
	}
	s.known = s.plugin.prepare(ctx, srv, r)
	if ctx.Err() != nil {
		return s.closeListener(s.drain())
	}
	if s.listener == nil {
		addr := cmp.Or(srv.Addr, ":http")
		if srv.Addr == "" && s.known.secure {
			addr = ":https"
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("sse: serve: %w", err)
		}
		s.listener = l
	}
	failed := make(chan error, 1)
	go func() { failed <- s.serve() }()
	select {
	case <-ctx.Done():
		err := s.drain()
		if served := <-failed; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(served, err)
		}
		return err
	case err := <-failed:
		s.over, s.wait = 0, 0
		return errors.Join(err, s.drain())
	}
}

// serving is a call of ListenAndServe.
type serving struct {
	plugin   *Plugin
	srv      *http.Server
	listener net.Listener
	known    *servedServer
	hubs     []interface{ Shutdown(context.Context) error }
	over     time.Duration
	wait     time.Duration
	timeout  time.Duration
}

func (s *serving) serve() error {
	if s.known.secure {
		return s.srv.ServeTLS(s.listener, "", "")
	}
	return s.srv.Serve(s.listener)
}

// closeListener closes the listener that nobody has accepted from, and returns err.
func (s *serving) closeListener(err error) error {
	if s.listener != nil {
		_ = s.listener.Close()
	}
	return err
}

// drain ends everything. Hubs come before the plugin, because a session that the plugin has ended
// is not sent what is published after that.
func (s *serving) drain() error {
	p := s.plugin
	p.refuseSessions()
	if s.over > 0 {
		p.endOver(s.over)
	}
	if s.wait > 0 {
		timer := time.NewTimer(s.wait)
		defer timer.Stop()
		select {
		case <-p.drained:
		case <-timer.C:
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	p.endUnowned()
	err := shutDownAll(ctx, s.hubs)
	s.known.closeFresh()
	last := shutDownAll(ctx, []interface{ Shutdown(context.Context) error }{p, server{s.srv}})
	return errors.Join(err, last)
}

// shutDownAll calls Shutdown of each of all, at the same time.
func shutDownAll(ctx context.Context, all []interface{ Shutdown(context.Context) error }) error {
	errs := make([]error, len(all))
	var running sync.WaitGroup
	for i, one := range all {
		running.Go(func() { errs[i] = one.Shutdown(ctx) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// server is a server whose Shutdown cuts off what is left when ctx is done.
type server struct{ *http.Server }

func (s server) Shutdown(ctx context.Context) error {
	err := s.Server.Shutdown(ctx)
	if err == nil {
		return nil
	}
	return fmt.Errorf("sse: shutdown of the server, with requests still running: %w", errors.Join(err, s.Close()))
}

// endOver ends the plugin's sessions one after the other, evenly over d.
func (p *Plugin) endOver(d time.Duration) {
	sessions, began := p.snapshot(), time.Now()
	ticker := time.NewTicker(min(drainTick, max(1, d/4)))
	defer ticker.Stop()
	for n := 0; n < len(sessions); {
		due := min(len(sessions), int(float64(len(sessions))*float64(time.Since(began))/float64(d)))
		for ; n < due; n++ {
			sessions[n].endSoon()
		}
		select {
		case <-p.drained:
			return
		case <-ticker.C:
		}
	}
}

// endSoon ends a session because of the shutdown. Its hub, if it has one, sends first what it has.
func (s *ServerSession) endSoon() {
	if owner := s.ownerNow(); owner != nil && owner.EndSoon(ErrShutdown) {
		return
	}
	s.endBounded(ErrShutdown)
}

// endUnowned ends the sessions that no hub serves.
func (p *Plugin) endUnowned() {
	for _, s := range p.snapshot() {
		if s.ownerNow() == nil {
			s.endBounded(ErrShutdown)
		}
	}
}

// prepare makes srv ready to serve r. It does so once for each server.
func (p *Plugin) prepare(ctx context.Context, srv *http.Server, r *Router) *servedServer {
	if srv.Handler == nil {
		srv.Handler = r
	}
	if srv.BaseContext == nil {
		srv.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	}
	p.Attach(srv)
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.servers[srv]
	if f == nil {
		f = &servedServer{fresh: make(map[net.Conn]struct{}), connState: srv.ConnState}
		if c := srv.TLSConfig; c != nil { // net/http sets it too
			f.secure = len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil
		}
		srv.ConnState = f.onState
		p.servers[srv] = f
	}
	return f
}

// servedServer is a server that ListenAndServe serves.
//
// It knows the server's fresh connections, which have not sent a request. http.Server.Shutdown
// would wait 5 seconds for each; browsers open some in advance.
type servedServer struct {
	secure    bool                           // it has a certificate
	connState func(net.Conn, http.ConnState) // that was set before, or nil

	mu     sync.Mutex
	fresh  map[net.Conn]struct{}
	closed bool // fresh connections are closed at once
}

func (f *servedServer) onState(conn net.Conn, state http.ConnState) {
	f.mu.Lock()
	switch {
	case state != http.StateNew:
		delete(f.fresh, conn)
	case f.closed:
		_ = conn.Close()
	default:
		f.fresh[conn] = struct{}{}
	}
	f.mu.Unlock()
	if f.connState != nil {
		f.connState(conn, state)
	}
}

func (f *servedServer) closeFresh() {
	f.mu.Lock()
	f.closed = true
	conns := slices.Collect(maps.Keys(f.fresh))
	f.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}
