package hub_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// transport is a protocol, with or without detached sessions.
type transport struct {
	name     string
	protocol testkit.Protocol
	detached bool
}

var (
	http1       = transport{"http1", testkit.HTTP1, false}
	http1TLS    = transport{"http1-tls", testkit.HTTP1TLS, false}
	http2       = transport{"http2-tls", testkit.HTTP2, false}
	h2c         = transport{"h2c", testkit.H2C, false}
	detached    = transport{"detached", testkit.HTTP1, true}
	detachedTLS = transport{"detached-tls", testkit.HTTP1TLS, true}

	transports = []transport{http1, http1TLS, http2, h2c, detached, detachedTLS}
)

// test is a test and the transport that it uses.
type test struct {
	*testing.T
	transport
}

// forEach runs f over each transport.
func forEach(t *testing.T, f func(t *test)) {
	t.Helper()
	t.Parallel()
	if !applies(t) {
		return
	}
	for _, tr := range transports {
		if os.Getenv("SSE_HUB_LOG") != "" && tr.protocol.Name != http1.protocol.Name {
			continue // the Log does not know of them, and the tests take long
		}
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			f(&test{t, tr})
		})
	}
}

// start starts an app over t's transport. It runs until the test ends.
func (t *test) start(p plan) *app {
	t.Helper()
	return t.transport.start(t.T, p)
}

// plan configures an app. Its zero value serves topic "a".
type plan struct {
	hub     hub.Config
	sse     sse.Config       // Heartbeat.Period 0 means no heartbeats
	sub     hub.Subscription // for requests to "/"; their query parameters "topic" replace its Topics
	serve   func(h *hub.Hub, s *sse.ServerSession, sub hub.Subscription) error
	route   []sse.RouteOption
	use     []func(http.Handler) http.Handler
	mount   func(a *app, r *sse.Router)
	server  func(a *app, srv *http.Server)
	small   bool     // small buffers: writes soon block if a client does not read
	expects []string // texts that http.Server may log
}

// app is a hub and the server that serves it.
type app struct {
	*hub.Hub
	t      testing.TB
	tr     transport
	plugin *sse.Plugin
	srv    *httptest.Server
	client *http.Client
	ends   chan sse.End
	log    *testkit.Buffer // what the hub and the plugin log

	usesLog bool // the hub has a Log
}

// kick kicks the members of topic and returns their number.
func (a *app) kick(topic string, cause error) int {
	n, err := a.Kick(context.Background(), topic, cause)
	if a.usesLog && errors.Is(err, sse.ErrShutdown) {
		return n // the members of this hub are kicked, and those of others cannot be told
	}
	assert.NoError(a.t, err)
	return n
}

// start starts an app over tr. When the test ends it stops the app, and asserts that no
// session and no member is left.
func (tr transport) start(t testing.TB, p plan) *app {
	t.Helper()
	a := &app{t: t, tr: tr, ends: make(chan sse.End, 10_000), log: new(testkit.Buffer)}
	logger := slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p.hub.Detached = tr.detached
	if p.hub.Logger == nil {
		p.hub.Logger = logger
	}
	h := newHub(t, p.hub)
	a.Hub = h
	a.usesLog = os.Getenv("SSE_HUB_LOG") != "" || p.hub.Log != nil

	if a.usesLog { // a client that is ahead waits longer than the usual OpenDelay
		p.sse.OpenDelay = cmp.Or(p.sse.OpenDelay, -1)
	}
	p.sse.Heartbeat.Period = cmp.Or(p.sse.Heartbeat.Period, -1)
	if p.sse.Logger == nil {
		p.sse.Logger = logger
	}
	onClose := p.sse.OnClose
	p.sse.OnClose = func(s *sse.ServerSession, e sse.End) {
		if onClose != nil {
			onClose(s, e)
		}
		a.ends <- e
	}
	r := sse.Install(chi.NewRouter(), p.sse)
	a.plugin = r.Plugin()
	r.Use(p.use...)
	r.SSE("/", func(s *sse.ServerSession) error {
		sub := p.sub
		if topics := s.Call().URL.Query()["topic"]; len(topics) > 0 {
			sub.Topics = topics
		} else if sub.Topics == nil {
			sub.Topics = []string{"a"}
		}
		if p.serve != nil {
			return p.serve(h, s, sub)
		}
		return h.Serve(s, sub)
	}, p.route...)
	if p.mount != nil {
		p.mount(a, r)
	}

	serverLog := testkit.NewLog()
	p.expects = append(p.expects, "TLS handshake error") // a client that stops at the end of a test causes it

	// This runs after the cleanup of testkit.Serve, which closes the server.
	t.Cleanup(func() {
		testkit.Eventually(t, func() bool { return a.plugin.Len() == 0 }, "the end of all sessions")
		testkit.Eventually(t, func() bool { return a.Stats().Members == 0 }, "the end of all members")
		for _, e := range serverLog.Entries("") {
			assert.True(t, slices.ContainsFunc(p.expects, func(text string) bool { return strings.Contains(e.Message, text) }),
				"http.Server has logged: %s", e.Message)
		}
	})
	options := []func(*httptest.Server){tr.protocol.Setup}
	if p.small {
		options = append(options, testkit.SendBuffer(16<<10))
	}
	options = append(options, func(srv *httptest.Server) {
		srv.Config.ErrorLog = slog.NewLogLogger(serverLog, slog.LevelError)
		if p.server != nil {
			p.server(a, srv.Config)
		}
	})
	a.srv = testkit.Serve(t, r, options...)
	a.client = a.newClient(false)
	return a
}

