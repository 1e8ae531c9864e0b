package soak

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
	"github.com/chi-sse/sse/log/boltlog"
)

const (
	logEvents = 400
	maxReplay = 256 << 10
)

// mode is a way to serve streams, with a server and a hub.
type mode struct {
	soak     *soak
	name     string
	protocol testkit.Protocol
	old      bool // HTTP/1.0
	detached bool
	small    bool // the server's kernel buffers little
	file     bool // the hub's events live in a file

	plugin *sse.Plugin
	srv    *httptest.Server
	remote net.Listener // of the same server, in the network; or nil
	era    atomic.Pointer[era]
	given  [slots]atomic.Uint32 // topics that the slot has given up
	number atomic.Int64
	conns  sync.Map     // *conn by its number as text
	shared *http.Client // for healthy clients over HTTP/2, which share a connection
}

func newModes(s *soak) []*mode {
	modes := []*mode{
		{name: "http1.1", protocol: testkit.HTTP1, small: true},
		{name: "http1.1-tls", protocol: testkit.HTTP1TLS},
		{name: "http2-tls", protocol: testkit.HTTP2, small: true},
		{name: "h2c", protocol: testkit.H2C},
		{name: "http1.0", protocol: testkit.HTTP1, old: true, small: true},
		{name: "detached", protocol: testkit.HTTP1, detached: true},
		{name: "detached-tls", protocol: testkit.HTTP1TLS, detached: true, small: true},
		{name: "detached-http1.0", protocol: testkit.HTTP1, detached: true, old: true},
		{name: "file", protocol: testkit.HTTP1, small: true, file: true},
		{name: "file-h2c", protocol: testkit.H2C, file: true},
		{name: "file-detached", protocol: testkit.HTTP1, detached: true, small: true, file: true},
	}
	for _, m := range modes {
		m.soak = s
	}
	return modes
}

func (m *mode) newEra() *era {
	cfg := hub.Config{LogEvents: logEvents, MaxReplay: maxReplay, Detached: m.detached, Logger: slog.New(slog.DiscardHandler)}
	e := &era{closing: make(chan struct{}), closed: make(chan struct{})}
	e.hub = must(m.open(e, cfg))(m.soak.t)
	e.epoch = e.hub.Position().Epoch
	e.ledger.last = make(map[topic]uint64)
	return e
}

// open returns a hub for e. With m.file, its events live in a file that is e's.
func (m *mode) open(e *era, cfg hub.Config) (*hub.Hub, error) {
	if !m.file {
		return hub.New(cfg)
	}
	dir, err := os.MkdirTemp("", "sse-soak")
	if err != nil {
		return nil, err
	}
	log, err := boltlog.Open(filepath.Join(dir, "events.db"), boltlog.Config{MaxBytes: 256 << 20, Logger: cfg.Logger})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	e.closeLog = func() error { return errors.Join(log.Close(), os.RemoveAll(dir)) }
	cfg.Log, cfg.PublishTimeout = log, time.Minute // the disk may be busy
	return hub.Open(m.soak.t.Context(), cfg)
}

// start starts the server.
func (m *mode) start() {
	m.era.Store(m.newEra())
	r := sse.Install(chi.NewRouter(), sse.Config{
		Heartbeat: sse.Heartbeat{Period: beat}, WriteTimeout: writeTimeout, ShutdownSpread: -1,
		Logger:    slog.New(slog.DiscardHandler),
		OpenDelay: -1, // otherwise, on a busy machine, the head would come before the hub has chosen where the client starts
		OnClose: func(ss *sse.ServerSession, e sse.End) {
			if cn := m.connOf(ss); cn != nil {
				cn.hasEnded(e, context.Cause(ss.Context()))
			}
		},
	})
	r.SSE("/", func(ss *sse.ServerSession) error {
		cn, e := m.connOf(ss), m.era.Load()
		if cn == nil {
			return sse.Error(http.StatusGone, nil) // the client has given up meanwhile
		}
		cn.era.Store(e)
		return e.hub.Serve(ss, cn.subscription())
	})
	m.plugin = r.Plugin()
	options := []func(*httptest.Server){m.protocol.Setup}
	if m.small {
		options = append(options, testkit.SendBuffer(16<<10))
	}
	options = append(options, func(srv *httptest.Server) { m.plugin.Attach(srv.Config) })
	m.srv = testkit.Serve(m.soak.t, r, options...)
	if m.protocol.Proto == "HTTP/2.0" {
		m.shared = &http.Client{Transport: m.transport(new(testkit.Line))}
		if resp, err := m.shared.Get(m.srv.URL); err == nil { // so that not all clients make a connection at first
			resp.Body.Close()
		}
	}
	if m.soak.network == nil {
		return
	}
	l, err := m.soak.network.listen()
	if err != nil {
		m.soak.t.Fatal(err)
	}
	m.remote = l
	if m.protocol.TLS {
		l = tls.NewListener(l, m.srv.TLS)
	}
	go func() { _ = m.srv.Config.Serve(l) }()
}

func (m *mode) connOf(ss *sse.ServerSession) *conn {
	if cn, ok := m.conns.Load(ss.Call().URL.Query().Get("c")); ok {
		return cn.(*conn)
	}
	return nil
}

// renew gives m a new hub after d, and once more after twice that, and shuts the old one down.
func (m *mode) renew(d time.Duration, quiet <-chan struct{}) {
	for range 2 {
		pause(d, quiet)
		select {
		case <-quiet:
			return
		default:
			old := m.era.Swap(m.newEra())
			m.shutdown(old)
			m.soak.renewals.Add(1)
		}
	}
}

// shutdown shuts e's hub down. Every client must get all that was published to it, if it reads.
func (m *mode) shutdown(e *era) {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	close(e.closing)
	if err := e.hub.Shutdown(ctx); err != nil {
		m.soak.fault("%s: shutdown of the hub: %v", m.name, err)
	}
	close(e.closed)
	if e.closeLog != nil {
		if err := e.closeLog(); err != nil {
			m.soak.fault("%s: closing the log: %v", m.name, err)
		}
	}
	stats := e.hub.Stats()
	m.soak.delivered.Add(int64(stats.Delivered))
	m.soak.slowEnds.Add(int64(stats.Ended))
	if stats.Members > 0 {
		m.soak.fault("%s: %d members are left after the shutdown of the hub", m.name, stats.Members)
	}
}

// end ends all sessions.
func (m *mode) end() {
	m.shutdown(m.era.Load())
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	if err := m.plugin.Shutdown(ctx); err != nil {
		m.soak.fault("%s: shutdown of the plugin: %v", m.name, err)
	}
	if n := m.plugin.Len(); n > 0 {
		m.soak.fault("%s: %d sessions are left", m.name, n)
	}
}

// close stops the server.
func (m *mode) close() {
	if m.shared != nil {
		m.shared.CloseIdleConnections()
	}
	if m.remote != nil {
		m.remote.Close()
	}
	m.srv.CloseClientConnections()
	m.srv.Close()
	m.era.Store(nil) // the test holds the server, and so the mode, until it ends
}
