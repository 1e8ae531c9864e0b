package sse_test

// This file has what the tests of detached sessions share. A detached session has taken the
// connection from net/http: the handler returns, and the session stays open.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

// transport is a kind of connection on which a session can be detached.
type transport struct {
	name     string
	tls      bool
	noSocket bool // the server sees a net.Conn that is not a socket
}

// The transports differ in what the server can do with a connection: write to a socket
// directly, through TLS, or through a net.Conn of which nothing else is known.
var (
	overTCP  = transport{name: "TCP"}
	overTLS  = transport{name: "TLS", tls: true}
	overConn = transport{name: "a mere net.Conn", noSocket: true}

	transports = []transport{overTCP, overTLS, overConn}
)

// mayBlock reports whether the writes of a detached session may wait for the client.
func (tr transport) mayBlock() bool { return tr.tls || tr.noSocket || runtime.GOOS == "windows" }

// setup is an option for serve: clients connect to the server over tr. The kernel buffers
// little, so that the server notices soon that a client does not read.
func (tr transport) setup(srv *httptest.Server) {
	srv.Listener = &transportListener{srv.Listener, tr}
	if tr.tls {
		srv.Listener = tls.NewListener(srv.Listener, &tls.Config{Certificates: certificates(), MinVersion: tls.VersionTLS12})
	}
}

// certificates returns the certificates of an httptest server with TLS.
var certificates = sync.OnceValue(func() []tls.Certificate {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	return srv.TLS.Certificates
})

// transportListener accepts connections with a small send buffer. It hides from the server
// that they are sockets if the transport says so.
type transportListener struct {
	net.Listener
	tr transport
}

func (l *transportListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(16 << 10)
	}
	if l.tr.noSocket && err == nil {
		conn = struct{ net.Conn }{conn}
	}
	return conn, err
}

// rawClient is a client that reads and writes the bytes of its connection.
type rawClient struct {
	net.Conn // with TLS if the transport has it
	t        testing.TB
	tcp      *net.TCPConn // below TLS
	r        *bufio.Reader
}

// ask connects to srv and sends request byte for byte.
func (tr transport) ask(t testing.TB, srv *httptest.Server, request string) *rawClient {
	t.Helper()
	conn := testkit.Dial(t, srv)
	w := &rawClient{Conn: conn, t: t, tcp: conn}
	require.NoError(t, conn.SetReadBuffer(32<<10))
	if tr.tls {
		w.Conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	w.r = bufio.NewReader(w.Conn)
	_, err := io.WriteString(w.Conn, request)
	require.NoError(t, err)
	return w
}

// head reads the status line and the header of a response. It returns them without the Date
// field.
func (w *rawClient) head() string {
	w.t.Helper()
	var head strings.Builder
	for {
		line, err := w.r.ReadString('\n')
		require.NoError(w.t, err)
		if !strings.HasPrefix(line, "Date: ") {
			head.WriteString(line)
		}
		if line == "\r\n" {
			return head.String()
		}
	}
}

// expect reads the next bytes, which must be want.
func (w *rawClient) expect(want string) {
	w.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(w.r, got)
	if string(got[:n]) != want { // compare here, because require prints both strings whole
		require.Equal(w.t, excerpt(want), excerpt(string(got[:n])))
		require.FailNow(w.t, "unexpected bytes")
	}
	require.NoError(w.t, err)
}

// excerpt returns s, without its middle if it is long.
func excerpt(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%s ... %s (%d bytes)", s[:50], s[len(s)-50:], len(s))
	}
	return s
}

// rest reads until the connection ends and returns what came. A connection that is broken
// off counts as ended; one that stays open fails the test.
func (w *rawClient) rest() string {
	w.t.Helper()
	b, err := io.ReadAll(w.r)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		require.NoError(w.t, err, "the connection is still open")
	}
	return string(b)
}

// chunk returns s as a chunk of HTTP/1.1 (RFC 9112, section 7.1).
func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

// lastChunk ends a response that is complete.
const lastChunk = "0\r\n\r\n"

// framesOf returns the frames of one event for each of data.
func framesOf(data ...string) *engine.Frames {
	f := new(engine.Frames)
	f.Reset(0)
	for _, d := range data {
		frame, _ := sse.Event{Data: d}.AppendText(nil)
		f.Append(frame)
	}
	return f
}