// newClient returns a client. A slow one has small buffers, so it takes little more than it
// reads.
func (a *app) newClient(slow bool) *http.Client {
	t := &http.Transport{Protocols: a.tr.protocol.Protocols(), TLSClientConfig: a.tlsConfig()}
	if slow {
		t.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				err = conn.(*net.TCPConn).SetReadBuffer(64 << 10)
			}
			return conn, err
		}
	}
	a.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// rawConn returns a connection to the server, without an HTTP client.
func (a *app) rawConn() net.Conn {
	a.t.Helper()
	conn := testkit.Dial(a.t, a.srv)
	if !a.tr.protocol.TLS {
		return conn
	}
	secure := tls.Client(conn, a.tlsConfig())
	require.NoError(a.t, secure.HandshakeContext(a.t.Context()))
	a.t.Cleanup(func() { secure.Close() })
	return secure
}

func (a *app) tlsConfig() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool(), ServerName: "example.com"}
	if a.tr.protocol.TLS {
		config.RootCAs.AddCert(a.srv.Certificate())
	}
	return config
}

// publish publishes an event, from the test's goroutine.
func (a *app) publish(topic string, e sse.Event) hub.Position {
	a.t.Helper()
	pos, err := a.Publish(a.t.Context(), topic, e)
	require.NoError(a.t, err)
	if a.usesLog {
		require.NoError(a.t, a.Wait(a.t.Context(), pos))
	}
	return pos
}

// publishN publishes events with the numbers from first to last as data.
func (a *app) publishN(topic string, first, last int) {
	a.t.Helper()
	for i := first; i <= last; i++ {
		a.publish(topic, sse.Event{Data: strconv.Itoa(i)})
	}
}

// joined waits until n members have joined topic.
func (a *app) joined(topic string, n int) {
	a.t.Helper()
	testkit.Eventually(a.t, func() bool { return a.Count(topic) == n && len(slices.Collect(a.Members(topic))) == n },
		fmt.Sprintf("%d members of %s", n, topic))
}

// end waits until a session has ended, and returns how.
func (a *app) end() sse.End {
	a.t.Helper()
	return testkit.Receive(a.t, a.ends)
}

// stream is a client's side of a session.
type stream struct {
	*http.Response
	t      testing.TB
	r      *bufio.Reader
	id     string // the client's last event id
	cancel context.CancelFunc
}

// dial sends a request, whatever the response's status. header alternates names and values.
func (a *app) dial(path string, header ...string) *stream {
	a.t.Helper()
	return a.dialBy(a.client, path, header...)
}

func (a *app) dialBy(c *http.Client, path string, header ...string) *stream {
	a.t.Helper()
	s, err := a.try(c, path, header...)
	require.NoError(a.t, err)
	return s
}

func (a *app) try(c *http.Client, path string, header ...string) (*stream, error) {
	ctx, cancel := context.WithTimeout(a.t.Context(), testkit.Patience) // so that a failing test does not hang
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.srv.URL+path, http.NoBody)
	if err == nil {
		req.Header = testkit.Header(header...)
		var resp *http.Response
		if resp, err = c.Do(req); err == nil {
			s := &stream{Response: resp, t: a.t, r: bufio.NewReader(resp.Body), id: req.Header.Get("Last-Event-Id"), cancel: cancel}
			a.t.Cleanup(s.leave)
			return s, nil
		}
	}
	cancel()
	return nil, err
}

// connect opens a stream, and asserts that the response is one.
func (a *app) connect(path string, header ...string) *stream {
	a.t.Helper()
	return a.connectBy(a.client, path, header...)
}

// shutdownLeaves shuts the hub down with ctx, and requires that n members are left. After a second,
// those that take nothing are cut off anyway. So if the machine has stalled for that long, it requires
// nothing.
func (a *app) shutdownLeaves(ctx context.Context, n int) {
	a.t.Helper()
	var err error
	began := time.Now()
	testkit.Within(a.t, func() { err = a.Shutdown(ctx) })
	took := time.Since(began)
	require.Less(a.t, took, 5*time.Second)
	if took >= time.Second {
		a.t.Logf("Shutdown took %v", took)
		return
	}
	require.ErrorIs(a.t, err, context.DeadlineExceeded)
	require.EqualError(a.t, err, fmt.Sprintf("hub: shutdown with %d members left: context deadline exceeded", n))
}

// connectSlow is connect with small buffers: the server's writes soon block if the test
// does not read.
func (a *app) connectSlow(path string, header ...string) *stream {
	a.t.Helper()
	return a.connectBy(a.newClient(true), path, header...)
}

