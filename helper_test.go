package sse_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
)

// patience is how long a test waits for what must happen. Nothing takes that long.
const patience = 20 * time.Second

// newRouter installs the plugin on a new router. It logs nothing, unless cfg has a
// Logger.
func newRouter(cfg sse.Config) *sse.Router {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return sse.Install(chi.NewRouter(), cfg)
}

// endsOf makes cfg report the end of each session, and returns where.
func endsOf(cfg *sse.Config) <-chan sse.End {
	ends := make(chan sse.End, 1000)
	cfg.OnClose = func(_ *sse.ServerSession, e sse.End) { ends <- e }
	return ends
}

// serve serves h on a loopback socket until the test ends.
func serve(t testing.TB, h http.Handler, options ...func(*httptest.Server)) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, option := range options {
		option(srv)
	}
	if srv.EnableHTTP2 {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	srv.Client().Timeout = 2 * patience // a test that fails should not hang
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

// overHTTP2 makes serve speak HTTP/2.
func overHTTP2(srv *httptest.Server) { srv.EnableHTTP2 = true }

// smallSendBuffer lets the server notice soon that a client does not read.
func smallSendBuffer(srv *httptest.Server) {
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(4 << 10)
		}
		return ctx
	}
}

// protocols are those that a test runs over.
var protocols = []struct {
	name  string
	proto string
	setup func(*httptest.Server)
}{
	{"HTTP/1.1", "HTTP/1.1", func(*httptest.Server) {}},
	{"h2", "HTTP/2.0", overHTTP2},
}

// newRequest takes the header as pairs of name and value.
func newRequest(t testing.TB, method, url string, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	for pair := range slices.Chunk(header, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	return r
}

// stream is a client's end of a session.
type stream struct {
	*http.Response
	t      testing.TB
	dec    *event.Decoder
	cancel context.CancelFunc
}

// dial opens a stream, whatever its status.
func dial(t testing.TB, srv *httptest.Server, path string, header ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	resp, err := srv.Client().Do(newRequest(t, http.MethodGet, srv.URL+path, header...).WithContext(ctx))
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return newStream(t, resp, cancel)
}

func newStream(t testing.TB, resp *http.Response, cancel context.CancelFunc) *stream {
	t.Helper()
	dec := event.NewDecoder(resp.Body)
	dec.Comments, dec.RetryOnly = true, true
	return &stream{Response: resp, t: t, dec: dec, cancel: cancel}
}

// connect opens a stream that must be one.
func connect(t testing.TB, srv *httptest.Server, path string, header ...string) *stream {
	t.Helper()
	s := dial(t, srv, path, header...)
	require.Equal(t, http.StatusOK, s.StatusCode)
	require.Equal(t, "text/event-stream", s.Header.Get("Content-Type"))
	return s
}

// next returns the next block of the stream.
func (s *stream) next() sse.Event {
	s.t.Helper()
	ev, err := s.dec.Decode()
	require.NoError(s.t, err)
	return ev
}

// nextData returns the data of the next event that has any.
func (s *stream) nextData() string {
	s.t.Helper()
	for {
		if ev := s.next(); ev.Data != "" {
			return ev.Data
		}
	}
}

// rest returns what is left of the stream, and how it ended.
func (s *stream) rest() (string, error) {
	b, err := io.ReadAll(s.Body)
	return string(b), err
}

// end expects the stream to end without anything more.
func (s *stream) end() {
	s.t.Helper()
	_, err := s.dec.Decode()
	require.Equal(s.t, io.EOF, err)
}

// leave goes without a word.
func (s *stream) leave() {
	s.cancel()
	s.Body.Close()
}

// answer is a response that has been read to its end.
type answer struct {
	Status int
	Proto  string
	Header http.Header
	Body   string
	Err    error // of reading the body
}

// request makes a request and reads the answer.
func request(t testing.TB, srv *httptest.Server, method, path string, header ...string) answer {
	t.Helper()
	resp, err := srv.Client().Do(newRequest(t, method, srv.URL+path, header...))
	require.NoError(t, err)
	return readAnswer(resp)
}

func get(t testing.TB, srv *httptest.Server, path string, header ...string) answer {
	t.Helper()
	return request(t, srv, http.MethodGet, path, header...)
}

func readAnswer(resp *http.Response) answer {
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Proto, resp.Header, string(b), err}
}

// record answers a request without a connection.
func record(h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, http.NoBody)
	for pair := range slices.Chunk(header, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

// rawClient dials srv with a small receive buffer and asks for path, to be read or
// not by the test.
func rawClient(t testing.TB, srv *httptest.Server, path string) *net.TCPConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	tcp, ok := conn.(*net.TCPConn)
	require.True(t, ok)
	require.NoError(t, tcp.SetReadBuffer(4<<10))
	require.NoError(t, tcp.SetDeadline(time.Now().Add(2*patience)))
	_, err = io.WriteString(tcp, "GET "+path+" HTTP/1.1\r\nHost: test\r\n\r\n")
	require.NoError(t, err)
	return tcp
}

// pipeServer serves HTTP/1.1 over pipes, which are nothing but memory: in a
// synctest bubble its time is the bubble's. A client that does not read stalls the
// server at once, for a pipe holds nothing.
type pipeServer struct {
	t     *testing.T
	conns chan net.Conn
}

// servePipe serves h until the bubble's test ends.
func servePipe(t *testing.T, h http.Handler, options ...func(*http.Server)) *pipeServer {
	t.Helper()
	p := &pipeServer{t, make(chan net.Conn)}
	srv := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	for _, option := range options {
		option(srv)
	}
	l := &pipeListener{conns: p.conns, done: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.done) })
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() {
		srv.Close()
		time.Sleep(24 * time.Hour) // whoever sleeps finishes, or a failure would end in a panic of the bubble
	})
	return p
}

