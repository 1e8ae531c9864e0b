// Helpers for all tests: clients, servers over each transport, and sessions.

package client_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// install returns a client on hc. Unless cfg says otherwise, the client logs nothing and
// reconnects without delay.
func install(hc *http.Client, cfg client.Config) *client.Client {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ReconnectionTime == 0 {
		cfg.ReconnectionTime = time.Microsecond
		if cfg.MaxBackoff == 0 {
			cfg.MaxBackoff = time.Millisecond
		}
	}
	return client.Install(hc, cfg)
}

// protocols are the protocols that overEach uses.
var protocols = []testkit.Protocol{testkit.HTTP1, testkit.HTTP1TLS, testkit.HTTP2, testkit.H2C}

// overEach runs test once for each protocol, against a server of h whose Client speaks
// that protocol.
func overEach(t *testing.T, h http.Handler, test func(t *testing.T, srv *httptest.Server)) {
	t.Helper()
	for _, p := range protocols {
		t.Run(p.Name, func(t *testing.T) { test(t, testkit.Serve(t, h, p.Setup)) })
	}
}

// serve is testkit.Serve for a function.
func serve(t testing.TB, h http.HandlerFunc, options ...func(*httptest.Server)) *httptest.Server {
	t.Helper()
	return testkit.Serve(t, h, options...)
}

// noKeepAlive returns an http.Client for one test. It does not reuse connections, and has
// none left when the test ends.
func noKeepAlive(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// streamOf returns a handler that answers with an event stream of the given text.
func streamOf(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, text)
	}
}

// send writes to an event stream and flushes. It sets the Content-Type, in case this is
// the first write.
func send(w http.ResponseWriter, format string, args ...any) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, format, args...)
	_ = http.NewResponseController(w).Flush()
}

// serveRaw listens at the URL that it returns. For each connection it reads the header of
// a request, calls serve, and closes the connection when serve returns.
func serveRaw(t testing.TB, serve func(conn net.Conn, r *http.Request)) (url string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var conns sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			conns.Go(func() {
				defer func() {
					conn.Close()
					mu.Lock()
					delete(open, conn)
					mu.Unlock()
				}()
				if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					serve(conn, r)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		conns.Wait()
	})
	return "http://" + l.Addr().String()
}

// refusing returns an address that refuses connections until the test ends. The client's
// end of an open connection uses the address, so no other test can listen there.
func refusing(t testing.TB) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

// session opens a session, fails the test if that fails, and closes the session when the
// test ends.
func session(t testing.TB, c *client.Client, url string, options ...client.Option) *client.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*testkit.Patience) // so that a failing test does not hang
	t.Cleanup(cancel)
	s, err := c.Session(ctx, url, options...)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// collect reads s to its end and returns its events and its error.
func collect(s *client.Session) (events []client.Event, err error) {
	for ev, err := range s.Incoming() {
		if err != nil {
			return events, err
		}
		events = append(events, ev)
	}
	return events, nil
}

// heapInUse returns how many bytes the reachable objects take.
func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// dataOf returns the data of each event.
func dataOf(events []client.Event) []string {
	var data []string
	for _, ev := range events {
		data = append(data, ev.Data)
	}
	return data
}
