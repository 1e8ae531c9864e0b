package sse_test

// Clients that take what they are sent, but slowly, and clients that take nothing, in each
// mode of a session: the handler's own writes, a hub's, and a detached session's.

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// mode is who writes to a session, and over what.
type mode struct {
	by       string // "a handler", "a hub" or "a detaching hub"
	proto    testkit.Protocol
	attached bool // the plugin is attached to the server
}

func (m mode) String() string {
	name := m.by + " over " + m.proto.Name
	if !m.attached {
		name += ", not attached"
	}
	return name
}

const (
	byHandler      = "a handler"
	byHub          = "a hub"
	byDetachingHub = "a detaching hub"
)

// modes are the modes that differ in the code that writes.
var modes = []mode{
	{byHandler, testkit.HTTP1, true},
	{byHandler, testkit.HTTP1TLS, true},
	{byHandler, testkit.HTTP2, true},
	{byHub, testkit.HTTP1, true},
	{byHub, testkit.HTTP1TLS, true},
	{byHub, testkit.HTTP2, true},
	{byDetachingHub, testkit.HTTP1, true},
	{byDetachingHub, testkit.HTTP1TLS, true},
	{byDetachingHub, testkit.HTTP1, false},
	{byDetachingHub, testkit.HTTP1TLS, false},
}

// modeServer is a server whose sessions are of one mode.
type modeServer struct {
	*httptest.Server
	mode
	plugin *sse.Plugin
	hub    *hub.Hub
	ends   chan modeEnd
	conns  chan net.Conn // as the server has accepted them
}

// modeEnd is the end of a session of a modeServer.
type modeEnd struct {
	sse.End
	at     time.Time
	client string // its address
}

// newModeServer starts a server of mode m until the test ends. Its handler is write, or serves
// a subscription of the topic that the path names, from the beginning.
func newModeServer(t testing.TB, m mode, cfg sse.Config, write sse.Handler, options ...func(*httptest.Server)) *modeServer {
	t.Helper()
	s := &modeServer{mode: m, ends: make(chan modeEnd, 1000), conns: make(chan net.Conn, 1000)}
	cfg.OnClose = func(ss *sse.ServerSession, e sse.End) {
		host, _, _ := net.SplitHostPort(ss.Call().RemoteAddr)
		s.ends <- modeEnd{e, time.Now(), host}
	}
	r := newRouter(cfg)
	s.plugin = r.Plugin()
	var err error
	s.hub, err = hub.New(hub.Config{Detached: m.by == byDetachingHub, LogSize: 256 << 20})
	require.NoError(t, err)
	if m.by != byHandler {
		write = func(ss *sse.ServerSession) error {
			return s.hub.Serve(ss, hub.Subscription{Topics: []string{chi.URLParam(ss.Call(), "topic")}, Start: hub.Beginning})
		}
	}
	r.SSE("/{topic}", write)
	options = append(options, m.proto.Setup, func(srv *httptest.Server) {
		srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			s.conns <- c
			return ctx
		}
		if m.attached {
			s.plugin.Attach(srv.Config)
		}
	})
	s.Server = serve(t, r, options...)
	s.Client().Timeout = 0
	t.Cleanup(func() {
		s.CloseClientConnections()
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		assert.NoError(t, s.hub.Shutdown(ctx))
		assert.NoError(t, s.plugin.Shutdown(ctx))
	})
	return s
}

// slowConn is a connection that a client reads slowly, at a steady pace.
type slowConn struct {
	net.Conn
	reading
	next   time.Time // when to read again
	closed chan struct{}
	close  func()
}

// reading is how a client reads from its connection.
type reading struct {
	rate   int // bytes a second
	most   int // the number of bytes after which the client reads no more; 0 means no limit
	buffer int // the size of the kernel's receive buffer; 0 means the system's default

	large bool // segments are as large as loopback allows; see smallSegments
}

// pace is about the time between the reads of a slowConn.
const pace = 10 * time.Millisecond

func newSlowConn(conn net.Conn, r reading) (*slowConn, error) {
	c := &slowConn{Conn: conn, reading: r, closed: make(chan struct{})}
	c.close = sync.OnceFunc(func() { close(c.closed) })
	if r.buffer == 0 {
		return c, nil
	}
	return c, conn.(*net.TCPConn).SetReadBuffer(r.buffer)
}

func (c *slowConn) Read(p []byte) (int, error) {
	if c.most < 0 {
		<-c.closed
		return 0, net.ErrClosed
	}
	time.Sleep(time.Until(c.next))
	n, err := c.Conn.Read(p[:min(len(p), max(1, int(int64(c.rate)*int64(pace)/int64(time.Second))))])
	c.next = c.next.Add(time.Duration(n) * time.Second / time.Duration(c.rate))
	if earliest := time.Now().Add(-20 * pace); c.next.Before(earliest) {
		c.next = earliest // it had nothing to read
	}
	if c.most > 0 {
		if c.most -= n; c.most <= 0 {
			c.most = -1
		}
	}
	return n, err
}

