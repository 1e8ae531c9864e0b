package sse_test

// Clients whose network vanishes: packets are dropped, and no FIN, RST or ICMP error reaches
// anybody.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// vanishServer is a modeServer in a network of its own, with clients there.
type vanishServer struct {
	*modeServer
	network   *testkit.Network
	multipath bool // clients connect with multipath TCP
}

// listen is an option for newModeServer: the server is in network.
func listen(t testing.TB, network *testkit.Network) func(*httptest.Server) {
	t.Helper()
	return func(srv *httptest.Server) {
		srv.Listener.Close()
		require.NoError(t, network.Server.Do(func() (err error) {
			srv.Listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":0")
			return err
		}))
	}
}

// connect opens a session over path. If r is not zero, it says how the client reads.
func (s *vanishServer) connect(t testing.TB, path testkit.Path, topic string, r reading) *stream {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (conn net.Conn, err error) {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(path.Client)}}
			dialer.SetMultipathTCP(s.multipath)
			address := net.JoinHostPort(path.Server, strconv.Itoa(s.Listener.Addr().(*net.TCPAddr).Port))
			err = s.network.Client.Do(func() error {
				conn, err = dialer.DialContext(ctx, "tcp", address)
				return err
			})
			if err != nil || r == (reading{}) {
				return conn, err
			}
			return newSlowConn(conn, r)
		},
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		Protocols:       s.proto.Protocols(),
	}
	t.Cleanup(transport.CloseIdleConnections)
	c := s.open(t, &http.Client{Transport: transport}, topic)
	require.Equal(t, "open", c.nextData())
	if s.multipath {
		multipath, err := testkit.Receive(t, s.conns).(*net.TCPConn).MultipathTCP()
		require.NoError(t, err)
		require.True(t, multipath, "the connection has fallen back to plain TCP")
	}
	return c
}