// dial asks for path and returns the connection.
func (p *pipeServer) dial(path string, header ...string) net.Conn {
	p.t.Helper()
	client, server := net.Pipe()
	p.conns <- server
	p.t.Cleanup(func() { client.Close() })
	require.NoError(p.t, newRequest(p.t, http.MethodGet, "http://test"+path, header...).Write(client))
	return client
}

// connect opens a stream that must be one.
func (p *pipeServer) connect(path string, header ...string) *stream {
	p.t.Helper()
	s := p.get(path, header...)
	require.Equal(p.t, http.StatusOK, s.StatusCode)
	require.Equal(p.t, "text/event-stream", s.Header.Get("Content-Type"))
	return s
}

// get reads the head of the response.
func (p *pipeServer) get(path string, header ...string) *stream {
	p.t.Helper()
	conn := p.dial(path, header...)
	return p.read(conn)
}

// read reads the head of the response on conn.
func (p *pipeServer) read(conn net.Conn) *stream {
	p.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(p.t, err)
	resp.Body = &pipeBody{resp.Body, conn}
	return newStream(p.t, resp, func() { conn.Close() })
}

// pipeBody does not wait for the end of a body that is closed.
type pipeBody struct {
	io.Reader
	io.Closer
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.close()
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// receive waits for a value.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

// eventually waits until f is true.
func eventually(t testing.TB, f func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(t, "in vain waited for: "+what)
		}
	}
}

// goroutinesBackTo waits until no more than n goroutines are running.
func goroutinesBackTo(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			require.FailNowf(t, "goroutines are left", "%d more than the %d before\n%s", runtime.NumGoroutine()-n, n, stacks)
		}
	}
}

// panicOf returns what f panics with, as text.
func panicOf(t testing.TB, f func()) (text string) {
	t.Helper()
	defer func() {
		v := recover()
		require.NotNil(t, v, "no panic")
		text, _ = v.(string)
		require.NotEmpty(t, text, "a panic with a %T, not a sentence", v)
	}()
	f()
	return ""
}

// In handlers, and in all goroutines but the test's own, require would end the
// wrong one. noError and matches are for there.

func noError(t testing.TB, err error) bool {
	t.Helper()
	return assert.NoError(t, err)
}

func matches(t testing.TB, err, target error, about ...any) {
	t.Helper()
	assert.ErrorIs(t, err, target, about...)
}

// untilDone is a handler that sends one event, "open", and waits for the end.
func untilDone(s *sse.ServerSession) error {
	if err := s.Send(sse.Event{Data: "open"}); err != nil {
		return err
	}
	<-s.Done()
	return nil
}

// syncBuffer is a buffer for more than one goroutine.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// logbook is a slog.Handler that keeps what is logged.
type logbook struct {
	mu   *sync.Mutex
	all  *[]entry
	with []slog.Attr
}

type entry struct {
	Level   slog.Level
	Message string
	Text    string // message and attributes
	Attrs   map[string]slog.Value
}

func newLogbook() *logbook { return &logbook{mu: new(sync.Mutex), all: new([]entry)} }

func (l *logbook) logger() *slog.Logger { return slog.New(l) }

func (l *logbook) Enabled(context.Context, slog.Level) bool { return true }

func (l *logbook) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logbook{l.mu, l.all, slices.Concat(l.with, attrs)}
}

func (l *logbook) WithGroup(string) slog.Handler { return l }

func (l *logbook) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(l.with...)
	e := entry{Level: r.Level, Message: r.Message, Attrs: make(map[string]slog.Value)}
	r.Attrs(func(a slog.Attr) bool {
		e.Attrs[a.Key] = a.Value.Resolve()
		return true
	})
	var text bytes.Buffer
	if err := slog.NewTextHandler(&text, nil).Handle(ctx, r); err != nil {
		return err
	}
	e.Text = text.String()
	l.mu.Lock()
	defer l.mu.Unlock()
	*l.all = append(*l.all, e)
	return nil
}

// entries returns those that hold text.
func (l *logbook) entries(text string) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []entry
	for _, e := range *l.all {
		if strings.Contains(e.Text, text) {
			found = append(found, e)
		}
	}
	return found
}

var errOwn = errors.New("an error of the handler")

// where sends the pattern that matched, and the URL parameters.
func where(s *sse.ServerSession) error {
	rctx := chi.RouteContext(s.Context())
	text := rctx.RoutePattern()
	for i, key := range rctx.URLParams.Keys {
		if key != "*" || rctx.URLParams.Values[i] != "" {
			text += fmt.Sprintf(" %s=%s", key, rctx.URLParams.Values[i])
		}
	}
	return s.SendData(text)
}

func plain(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "plain") }

// fields writes a value as its fields, and says what type it got.
var fields = sse.SerializerFunc(func(dst []byte, v any) ([]byte, error) {
	return fmt.Appendf(dst, "%T %+v", v, v), nil
})

// sendsOf are the verbs of a session that write.
func sendsOf(s *sse.ServerSession) map[string]func() error {
	return map[string]func() error{
		"Send":      func() error { return s.Send(sse.Event{Data: "late"}) },
		"SendData":  func() error { return s.SendData(1) },
		"SendTyped": func() error { return s.SendTyped(sse.TypedEvent{ID: "1", Data: 1}) },
		"Comment":   func() error { return s.Comment("late") },
		"Open":      s.Open,
		"Heartbeat": func() error { return s.Heartbeat(sse.Heartbeat{}) },
	}
}
