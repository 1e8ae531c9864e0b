package testkit

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Protocol is a version of HTTP, with or without TLS, that a test runs over.
type Protocol struct {
	Name  string // for subtests: "HTTP/1.1", "HTTP/1.1 with TLS", "h2" or "h2c"
	Proto string // the Proto of a response: "HTTP/1.1" or "HTTP/2.0"
	TLS   bool

	set func(*http.Protocols, bool)
}

// The protocols that net/http serves.
var (
	HTTP1    = Protocol{"HTTP/1.1", "HTTP/1.1", false, (*http.Protocols).SetHTTP1}
	HTTP1TLS = Protocol{"HTTP/1.1 with TLS", "HTTP/1.1", true, (*http.Protocols).SetHTTP1}
	HTTP2    = Protocol{"h2", "HTTP/2.0", true, (*http.Protocols).SetHTTP2}
	H2C      = Protocol{"h2c", "HTTP/2.0", false, (*http.Protocols).SetUnencryptedHTTP2}
)

// Protocols returns a setting for an http.Server, or an http.Transport, that allows p and
// nothing else.
func (p Protocol) Protocols() *http.Protocols {
	protocols := new(http.Protocols)
	p.set(protocols, true)
	return protocols
}

// Setup is an option for [Serve]: the server speaks p and nothing else.
func (p Protocol) Setup(srv *httptest.Server) {
	srv.Config.Protocols = p.Protocols()
	srv.EnableHTTP2 = srv.Config.Protocols.HTTP2()
	if p.TLS {
		srv.TLS = new(tls.Config)
	}
}

// SendBuffer returns an option for [Serve]: the kernel buffers about n bytes of what the
// server sends on a connection. With a small n the server notices soon that a client does
// not read.
func SendBuffer(n int) func(*httptest.Server) {
	return func(srv *httptest.Server) {
		srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
			if secure, ok := c.(*tls.Conn); ok {
				c = secure.NetConn()
			}
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetWriteBuffer(n)
			}
			return ctx
		}
	}
}

// Serve serves h on a loopback socket until the test ends, over HTTP/1.1 unless an option
// says otherwise. The client of the server that it returns speaks the same protocol. What
// the server would log is dropped unless an option sets an ErrorLog.
//
// Options are called in order, before the server starts.
func Serve(t testing.TB, h http.Handler, options ...func(*httptest.Server)) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, option := range options {
		option(srv)
	}
	if srv.TLS != nil || srv.EnableHTTP2 {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	if p := srv.Config.Protocols; p != nil && p.UnencryptedHTTP2() {
		srv.Client().Transport.(*http.Transport).Protocols = p
	}
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

// Dial connects to srv, for a test that reads and writes the bytes itself. The connection
// is closed when the test ends. Its deadline is twice [Patience] from now, so that a read
// in a test that fails does not wait forever.
func Dial(t testing.TB, srv *httptest.Server) *net.TCPConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(2*Patience)))
	return conn.(*net.TCPConn)
}

// Header returns a header with the given fields, pairs of a name and a value. A name may
// come more than once.
func Header(pairs ...string) http.Header {
	h := make(http.Header)
	for pair := range slices.Chunk(pairs, 2) {
		h.Add(pair[0], pair[1])
	}
	return h
}