// detachServer is a server that detaches its sessions, and what a test can observe of it.
type detachServer struct {
	*sse.Router
	t          testing.TB
	tr         transport
	srv        *httptest.Server
	sessions   chan *detached
	ends       <-chan sse.End
	logs       *testkit.Log   // of the plugin
	complaints testkit.Buffer // what the http.Server has logged

	outside []func(http.Handler) http.Handler // middleware around the plugin
	options []func(*httptest.Server)          // for serve

	// after is called by the handler after it has detached the session, and the handler
	// returns its result. By default it returns nil.
	after func(*detached) error
}

// detached is a session of a detachServer.
type detached struct {
	*sse.ServerSession
	hub      engine.Session // the session as its hub sees it
	owner    *stubHub
	returned <-chan struct{} // closed after the handler and all middleware have returned
}

// stubHub is an engine.Owner that records the calls of its methods.
type stubHub struct {
	beat  func(dst []byte) ([]byte, bool) // implements BeginHeartbeat; nil: the hub has nothing to send
	begun atomic.Int64                    // calls of BeginHeartbeat
	beats atomic.Int64                    // calls of EndHeartbeat
	ended chan error                      // the causes that Ended was called with

	onEnded func(cause error)      // called by Ended if it is not nil
	endSoon func(cause error) bool // implements EndSoon; nil: the hub does not serve the session any longer
}

func (h *stubHub) BeginHeartbeat(dst []byte) ([]byte, bool) {
	h.begun.Add(1)
	if h.beat == nil {
		return dst, false
	}
	return h.beat(dst)
}

func (h *stubHub) EndSoon(cause error) bool {
	return h.endSoon != nil && h.endSoon(cause)
}

func (h *stubHub) Serializer() any { return nil }

func (h *stubHub) Expel(cause error) bool { return h.EndSoon(cause) }

func (h *stubHub) EndHeartbeat() { h.beats.Add(1) }

func (h *stubHub) Ended(cause error) {
	h.ended <- cause
	if h.onEnded != nil {
		h.onEnded(cause)
	}
}

// returnedKey is the key of a request's context for the channel detached.returned.
type returnedKey struct{}

// newDetachServer starts a server over tr until the test ends. Each setup is called before
// the server's routes are added.
func newDetachServer(t testing.TB, tr transport, cfg sse.Config, setup ...func(*detachServer)) *detachServer {
	t.Helper()
	d := &detachServer{t: t, tr: tr, sessions: make(chan *detached, 10_000), logs: testkit.NewLog()}
	d.after = func(*detached) error { return nil }
	onClose := cfg.OnClose
	ends := make(chan sse.End, 10_000)
	cfg.OnClose = func(s *sse.ServerSession, e sse.End) {
		if onClose != nil {
			onClose(s, e)
		}
		ends <- e
	}
	d.ends = ends
	cfg.Logger = d.logs.Logger()
	d.Router = newRouter(cfg)
	for _, f := range setup {
		f(d)
	}
	d.SSE("/", d.handler)
	d.SSE("/{a}/{b}", d.handler)
	var h http.Handler = d.Router
	for _, f := range slices.Backward(d.outside) {
		h = f(h)
	}
	d.srv = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		returned := make(chan struct{})
		defer close(returned)
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), returnedKey{}, returned)))
	}), append(d.options, tr.setup, func(srv *httptest.Server) { srv.Config.ErrorLog = log.New(&d.complaints, "", 0) })...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		assert.NoError(t, d.Plugin().Shutdown(ctx))
		assert.Empty(t, d.complaints.String(), "net/http has logged something")
	})
	return d
}

// handler opens the session, detaches it, passes it to the test, and calls d.after.
func (d *detachServer) handler(s *sse.ServerSession) error {
	s.Header().Set("Connection", "close") // otherwise the connection would stay with net/http
	if err := s.SendData("open"); !assert.NoError(d.t, err) {
		return err
	}
	ds := d.take(s)
	if !assert.True(d.t, ds.hub.Attach(ds.owner)) || !assert.True(d.t, ds.hub.Detach(), "Detach must succeed") {
		return errOwn
	}
	d.sessions <- ds
	return d.after(ds)
}

