package compat

// This file defines the transports of the matrix, the test server, and a client that uses a
// single connection.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

// transport represents a version of HTTP, with or without TLS.
type transport struct {
	name string
	testkit.Protocol
}

var (
	http1    = transport{"http1", testkit.HTTP1}
	http1TLS = transport{"http1-tls", testkit.HTTP1TLS}
	http2    = transport{"http2-tls", testkit.HTTP2}
	h2c      = transport{"h2c", testkit.H2C}

	transports = []transport{http1, http1TLS, http2, h2c}

	// http10 is not among them, because a connection serves one request.
	http10 = transport{"http1.0", http10Protocol()}
)

// http10Protocol is for clients that speak HTTP/1.0, as nginx does to its upstreams by default.
func http10Protocol() testkit.Protocol {
	p := testkit.HTTP1
	p.Proto = "HTTP/1.0"
	return p
}

// keepsAlive reports whether a connection serves more than one request.
func (tr transport) keepsAlive() bool { return tr.Proto != "HTTP/1.0" }

func (tr transport) isHTTP2() bool { return tr.Proto == "HTTP/2.0" }

// testServer is a server on loopback and one connection to it.
type testServer struct {
	transport
	server   *httptest.Server
	running  sync.WaitGroup // the handlers that run
	conn     conn
	agent    string     // the client's User-Agent
	errorLog *logBuffer // what http.Server logs; must be empty at the end of the test
}

// start serves h until the test ends. Each function in set may change the server's settings.
func (tr transport) start(t *testing.T, h http.Handler, set ...func(*http.Server)) *testServer {
	t.Helper()
	s := &testServer{transport: tr, errorLog: new(logBuffer)}
	// This runs after the cleanup of testkit.Serve, which closes the server.
	t.Cleanup(func() {
		s.running.Wait()
		assert.Empty(t, s.errorLog.lines(), "http.Server logged something")
	})
	s.server = testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.running.Add(1)
		defer s.running.Done()
		h.ServeHTTP(w, r)
	}), tr.Setup, func(srv *httptest.Server) {
		srv.Config.ErrorLog = log.New(s.errorLog, "", 0)
		for _, set := range set {
			if set != nil {
				set(srv.Config)
			}
		}
	})
	s.dial(t)
	return s
}

// close closes the server and waits for its handlers.
func (s *testServer) close() {
	s.server.CloseClientConnections()
	s.server.Close()
	s.running.Wait() // on HTTP/2 a handler may outlive its connection
}

// conn represents a client's connection. Every request uses this connection or fails.
// http.Transport would dial again if the server had closed the connection, and sometimes
// does so for other reasons.
type conn interface {
	http.RoundTripper
	Close() error
}

// dial gives the server a new connection.
func (s *testServer) dial(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), maxWait)
	defer cancel()
	addr := s.server.Listener.Addr().String()
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), ServerName: "example.com"}
	if s.TLS {
		config.RootCAs.AddCert(s.server.Certificate())
	}
	var err error
	switch {
	case s.isHTTP2():
		scheme, _, _ := strings.Cut(s.server.URL, ":")
		s.conn, err = (&http.Transport{Protocols: s.Protocols(), TLSClientConfig: config}).NewClientConn(ctx, scheme, addr)
	case s.TLS:
		var c net.Conn
		c, err = (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
		s.conn = &http1Conn{c, bufio.NewReader(c), false}
	default:
		var c net.Conn
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		s.conn = &http1Conn{c, bufio.NewReader(c), !s.keepsAlive()}
	}
	require.NoError(t, err)
	t.Cleanup(func() { s.conn.Close() })
}

// http1Conn is a client's HTTP/1.x connection.
type http1Conn struct {
	net.Conn
	r    *bufio.Reader
	is10 bool
}

func (c *http1Conn) RoundTrip(req *http.Request) (*http.Response, error) {
	if deadline, ok := req.Context().Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	var text bytes.Buffer
	if err := req.Write(&text); err != nil {
		return nil, err
	}
	if c.is10 {
		text = *bytes.NewBuffer(bytes.Replace(text.Bytes(), []byte(" HTTP/1.1\r\n"), []byte(" HTTP/1.0\r\n"), 1))
	}
	if _, err := text.WriteTo(c); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.r, req)
}

// call represents a request and its response.
type call struct {
	*http.Response
	leave func() // makes the client leave before the response has ended
}

// requestHeader is the header of every request. It sets Accept-Encoding because net/http's
// client would otherwise ask for gzip and decompress the response unseen. The other fields
// give the middleware something to do.
var requestHeader = http.Header{
	"Accept":          {"text/event-stream"},
	"Accept-Encoding": {"gzip, deflate, br, zstd"},
	"Origin":          {"https://example.com"},
	"X-Real-Ip":       {"192.0.2.1"},
}

// do sends a request and requires a response.
func (s *testServer) do(t *testing.T, method, path, body string) *call {
	t.Helper()
	c, err := s.try(t, method, path, body)
	require.NoError(t, err, "%s %s", method, path)
	return c
}

// try sends a request that may get no response. The call ends with the test or after
// maxWait.
func (s *testServer) try(t *testing.T, method, path, body string) (*call, error) {
	t.Helper()
	if body == "" {
		return s.tryWith(t, method, path, nil)
	}
	return s.tryWith(t, method, path, strings.NewReader(body))
}

// doWith is like do, with a body of unknown length.
func (s *testServer) doWith(t *testing.T, method, path string, body io.Reader) *call {
	t.Helper()
	c, err := s.tryWith(t, method, path, body)
	require.NoError(t, err, "%s %s", method, path)
	return c
}

// doHeader is like do, with another header and no body.
func (s *testServer) doHeader(t *testing.T, method, path string, header http.Header) *call {
	t.Helper()
	c, err := s.tryHeader(t, method, path, nil, header)
	require.NoError(t, err, "%s %s", method, path)
	return c
}

// tryWith is like try, with a body of unknown length.
func (s *testServer) tryWith(t *testing.T, method, path string, body io.Reader) (*call, error) {
	t.Helper()
	return s.tryHeader(t, method, path, body, requestHeader)
}

func (s *testServer) tryHeader(t *testing.T, method, path string, body io.Reader, header http.Header) (*call, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), maxWait)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, s.server.URL+path, body)
	require.NoError(t, err)
	req.Header = header.Clone()
	req.Header.Set("User-Agent", s.agent)
	res, err := s.conn.RoundTrip(req) // do not close the body, which would read the rest; the connection is closed instead
	if err != nil {
		return nil, err
	}
	require.Equal(t, s.Proto, res.Proto)
	leave := cancel
	if !s.isHTTP2() {
		conn := s.conn
		leave = func() { conn.Close() }
	}
	return &call{res, leave}, nil
}

// isTimeout reports whether err says that maxWait has passed.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// logBuffer collects the lines that are written to it. Only the test's goroutine calls
// methods other than Write.
type logBuffer struct {
	testkit.Buffer
	expected string
}

// expect makes lines ignore every line that contains text.
func (l *logBuffer) expect(text string) { l.expected = text }

// outOfReach is the plugin's warning that something outside of it hides the connection's
// deadlines. That is so in many rows.
const outOfReach = "writes cannot be bounded in time"

// lines returns the lines that were not expected. The warning outOfReach is always expected.
func (l *logBuffer) lines() []string {
	return slices.DeleteFunc(l.all(), func(line string) bool {
		return strings.Contains(line, outOfReach) || l.expected != "" && strings.Contains(line, l.expected)
	})
}

// all returns all lines.
func (l *logBuffer) all() []string { return slices.Collect(strings.Lines(l.String())) }