func (c *slowConn) Close() error {
	c.close()
	return c.Conn.Close()
}

// smallSegments, if it is not nil, makes a connection use segments as small as they are outside
// of this machine. The kernel does not send a part of a segment while the client's window is
// smaller than the segment, and those of loopback have 64 KiB.
var smallSegments func(network, address string, c syscall.RawConn) error

// client returns a client of s that reads from its connections as r says.
func (s *modeServer) client(t testing.TB, r reading) *http.Client {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialer := net.Dialer{Control: smallSegments}
			if r.large {
				dialer.Control = nil
			}
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return newSlowConn(conn, r)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		Protocols:       s.proto.Protocols(),
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// stopsReading is for clients that read the head of the response and little more.
var stopsReading = reading{rate: 1 << 30, most: 32 << 10, buffer: 16 << 10}

// open requests a session of topic with client.
func (s *modeServer) open(t testing.TB, client *http.Client, topic string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	resp, err := client.Do(newRequest(t, http.MethodGet, s.URL+"/"+topic).WithContext(ctx))
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	require.Equal(t, http.StatusOK, resp.StatusCode)
	return newStream(t, resp, cancel)
}

// A client is alive as long as it takes bytes, however long a whole event, or a whole replay,
// takes.
//
// All modes run at the same time, in spite of -parallel: they take time, but no work.
func TestSlowReaderLives(t *testing.T) {
	t.Parallel()
	const (
		size    = 6 << 20 // more than the kernel takes without a limit
		slow    = 280_000 // bytes a second
		timeout = 2 * time.Second
	)
	slowly := reading{rate: slow, buffer: 64 << 10}
	var open []func()
	check := make(map[string]func(*testing.T))
	for name, events := range map[string]int{"one event": 1, "a replay": 128} {
		for _, m := range modes {
			if m.by == byHandler && events > 1 {
				continue // its events have a timeout each
			}
			data := strings.Repeat("#", size/events)
			s := newModeServer(t, m, sse.Config{WriteTimeout: timeout}, func(s *sse.ServerSession) error {
				if err := s.Send(sse.Event{Data: data}); err != nil {
					return err
				}
				return untilDone(s)
			})
			for range events {
				_, err := s.hub.Publish(t.Context(), "t", sse.Event{Data: data})
				require.NoError(t, err)
			}
			var began time.Time
			read := make(chan error, 1)
			open = append(open, func() {
				began = time.Now()
				c := s.open(t, s.client(t, slowly), "t")
				go func() { read <- readBytes(c.Body, "#", size) }()
				time.AfterFunc(size/slow*time.Second+testkit.Patience, c.leave)
			})
			check[name+" by "+m.String()] = func(t *testing.T) {
				t.Helper()
				err := <-read // it takes longer than other tests wait
				if len(s.ends) > 0 {
					e := <-s.ends
					require.Failf(t, "the session has ended", "%v: %v", e.Reason, e.Err)
				}
				require.NoError(t, err)
				require.Greater(t, time.Since(began), 2*timeout, "the client is too fast for this test")
				require.Equal(t, 1, s.plugin.Len())
			}
		}
	}
	for _, f := range open {
		f()
	}
	for name, f := range check {
		t.Run(name, f)
	}
}

// readBytes reads from r until it has read the byte b n times.
func readBytes(r io.Reader, b string, n int) error {
	for buf := make([]byte, 32<<10); n > 0; {
		k, err := r.Read(buf)
		if n -= bytes.Count(buf[:k], []byte(b)); err != nil {
			return fmt.Errorf("%d bytes are missing: %w", n, err)
		}
	}
	return nil
}

// A client that takes nothing for WriteTimeout is cut off.
func TestSlowReaderThatStops(t *testing.T) {
	t.Parallel()
	const timeout = 750 * time.Millisecond
	check := make(map[string]func(*testing.T))
	for _, m := range modes {
		data := strings.Repeat("x", 8<<20)
		s := newModeServer(t, m, sse.Config{WriteTimeout: timeout}, func(s *sse.ServerSession) error {
			return s.Send(sse.Event{Data: data})
		})
		_, err := s.hub.Publish(t.Context(), "t", sse.Event{Data: data})
		require.NoError(t, err)
		began := time.Now()
		s.open(t, s.client(t, stopsReading), "t")
		check[m.String()] = func(t *testing.T) {
			t.Helper()
			e := testkit.Receive(t, s.ends)
			require.Equal(t, sse.EndWriteTimeout, e.Reason, "%v", e.Err)
			require.ErrorIs(t, e.Err, sse.ErrWriteTimeout)
			require.Greater(t, e.at.Sub(began), timeout*9/10)
			require.Less(t, e.at.Sub(began), timeout+5*time.Second)
		}
	}
	for name, f := range check {
		t.Run(name, f)
	}
}
