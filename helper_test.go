package sse_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

// newRouter installs the plugin on a new router. It logs nothing unless cfg has a Logger.
func newRouter(cfg sse.Config) *sse.Router {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return sse.Install(chi.NewRouter(), cfg)
}

// endsOf sets cfg.OnClose. The channel that it returns receives the end of each session.
func endsOf(cfg *sse.Config) <-chan sse.End {
	ends := make(chan sse.End, 1000)
	cfg.OnClose = func(_ *sse.ServerSession, e sse.End) { ends <- e }
	return ends
}

// serve is like testkit.Serve. The server's client has a timeout, so that a test that fails
// does not wait forever.
func serve(t testing.TB, h http.Handler, options ...func(*httptest.Server)) *httptest.Server {
	t.Helper()
	srv := testkit.Serve(t, h, options...)
	srv.Client().Timeout = 2 * testkit.Patience
	return srv
}

// smallSendBuffer makes the server notice soon that a client does not read.
var smallSendBuffer = testkit.SendBuffer(4 << 10)

// protocols are the protocols that most tests run over.
var protocols = []testkit.Protocol{testkit.HTTP1, testkit.HTTP2}

// newRequest returns a request without a body. The header is pairs of a name and a value, here
// and in the functions below.
func newRequest(t testing.TB, method, url string, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	r.Header = testkit.Header(header...)
	return r
}

// stream is a session as its client sees it.
type stream struct {
	*http.Response
	t      testing.TB
	dec    *event.Decoder
	cancel context.CancelFunc
}

// dial requests path and returns the response, whatever its status.
func dial(t testing.TB, srv *httptest.Server, path string, header ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	resp, err := srv.Client().Do(newRequest(t, http.MethodGet, srv.URL+path, header...).WithContext(ctx))
	require.NoError(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return newStream(t, resp, cancel)
}

// newStream returns resp as a stream whose events a test can read. cancel aborts the request.
func newStream(t testing.TB, resp *http.Response, cancel context.CancelFunc) *stream {
	t.Helper()
	dec := event.NewDecoder(resp.Body)
	dec.Comments, dec.RetryOnly = true, true
	return &stream{Response: resp, t: t, dec: dec, cancel: cancel}
}

// connect requests path, which must answer with an event stream.
func connect(t testing.TB, srv *httptest.Server, path string, header ...string) *stream {
	t.Helper()
	s := dial(t, srv, path, header...)
	require.Equal(t, http.StatusOK, s.StatusCode)
	require.Equal(t, "text/event-stream", s.Header.Get("Content-Type"))
	return s
}

// next returns the next block of the stream: an event, a comment, or a retry time.
func (s *stream) next() sse.Event {
	s.t.Helper()
	ev, err := s.dec.Decode()
	require.NoError(s.t, err)
	return ev
}

// nextData skips blocks without data and returns the data of the next event.
func (s *stream) nextData() string {
	s.t.Helper()
	for {
		if ev := s.next(); ev.Data != "" {
			return ev.Data
		}
	}
}

// rest returns the rest of the stream, and an error unless the stream is complete.
func (s *stream) rest() (string, error) {
	b, err := io.ReadAll(s.Body)
	return string(b), err
}

// end checks that the stream is complete and that nothing is left of it.
func (s *stream) end() {
	s.t.Helper()
	_, err := s.dec.Decode()
	require.Equal(s.t, io.EOF, err)
}

// leave aborts the request and closes the response.
func (s *stream) leave() {
	s.cancel()
	s.Body.Close()
}

// answer is a response whose body has been read.
type answer struct {
	Status int
	Proto  string
	Header http.Header
	Body   string
	Err    error // the error of reading the body
}

// request sends a request without a body and reads the response.
func request(t testing.TB, srv *httptest.Server, method, path string, header ...string) answer {
	t.Helper()
	resp, err := srv.Client().Do(newRequest(t, method, srv.URL+path, header...))
	require.NoError(t, err)
	return readAnswer(resp)
}

// get is request with the method GET.
func get(t testing.TB, srv *httptest.Server, path string, header ...string) answer {
	t.Helper()
	return request(t, srv, http.MethodGet, path, header...)
}

// readAnswer reads the body of resp and closes it.
func readAnswer(resp *http.Response) answer {
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Proto, resp.Header, string(b), err}
}