// take returns s with what a test needs to observe it.
func (d *detachServer) take(s *sse.ServerSession) *detached {
	returned, _ := s.Context().Value(returnedKey{}).(chan struct{})
	return &detached{s, engine.Of(s), &stubHub{ended: make(chan error, 10)}, returned}
}

// plainRequest is a request for a session, and openFrame is the first event of that session.
const (
	plainRequest = "GET / HTTP/1.1\r\nHost: test\r\n\r\n"
	openFrame    = "data: open\n\n"
)

// connect opens a session and reads the head of the response and the first event.
func (d *detachServer) connect() (*detached, *rawClient) {
	d.t.Helper()
	w := d.tr.ask(d.t, d.srv, plainRequest)
	require.True(d.t, strings.HasPrefix(w.head(), "HTTP/1.1 200 OK\r\n"))
	w.expect(chunk(openFrame))
	return testkit.Receive(d.t, d.sessions), w
}

// connectReturned is like connect, and waits until the handler has returned.
func (d *detachServer) connectReturned() (*detached, *rawClient) {
	d.t.Helper()
	s, w := d.connect()
	testkit.Receive(d.t, s.returned)
	return s, w
}

// ended waits for the end of s. It checks that OnClose and the owner of s are told once each,
// and that the owner is told the cause.
func (d *detachServer) ended(s *detached) sse.End {
	d.t.Helper()
	e := testkit.Receive(d.t, d.ends)
	require.Equal(d.t, context.Cause(s.Context()), testkit.Receive(d.t, s.owner.ended))
	require.Empty(d.t, s.owner.ended, "the owner was told twice")
	require.Empty(d.t, d.ends, "OnClose was called twice")
	return e
}

// fill sends events until a write is pending, because the client does not read. It returns
// the chunks that the client will read later, and the number of events in them.
func (s *detached) fill(t testing.TB) (sent string, events int) {
	t.Helper()
	var all strings.Builder
	var f engine.Frames
	for events = 0; events < 10_000; events++ {
		frame := "data: " + strings.Repeat(string(rune('a'+events%26)), 10_000+events) + "\n\n"
		all.WriteString(chunk(frame))
		f.Reset(1 << 20)
		f.Append([]byte(frame))
		pending, err := s.hub.TryWrite(&f)
		require.NoError(t, err)
		if pending {
			f.Reset(1 << 20)
			f.Append(bytes.Repeat([]byte("!"), len(frame))) // a hub uses its frames again for another session
			return all.String(), events + 1
		}
	}
	require.FailNow(t, "no write became pending after 10,000 events")
	return "", 0
}

// overEach runs f as a parallel subtest over each transport.
func overEach(t *testing.T, f func(t *testing.T, tr transport)) {
	t.Helper()
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			f(t, tr)
		})
	}
}

// overEachNamed runs overEach as a parallel subtest with a name.
func overEachNamed(t *testing.T, name string, f func(t *testing.T, tr transport)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		overEach(t, f)
	})
}

// newChunkedReader returns a reader of the chunked body that r starts with. Reading fails
// if the body ends without a last chunk.
func newChunkedReader(r *bufio.Reader) io.Reader {
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(
		strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), r)), nil)
	if err != nil {
		panic(err)
	}
	return resp.Body
}

// writerFunc is an io.Writer that passes on what is written to it.
type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// readStatus reads the head of a response and returns its status.
func readStatus(t testing.TB, w *rawClient) int {
	t.Helper()
	resp, err := http.ReadResponse(w.r, nil)
	require.NoError(t, err)
	return resp.StatusCode
}

// receiveSession opens a session and reads only the head of the response.
func receiveSession(t testing.TB, d *detachServer) *detached {
	t.Helper()
	w := d.tr.ask(t, d.srv, plainRequest)
	w.head()
	return testkit.Receive(t, d.sessions)
}

// readFrames reads the chunks of a response to its end, and returns what is in them. It fails
// if the last chunk is missing.
func readFrames(w *rawClient) (string, error) {
	b, err := io.ReadAll(newChunkedReader(w.r))
	return string(b), err
}
