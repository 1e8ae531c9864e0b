package sse_test

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

// transport is a kind of connection that a session may be detached on.
type transport struct {
	name  string
	tls   bool
	hides bool // that it is a socket
}

var (
	overTCP  = transport{name: "TCP"}
	overTLS  = transport{name: "TLS", tls: true}
	overConn = transport{name: "a mere net.Conn", hides: true}

	transports = []transport{overTCP, overTLS, overConn}
)

// mayBlock reports whether writes may wait for the client.
func (tr transport) mayBlock() bool { return tr.tls || tr.hides || runtime.GOOS == "windows" }

// setup makes a server of that kind. Its sockets hold little, so that it notices
// soon that a client does not read.
func (tr transport) setup(srv *httptest.Server) {
	srv.Listener = &transportListener{srv.Listener, tr}
	if tr.tls {
		srv.Listener = tls.NewListener(srv.Listener, &tls.Config{Certificates: certificates(), MinVersion: tls.VersionTLS12})
	}
}

var certificates = sync.OnceValue(func() []tls.Certificate {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	return srv.TLS.Certificates
})

type transportListener struct {
	net.Listener
	tr transport
}

func (l *transportListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(16 << 10)
	}
	if l.tr.hides && err == nil {
		conn = struct{ net.Conn }{conn}
	}
	return conn, err
}

// wire is a client that sees the bytes.
type wire struct {
	net.Conn
	t   testing.TB
	tcp *net.TCPConn
	r   *bufio.Reader
}

// ask connects to srv and sends a request as it stands.
func (tr transport) ask(t testing.TB, srv *httptest.Server, request string) *wire {
	t.Helper()
	conn := testkit.Dial(t, srv)
	w := &wire{Conn: conn, t: t, tcp: conn}
	require.NoError(t, conn.SetReadBuffer(32<<10))
	if tr.tls {
		w.Conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	w.r = bufio.NewReader(w.Conn)
	_, err := io.WriteString(w.Conn, request)
	require.NoError(t, err)
	return w
}

// head reads the head of a response, but for the time of day.
func (w *wire) head() string {
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

// expect reads what must come next.
func (w *wire) expect(want string) {
	w.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(w.r, got)
	if string(got[:n]) != want { // not by require, which would print it all
		require.Equal(w.t, excerpt(want), excerpt(string(got[:n])))
		require.FailNow(w.t, "other bytes than expected")
	}
	require.NoError(w.t, err)
}

func excerpt(s string) string {
	if len(s) > 200 {
		return fmt.Sprintf("%s ... %s (%d bytes)", s[:50], s[len(s)-50:], len(s))
	}
	return s
}

// rest reads to the end, be it orderly or not.
func (w *wire) rest() string {
	w.t.Helper()
	b, err := io.ReadAll(w.r)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		require.NoError(w.t, err, "the connection is still open")
	}
	return string(b)
}

// chunk is s as HTTP/1.1 frames it.
func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

const lastChunk = "0\r\n\r\n"

// framesOf returns an event for each of data.
func framesOf(data ...string) *engine.Frames {
	f := new(engine.Frames)
	f.Reset(0)
	for _, d := range data {
		frame, _ := sse.Event{Data: d}.AppendText(nil)
		f.Append(frame)
	}
	return f
}

// detacher is a server whose sessions are detached, and all that can be known of
// them.
type detacher struct {
	*sse.Router
	t          testing.TB
	tr         transport
	srv        *httptest.Server
	sessions   chan *detached
	ends       <-chan sse.End
	book       *testkit.Log
	complaints testkit.Buffer // of the http.Server

	outside []func(http.Handler) http.Handler // of the plugin

	// after is what the handler does when the session is detached. Default: it returns
	// nil.
	after func(*detached) error
}

// detached is a session of a detacher's.
type detached struct {
	*sse.ServerSession
	hub      engine.Session
	owner    *stubHub
	returned <-chan struct{} // closed when the request is through
}

// stubHub owns sessions.
type stubHub struct {
	beat  func(dst []byte) ([]byte, bool)
	begun atomic.Int64
	beats atomic.Int64
	ended chan error

	onEnded func(cause error)
}

func (h *stubHub) BeginHeartbeat(dst []byte) ([]byte, bool) {
	h.begun.Add(1)
	if h.beat == nil {
		return dst, false
	}
	return h.beat(dst)
}

func (h *stubHub) EndHeartbeat() { h.beats.Add(1) }

func (h *stubHub) Ended(cause error) {
	h.ended <- cause
	if h.onEnded != nil {
		h.onEnded(cause)
	}
}

type returnedKey struct{}

func newDetacher(t testing.TB, tr transport, cfg sse.Config, setup ...func(*detacher)) *detacher {
	t.Helper()
	d := &detacher{t: t, tr: tr, sessions: make(chan *detached, 10_000), book: testkit.NewLog()}
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
	cfg.Logger = d.book.Logger()
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
	}), tr.setup, func(srv *httptest.Server) { srv.Config.ErrorLog = log.New(&d.complaints, "", 0) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		assert.NoError(t, d.Plugin().Shutdown(ctx))
		assert.Empty(t, d.complaints.String(), "of net/http")
	})
	return d
}