func TestVanishedClient(t *testing.T) {
	t.Parallel()
	const (
		beat    = time.Second
		timeout = 2 * time.Second
		sendGap = 50 * time.Millisecond
	)
	network := testkit.NewNetwork(t)
	needMultipathTCP(t, network)
	count := func(send func(i int) error) error {
		for i := 0; ; i++ {
			if err := send(i); err != nil {
				return err
			}
			time.Sleep(sendGap)
		}
	}
	type test struct {
		mode
		multipath bool
		within    time.Duration

		*vanishServer
		gone, returns      testkit.Path
		cut                time.Time
		staying, returning *stream
	}
	tests := []*test{
		{mode: mode{byHandler, testkit.HTTP1, true}, within: 5 * time.Second},
		{mode: mode{byHandler, testkit.HTTP1TLS, true}, within: 5 * time.Second},
		{mode: mode{byHandler, testkit.HTTP2, true}, within: 5 * time.Second},
		{mode: mode{byHub, testkit.HTTP1, true}, within: 5 * time.Second},
		{mode: mode{byDetachingHub, testkit.HTTP1, true}, within: 5 * time.Second},
		{mode: mode{byDetachingHub, testkit.HTTP1, false}, within: 5 * time.Second},
		{mode: mode{byDetachingHub, testkit.HTTP1TLS, false}, within: 5 * time.Second},
		// The kernel refuses TCP_USER_TIMEOUT, so heartbeats have to find out.
		{mode: mode{byHandler, testkit.HTTP1, true}, multipath: true, within: 10 * time.Second},
		{mode: mode{byDetachingHub, testkit.HTTP1, false}, multipath: true, within: 10 * time.Second},
	}

	// All modes share each wait.
	for _, m := range tests {
		s := &vanishServer{network: network, multipath: m.multipath}
		m.vanishServer = s
		cfg := sse.Config{Heartbeat: sse.Heartbeat{Period: beat}, WriteTimeout: timeout}
		s.modeServer = newModeServer(t, m.mode, cfg, func(ss *sse.ServerSession) error {
			if ss.Call().URL.Path != "/count" {
				return untilDone(ss)
			}
			if err := ss.Send(sse.Event{Data: "open"}); err != nil {
				return err
			}
			return count(func(i int) error { return ss.Send(sse.Event{Data: strconv.Itoa(i)}) })
		}, listen(t, network))
		for _, topic := range []string{"quiet", "count"} {
			_, err := s.hub.Publish(t.Context(), topic, sse.Event{Data: "open"})
			require.NoError(t, err)
		}
		go func() {
			_ = count(func(i int) error {
				_, err := s.hub.Publish(context.Background(), "count", sse.Event{Data: strconv.Itoa(i)})
				return err
			})
		}()
		m.gone, m.returns = network.Path(), network.Path()
		s.connect(t, m.gone, "quiet", reading{})
		m.staying = s.connect(t, network.Path(), "quiet", reading{})
		m.returning = s.connect(t, m.returns, "count", reading{})
	}
	for _, m := range tests {
		m.cut = time.Now()
		m.gone.Cut()
		m.returns.Cut()
	}
	for _, m := range tests {
		time.Sleep(time.Until(m.cut.Add(800 * time.Millisecond)))
		m.returns.Restore()
	}
	for _, m := range tests {
		name := m.String()
		if m.multipath {
			name += " and multipath TCP"
		}
		t.Run(name, func(t *testing.T) {
			e := testkit.Receive(t, m.ends)
			t.Logf("noticed after %v", e.at.Sub(m.cut).Round(time.Millisecond))
			require.Equal(t, m.gone.Client, e.client, "%v: %v", e.Reason, e.Err)
			require.Equal(t, sse.EndClientGone, e.Reason)
			require.Less(t, e.at.Sub(m.cut), m.within)

			heartbeats := bufio.NewScanner(m.staying.Body) // the decoder would skip those of a hub
			for time.Since(e.at) < 2*beat {
				require.True(t, heartbeats.Scan())
			}
			first, err := strconv.Atoi(m.returning.nextData())
			require.NoError(t, err)
			for i := first; time.Since(m.cut) < 2*timeout || i < first+60; i++ {
				require.Equal(t, strconv.Itoa(i+1), m.returning.nextData(), "an event is lost")
			}
			require.Equal(t, 2, m.plugin.Len())
			require.Empty(t, m.ends)
		})
	}
	var counters []byte
	require.NoError(t, network.Server.Do(func() (err error) {
		counters, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	}))
	require.Regexp(t, `\nIcmp: 0 `, string(counters), "ICMP errors have told the server")
}

// Over multipath TCP, a client that falls behind acknowledges less than it is sent, and so the
// number of unacknowledged bytes does not fall. It is alive all the same.
func TestSlowReaderOverMultipathTCP(t *testing.T) {
	t.Parallel()
	network := testkit.NewNetwork(t)
	needMultipathTCP(t, network)
	s := &vanishServer{network: network, multipath: true}
	s.modeServer = newModeServer(t, mode{byHandler, testkit.HTTP1, true}, sse.Config{
		WriteTimeout: 2 * time.Second,
		Heartbeat:    sse.Heartbeat{Period: 400 * time.Millisecond, Event: sse.Event{Data: "x"}}, // whatever else is sent
	}, func(s *sse.ServerSession) error {
		err := s.SendData("open")
		for next := time.Now(); err == nil; next = next.Add(10 * time.Millisecond) { // 120 kB/s
			time.Sleep(time.Until(next))
			err = s.SendData(strings.Repeat("x", 1200))
		}
		return err
	}, listen(t, network))
	c := s.connect(t, network.Path(), "t", reading{rate: 80_000, buffer: 8 << 10})
	began := time.Now()
	for time.Since(began) < 5*time.Second && len(s.ends) == 0 {
		_ = c.nextData()
	}
	if len(s.ends) > 0 {
		require.NoError(t, (<-s.ends).Err)
	}
	require.Equal(t, 1, s.plugin.Len())
}