// record calls h for a request that has no connection.
func record(h http.Handler, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, http.NoBody)
	r.Header = testkit.Header(header...)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

// dialRaw connects to srv with a small receive buffer and requests path over HTTP/1.1. It
// reads nothing.
func dialRaw(t testing.TB, srv *httptest.Server, path string) *net.TCPConn {
	t.Helper()
	tcp := testkit.Dial(t, srv)
	require.NoError(t, tcp.SetReadBuffer(4<<10))
	_, err := io.WriteString(tcp, "GET "+path+" HTTP/1.1\r\nHost: test\r\n\r\n")
	require.NoError(t, err)
	return tcp
}

// pipeServer serves HTTP/1.1 over net.Pipe. Pipes use no sockets, so in a synctest bubble
// everything runs in the time of the bubble. A pipe has no buffer, so a client that does not
// read blocks the server's next write.
type pipeServer struct {
	t     *testing.T
	conns chan net.Conn
}

// servePipe serves h over pipes until the test of the bubble ends.
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
		time.Sleep(24 * time.Hour) // let sleeping goroutines end: a bubble panics if any are left, and hides why the test failed
	})
	return p
}

// dial requests path and returns the connection. It reads nothing.
func (p *pipeServer) dial(path string, header ...string) net.Conn {
	p.t.Helper()
	client, server := net.Pipe()
	p.conns <- server
	p.t.Cleanup(func() { client.Close() })
	require.NoError(p.t, newRequest(p.t, http.MethodGet, "http://test"+path, header...).Write(client))
	return client
}

// connect requests path, which must answer with an event stream.
func (p *pipeServer) connect(path string, header ...string) *stream {
	p.t.Helper()
	s := p.get(path, header...)
	require.Equal(p.t, http.StatusOK, s.StatusCode)
	require.Equal(p.t, "text/event-stream", s.Header.Get("Content-Type"))
	return s
}

// get requests path and reads the head of the response, whatever its status.
func (p *pipeServer) get(path string, header ...string) *stream {
	p.t.Helper()
	conn := p.dial(path, header...)
	return p.read(conn)
}

// read reads the head of the response to the request that was sent on conn.
func (p *pipeServer) read(conn net.Conn) *stream {
	p.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(p.t, err)
	resp.Body = &pipeBody{resp.Body, conn}
	return newStream(p.t, resp, func() { conn.Close() })
}

// pipeBody is a body whose Close closes the connection. The Close of net/http's own body
// would read to the end of the stream first.
type pipeBody struct {
	io.Reader
	io.Closer
}

// pipeListener is a net.Listener that accepts the connections from a channel.
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

// panicOf calls f, which must panic with a string, and returns the string.
func panicOf(t testing.TB, f func()) (text string) {
	t.Helper()
	defer func() {
		v := recover()
		require.NotNil(t, v, "there was no panic")
		text, _ = v.(string)
		require.NotEmpty(t, text, "the panic has a %T instead of a message", v)
	}()
	f()
	return ""
}

// untilDone is a handler that sends one event, "open", and waits for the end of the session.
func untilDone(s *sse.ServerSession) error {
	if err := s.Send(sse.Event{Data: "open"}); err != nil {
		return err
	}
	<-s.Done()
	return nil
}

// errOwn is the error of handlers, hooks and writers that fail on purpose.
var errOwn = errors.New("an error of the handler")

// where is a handler that sends the pattern of its route and the URL parameters.
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

// plain is an ordinary handler.
func plain(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "plain") }

// fields is a serializer that writes the type of a value and its fields.
var fields = sse.SerializerFunc(func(dst []byte, v any) ([]byte, error) {
	return fmt.Appendf(dst, "%T %+v", v, v), nil
})

// sendsOf returns the methods of s that write to the stream, by name.
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
