package compat

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
)

// transport is a way for HTTP to get from a client to a server and back.
type transport struct {
	name  string
	major int // the request's ProtoMajor
	tls   bool
	set   func(*http.Protocols, bool)
}

var (
	http1    = transport{"http1", 1, false, (*http.Protocols).SetHTTP1}
	http1TLS = transport{"http1-tls", 1, true, (*http.Protocols).SetHTTP1}
	http2    = transport{"http2-tls", 2, true, (*http.Protocols).SetHTTP2}
	h2c      = transport{"h2c", 2, false, (*http.Protocols).SetUnencryptedHTTP2}

	transports = []transport{http1, http1TLS, http2, h2c}
)

// site is a server on loopback and one connection to it.
type site struct {
	transport
	server   *httptest.Server
	running  sync.WaitGroup // handlers
	conn     conn
	agent    string   // the client's User-Agent
	errorLog *logbook // what http.Server prints; must be empty in the end
}

// start serves h until the test ends. Each set may set up the server.
func (tr transport) start(t *testing.T, h http.Handler, set ...func(*http.Server)) *site {
	t.Helper()
	s := &site{transport: tr, errorLog: new(logbook)}

	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.running.Add(1)
		defer s.running.Done()
		h.ServeHTTP(w, r)
	}))
	s.server.Config.Protocols = tr.protocols()
	s.server.Config.ErrorLog = log.New(s.errorLog, "", 0)
	for _, set := range set {
		if set != nil {
			set(s.server.Config)
		}
	}
	if tr.tls {
		s.server.EnableHTTP2 = tr.major == 2
		s.server.StartTLS()
	} else {
		s.server.Start()
	}
	t.Cleanup(func() {
		s.close()
		assert.Empty(t, s.errorLog.lines(), "http.Server has something to say")
	})
	s.dial(t)
	return s
}

// close ends the server, and waits for what runs in it.
func (s *site) close() {
	s.server.CloseClientConnections()
	s.server.Close()
	s.running.Wait() // on HTTP/2 a handler may outlive its connection
}

func (tr transport) protocols() *http.Protocols {
	p := new(http.Protocols)
	tr.set(p, true)
	return p
}

// conn is a connection of a client. Whatever is asked goes over it, or fails:
// http.Transport would dial anew if the server had closed it, and does so at times
// for reasons of its own.
type conn interface {
	http.RoundTripper
	Close() error
}

// dial makes a new connection the site's.
func (s *site) dial(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	addr := s.server.Listener.Addr().String()
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), ServerName: "example.com"}
	if s.tls {
		config.RootCAs.AddCert(s.server.Certificate())
	}
	var err error
	switch {
	case s.major == 2:
		scheme, _, _ := strings.Cut(s.server.URL, ":")
		s.conn, err = (&http.Transport{Protocols: s.protocols(), TLSClientConfig: config}).NewClientConn(ctx, scheme, addr)
	case s.tls:
		var c net.Conn
		c, err = (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
		s.conn = &http1Conn{c, bufio.NewReader(c)}
	default:
		var c net.Conn
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		s.conn = &http1Conn{c, bufio.NewReader(c)}
	}
	require.NoError(t, err)
	t.Cleanup(func() { s.conn.Close() })
}

// http1Conn is a client's connection of HTTP/1.1.
type http1Conn struct {
	net.Conn
	r *bufio.Reader
}

func (c *http1Conn) RoundTrip(req *http.Request) (*http.Response, error) {
	if deadline, ok := req.Context().Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	if err := req.Write(c); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.r, req)
}

// call is a request with its answer.
type call struct {
	*http.Response
	leave func() // breaks it off
}

// requestHeader is what every request carries. Accept-Encoding is there since
// net/http's client would otherwise ask for gzip, and hide that it got it; the
// others give the middleware something to do.
var requestHeader = http.Header{
	"Accept":          {"text/event-stream"},
	"Accept-Encoding": {"gzip, deflate, br, zstd"},
	"Origin":          {"https://example.com"},
	"X-Real-Ip":       {"192.0.2.1"},
}

// do sends a request and requires an answer.
func (s *site) do(t *testing.T, method, path, body string) *call {
	t.Helper()
	c, err := s.try(t, method, path, body)
	require.NoError(t, err, "%s %s", method, path)
	return c
}

// try sends a request that may get no answer. The call ends with the test, or
// after patience.
func (s *site) try(t *testing.T, method, path, body string) (*call, error) {
	t.Helper()
	if body == "" {
		return s.tryWith(t, method, path, nil)
	}
	return s.tryWith(t, method, path, strings.NewReader(body))
}

// doWith is do with a body of unknown length.
func (s *site) doWith(t *testing.T, method, path string, body io.Reader) *call {
	t.Helper()
	c, err := s.tryWith(t, method, path, body)
	require.NoError(t, err, "%s %s", method, path)
	return c
}

func (s *site) tryWith(t *testing.T, method, path string, body io.Reader) (*call, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, s.server.URL+path, body)
	require.NoError(t, err)
	req.Header = requestHeader.Clone()
	req.Header.Set("User-Agent", s.agent)
	res, err := s.conn.RoundTrip(req) // its body is not closed, which would read what is left: the connection is
	if err != nil {
		return nil, err
	}
	require.Equal(t, s.major, res.ProtoMajor)
	leave := cancel
	if s.major == 1 {
		conn := s.conn
		leave = func() { conn.Close() }
	}
	return &call{res, leave}, nil
}

// isTimeout reports whether err is the end of patience.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// logbook keeps what is written to it, line by line.
type logbook struct {
	mu       sync.Mutex
	text     bytes.Buffer
	expected string
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// expect lets lines that hold text pass.
func (l *logbook) expect(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expected = text
}

// outOfReach is what the plugin warns of where something outside of it bars the
// way to the connection's deadlines, which many rows have.
const outOfReach = "writes cannot be bounded in time"

// lines returns the lines that were not expected.
func (l *logbook) lines() []string {
	return slices.DeleteFunc(l.all(), func(line string) bool {
		return strings.Contains(line, outOfReach) || l.expected != "" && strings.Contains(line, l.expected)
	})
}

func (l *logbook) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(strings.Lines(l.text.String()))
}