// A connection that serves other requests after a stream has no timeout of the stream's.
func TestUnackedTimeoutIsOfStreams(t *testing.T) {
	t.Parallel()
	const timeout = 8 * time.Second
	for _, proto := range []testkit.Protocol{testkit.HTTP1, testkit.HTTP1TLS} {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			next := make(chan bool)
			s := newModeServer(t, mode{byHandler, proto, true}, sse.Config{WriteTimeout: timeout}, func(s *sse.ServerSession) error {
				err := s.SendData("open")
				<-next
				return err
			})
			var conn net.Conn
			for i := range 2 {
				c := connect(t, s.Server, "/x")
				require.Equal(t, "open", c.nextData())
				if i == 0 {
					conn = testkit.Receive(t, s.conns)
				}
				require.Equal(t, timeout*9/8, unackedTimeout(t, conn))
				next <- true
				c.end()
				testkit.Receive(t, s.ends)
				require.Zero(t, unackedTimeout(t, conn))
			}
			require.Empty(t, s.conns, "the client has made another connection")
		})
	}

	t.Run("h2", func(t *testing.T) { // the longest timeout of the open streams counts
		t.Parallel()
		r := newRouter(sse.Config{})
		end := map[string]chan bool{"/short": make(chan bool), "/long": make(chan bool)}
		wait := func(s *sse.ServerSession) error {
			err := s.SendData("open")
			<-end[s.Call().URL.Path]
			return err
		}
		r.SSE("/short", wait, sse.WithWriteTimeout(timeout))
		r.SSE("/long", wait, sse.WithWriteTimeout(2*timeout))
		r.SSE("/refused", func(*sse.ServerSession) error { return sse.Error(http.StatusForbidden, nil) }, sse.WithWriteTimeout(timeout))
		conns := make(chan net.Conn, 10)
		srv := serve(t, r, testkit.HTTP2.Setup, func(srv *httptest.Server) {
			srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
				conns <- c
				return ctx
			}
			r.Plugin().Attach(srv.Config)
		})
		var conn net.Conn
		for _, step := range []struct {
			path string
			ends bool
			want time.Duration // in units of timeout
		}{
			{"/short", false, 1},
			{"/refused", false, 1}, // a session that has not opened counts for nothing
			{"/long", false, 2},
			{"/short", false, 2},
			{"/long", false, 2},
			{"/long", true, 2},
			{"/short", true, 2},
			{"/long", true, 1},
			{"/short", true, 0},
			{"/short", false, 1},
			{"/short", true, 0},
		} {
			switch {
			case step.path == "/refused":
				require.Equal(t, http.StatusForbidden, get(t, srv, step.path).Status)
			case step.ends:
				before := r.Plugin().Len()
				end[step.path] <- true
				testkit.Eventually(t, func() bool { return r.Plugin().Len() < before }, "the end of a stream")
			default:
				require.Equal(t, "open", connect(t, srv, step.path).nextData())
			}
			if conn == nil {
				conn = testkit.Receive(t, conns)
			}
			require.Equal(t, step.want*timeout*9/8, unackedTimeout(t, conn), "%+v", step)
		}
		require.Empty(t, conns, "the client has made another connection")
	})
}

// needMultipathTCP skips the test if the kernel has no multipath TCP.
func needMultipathTCP(t *testing.T, network *testkit.Network) {
	t.Helper()
	for _, side := range []*testkit.Namespace{network.Server, network.Client} {
		err := side.Do(func() error {
			b, err := os.ReadFile("/proc/sys/net/mptcp/enabled")
			if err == nil && !bytes.Equal(bytes.TrimSpace(b), []byte("1")) {
				err = fmt.Errorf("net.mptcp.enabled is %s", b)
			}
			return err
		})
		if err != nil {
			testkit.Missing(t, "no multipath TCP: "+err.Error())
		}
	}
}

// unackedTimeout returns the TCP_USER_TIMEOUT of conn.
func unackedTimeout(t testing.TB, conn net.Conn) time.Duration {
	t.Helper()
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	const tcpUserTimeout = 18
	var ms int
	var inner error
	require.NoError(t, raw.Control(func(fd uintptr) {
		ms, inner = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
	}))
	require.NoError(t, inner)
	return time.Duration(ms) * time.Millisecond
}