func (d *detacher) handler(s *sse.ServerSession) error {
	if err := s.SendData("open"); !assert.NoError(d.t, err) {
		return err
	}
	ds := d.take(s)
	if !assert.True(d.t, ds.hub.Attach(ds.owner)) || !assert.True(d.t, ds.hub.Detach(), "it must be possible") {
		return errOwn
	}
	d.sessions <- ds
	return d.after(ds)
}

func (d *detacher) take(s *sse.ServerSession) *detached {
	returned, _ := s.Context().Value(returnedKey{}).(chan struct{})
	return &detached{s, engine.Of(s), &stubHub{ended: make(chan error, 10)}, returned}
}

const (
	plainRequest = "GET / HTTP/1.1\r\nHost: test\r\n\r\n"
	openFrame    = "data: open\n\n"
)

// connect opens a session. Its head, and its first event, have been read.
func (d *detacher) connect() (*detached, *wire) {
	d.t.Helper()
	w := d.tr.ask(d.t, d.srv, plainRequest)
	require.True(d.t, strings.HasPrefix(w.head(), "HTTP/1.1 200 OK\r\n"))
	w.expect(chunk(openFrame))
	return testkit.Receive(d.t, d.sessions), w
}

// connectReturned is connect for a session whose handler has returned.
func (d *detacher) connectReturned() (*detached, *wire) {
	d.t.Helper()
	s, w := d.connect()
	testkit.Receive(d.t, s.returned)
	return s, w
}

// ended expects the end of s, which its owner is told of once.
func (d *detacher) ended(s *detached) sse.End {
	d.t.Helper()
	e := testkit.Receive(d.t, d.ends)
	require.Equal(d.t, context.Cause(s.Context()), testkit.Receive(d.t, s.owner.ended))
	require.Empty(d.t, s.owner.ended, "told twice")
	require.Empty(d.t, d.ends, "OnClose was called twice")
	return e
}

// fill sends until the client, which does not read, takes no more. It returns what
// it will read in the end.
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
			f.Append(bytes.Repeat([]byte("!"), len(frame))) // for another session
			return all.String(), events + 1
		}
	}
	require.FailNow(t, "it takes whatever comes")
	return "", 0
}

// onAll runs a test over all kinds of connections.
func onAll(t *testing.T, f func(t *testing.T, tr transport)) {
	t.Helper()
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			f(t, tr)
		})
	}
}

func onAllNamed(t *testing.T, name string, f func(t *testing.T, tr transport)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		onAll(t, f)
	})
}

// newChunkedReader reads a chunked body, whose end must be there.
func newChunkedReader(r *bufio.Reader) io.Reader {
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(
		strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), r)), nil)
	if err != nil {
		panic(err)
	}
	return resp.Body
}

// writerFunc looks at what is written.
type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

func readStatus(t testing.TB, w *wire) int {
	t.Helper()
	resp, err := http.ReadResponse(w.r, nil)
	require.NoError(t, err)
	return resp.StatusCode
}

// receiveSession opens a session whose client does not look at what comes.
func receiveSession(t testing.TB, d *detacher) *detached {
	t.Helper()
	w := d.tr.ask(t, d.srv, plainRequest)
	w.head()
	return testkit.Receive(t, d.sessions)
}