func (a *app) connectBy(c *http.Client, path string, header ...string) *stream {
	a.t.Helper()
	s := a.dialBy(c, path, header...)
	require.Equal(a.t, http.StatusOK, s.StatusCode)
	require.Equal(a.t, a.tr.protocol.Proto, s.Proto)
	require.Equal(a.t, "text/event-stream", s.Header.Get("Content-Type"))
	return s
}

// resume connects with the last event id id.
func (a *app) resume(path, id string) *stream {
	a.t.Helper()
	return a.connect(path, "Last-Event-ID", id)
}

// reconnect closes s, and connects again with its last event id.
func (a *app) reconnect(s *stream) *stream {
	a.t.Helper()
	s.leave()
	return a.resume(s.Request.URL.RequestURI(), s.id)
}

// readOn makes the client take everything from now on, whether the test reads it or not: a client
// that takes nothing is cut off.
func (s *stream) readOn() {
	all := make(chan io.Reader, 1)
	from := s.r
	go func() {
		data, err := io.ReadAll(from)
		if err == nil {
			err = io.EOF
		}
		all <- io.MultiReader(bytes.NewReader(data), iotest.ErrReader(err))
	}()
	s.r = bufio.NewReader(&late{from: all})
}

// late is a reader that there will be.
type late struct {
	from <-chan io.Reader
	r    io.Reader
}

func (l *late) Read(p []byte) (int, error) {
	if l.r == nil {
		l.r = <-l.from
	}
	return l.r.Read(p)
}

// block is the lines of a stream up to a blank line: an event, or less.
type block struct {
	sse.Event
	text   string
	silent bool // it has no data, so no client shows it
}

// block returns the next block.
func (s *stream) block() block {
	s.t.Helper()
	b, err := s.tryBlock()
	require.NoError(s.t, err)
	return b
}

// tryBlock reads the next block as a client does, but it accepts only what package event
// writes.
func (s *stream) tryBlock() (block, error) {
	b := block{silent: true}
	var data []string
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return b, err
		}
		b.text += line
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			b.Data = strings.Join(data, "\n")
			return b, nil
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return b, fmt.Errorf("line %q", line)
		}
		switch name {
		case "event":
			b.Name = value
		case "data":
			data = append(data, value)
			b.silent = false
		case "id":
			b.ID, s.id = value, value
		case "retry":
			ms, err := strconv.Atoi(value)
			if err != nil {
				return b, err
			}
			b.Retry = time.Duration(ms) * time.Millisecond
		case "":
			b.Comment = value
		default:
			return b, fmt.Errorf("line %q", line)
		}
	}
}

// event returns the next event that a client would show.
func (s *stream) event() sse.Event {
	s.t.Helper()
	for {
		if b := s.block(); !b.silent {
			return b.Event
		}
	}
}

// expect asserts that the next events have these data.
func (s *stream) expect(data ...string) {
	s.t.Helper()
	for _, want := range data {
		require.Equal(s.t, want, s.event().Data)
	}
}

// expectN asserts that the next events have the numbers from first to last as data.
func (s *stream) expectN(first, last int) {
	s.t.Helper()
	for i := first; i <= last; i++ {
		s.expect(strconv.Itoa(i))
	}
}

// expectGap asserts that the next event tells of a gap, and returns the gap. The event's id
// must be the gap's position, unless a snapshot follows.
func (s *stream) expectGap() hub.Gap {
	s.t.Helper()
	e := s.event()
	require.Equal(s.t, hub.GapEvent, e.Name, e.Data)
	var gap hub.Gap
	require.NoError(s.t, json.Unmarshal([]byte(e.Data), &gap))
	if gap.Snapshot {
		require.Empty(s.t, e.ID)
	} else {
		require.Equal(s.t, gap.Position.String(), e.ID)
	}
	return gap
}

// expectEnd asserts that the stream ends in an orderly way, without another event.
func (s *stream) expectEnd() {
	s.t.Helper()
	for {
		b, err := s.tryBlock()
		if err != nil {
			require.Equal(s.t, io.EOF, err)
			require.Empty(s.t, b.text, "an incomplete event")
			return
		}
		require.True(s.t, b.silent, "%q", b.text)
	}
}

// endOf ends all sessions once no event is unsent, and asserts that s gets no more events.
// s must be the only stream.
func (a *app) endOf(s *stream) {
	a.t.Helper()
	a.joined(s.topics()[0], 1)
	for s := range a.plugin.Sessions() {
		s.Close()
	}
	s.expectEnd()
}

// topics returns the topics that the request has named.
func (s *stream) topics() []string {
	if topics := s.Request.URL.Query()["topic"]; len(topics) > 0 {
		return topics
	}
	return []string{"a"}
}

// rest reads the rest of the stream.
func (s *stream) rest() (string, error) {
	b, err := io.ReadAll(s.r)
	return string(b), err
}

// leave cancels the request and closes the connection.
func (s *stream) leave() {
	s.cancel()
	s.Body.Close()
}
