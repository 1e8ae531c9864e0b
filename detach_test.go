package sse_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
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
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	w := &wire{Conn: conn, t: t, tcp: conn.(*net.TCPConn)}
	require.NoError(t, w.tcp.SetReadBuffer(32<<10))
	require.NoError(t, w.tcp.SetDeadline(time.Now().Add(2*patience)))
	if tr.tls {
		w.Conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	w.r = bufio.NewReader(w.Conn)
	_, err = io.WriteString(w.Conn, request)
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
	book       *logbook
	complaints syncBuffer // of the http.Server

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
	d := &detacher{t: t, tr: tr, sessions: make(chan *detached, 10_000), book: newLogbook()}
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
	cfg.Logger = d.book.logger()
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
		ctx, cancel := context.WithTimeout(context.Background(), patience)
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
	return receive(d.t, d.sessions), w
}

// connectReturned is connect for a session whose handler has returned.
func (d *detacher) connectReturned() (*detached, *wire) {
	d.t.Helper()
	s, w := d.connect()
	receive(d.t, s.returned)
	return s, w
}

// ended expects the end of s, which its owner is told of once.
func (d *detacher) ended(s *detached) sse.End {
	d.t.Helper()
	e := receive(d.t, d.ends)
	require.Equal(d.t, context.Cause(s.Context()), receive(d.t, s.owner.ended))
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

func TestDetachWire(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
		onAllNamed(t, version, func(t *testing.T, tr transport) {
			t.Helper()
			framed, end := chunk, lastChunk
			if version == "HTTP/1.0" {
				framed, end = func(s string) string { return s }, ""
			}
			var sent []sse.Sent // appended to by writes, which come one by one
			cfg := sse.Config{Heartbeat: sse.Heartbeat{Period: time.Hour}}
			cfg.OnSend = func(_ *sse.ServerSession, s sse.Sent) { sent = append(sent, s) }
			d := newDetacher(t, tr, cfg)
			w := tr.ask(t, d.srv, "GET / "+version+"\r\nHost: test\r\n\r\n")
			head := w.head()
			require.Equal(t, version == "HTTP/1.1", strings.Contains(head, "Transfer-Encoding: chunked\r\n"), head)
			require.Equal(t, version == "HTTP/1.1", strings.Contains(head, "Connection: keep-alive\r\n"), head)
			w.expect(framed(openFrame))
			s := receive(t, d.sessions)
			receive(t, s.returned)
			require.Equal(t, tr.mayBlock(), s.hub.MayBlock())

			events, size := 1, len(openFrame)
			next := func(frame string, n int) {
				t.Helper()
				w.expect(framed(frame))
				events, size = events+n, size+len(frame)
			}
			long := strings.Repeat("x", 70_000)
			require.NoError(t, s.Send(sse.Event{ID: "7", Name: "n", Data: "a\nb"}))
			next("event: n\ndata: a\ndata: b\nid: 7\n\n", 1)
			require.NoError(t, s.Comment("hi"))
			next(": hi\n\n", 1)
			require.NoError(t, s.SendData(map[string]int{"n": 1}))
			next("data: {\"n\":1}\n\n", 1)
			for _, data := range [][]string{{"one"}, {"one", "two"}, {strings.Repeat("x", 8)}, {strings.Repeat("x", 249)}, {"", ""}} {
				f := framesOf(data...)
				frame := string(f.Bytes())
				for range 2 { // it is not spent
					pending, err := s.hub.TryWrite(f)
					require.NoError(t, err)
					require.False(t, pending)
					next(frame, len(data))
				}
			}
			large := make(chan error, 1)
			go func() { large <- s.SendData(long) }()
			next("data: "+long+"\n\n", 1)
			require.NoError(t, receive(t, large))
			require.NoError(t, s.Open(), "it is open")
			require.ErrorContains(t, s.Send(sse.Event{ID: "\n"}), "ID", "nothing is sent")

			require.NoError(t, s.Heartbeat(sse.Heartbeat{}))
			next(": heartbeat\n\n", 0)
			require.EqualValues(t, 1, s.owner.begun.Load())
			require.Zero(t, s.owner.beats.Load())
			s.owner.beat = func(dst []byte) ([]byte, bool) { return append(dst, "id: 8\n\n"...), true }
			require.NoError(t, s.Heartbeat(sse.Heartbeat{}))
			next("id: 8\n\n", 0)
			require.EqualValues(t, 1, s.owner.beats.Load())
			require.NoError(t, s.Heartbeat(sse.Heartbeat{Event: sse.Event{Name: "beat"}}))
			next("event: beat\ndata: \n\n", 0)
			require.EqualValues(t, 2, s.owner.begun.Load(), "one of the session's own")

			require.NoError(t, d.Plugin().Shutdown(t.Context()))
			rest := w.rest()
			require.True(t, strings.HasSuffix(rest, end))
			bye := regexp.MustCompile(`retry: \d+\n\n`).FindString(rest)
			require.Equal(t, framed(bye)+end, rest)
			e := d.ended(s)
			require.Equal(t, sse.EndShutdown, e.Reason)
			require.EqualValues(t, events, e.Events)
			require.EqualValues(t, size+len(bye), e.Bytes)
			total := 0
			for _, s := range sent {
				require.NoError(t, s.Err)
				total += s.Bytes
			}
			require.EqualValues(t, e.Bytes, total)
			require.Len(t, sent, 1+3+10+1+3+1)
			for i, s := range sent {
				require.Equal(t, slices.Contains([]int{15, 16, 17}, i), s.Heartbeat, "%d", i)
			}
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

// The head is written by net/http, before the session is detached, and nothing of
// it may depend on what comes later.
func TestDetachHeadIsThatOfAnOrdinarySession(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"1.1":              plainRequest,
		"1.1 close":        "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
		"1.1 gzip":         "GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n",
		"1.0":              "GET / HTTP/1.0\r\n\r\n",
		"1.0 keep-alive":   "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"1.1 with a body":  "GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
		"1.1 with trailer": "GET / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heads := make(map[string]string)
			for _, how := range []string{"ordinary", "detached", "announced"} {
				r := newRouter(sse.Config{})
				goesOn := make(chan struct{})
				r.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						w.Header().Add("Set-Cookie", "a=1")
						w.Header().Add("Set-Cookie", "b=2")
						w.Header().Set("Content-Length", "5")
						w.Header().Set("Trailer", "X")
						next.ServeHTTP(w, r)
					})
				}, middleware.Compress(5), middleware.NoCache)
				r.SSE("/", func(s *sse.ServerSession) error {
					s.Header().Set("X-Own", "1")
					if how == "announced" {
						engine.Of(s).WillDetach()
					}
					noError(t, s.Send(sse.Event{Data: "open"}))
					if how != "ordinary" {
						assert.True(t, engine.Of(s).Detach())
						close(goesOn)
						return nil
					}
					close(goesOn)
					<-s.Done()
					return nil
				})
				srv := serve(t, r)
				w := overTCP.ask(t, srv, request)
				heads[how] = w.head()
				body := openFrame
				if strings.Contains(request, "HTTP/1.1") {
					body = chunk(body)
				}
				w.expect(body)
				receive(t, goesOn)
				require.NoError(t, r.Plugin().Shutdown(t.Context()))
			}
			require.Equal(t, heads["ordinary"], heads["detached"])
			require.Contains(t, heads["detached"], "X-Own: 1\r\n")
			require.Contains(t, heads["detached"], "Set-Cookie: b=2\r\n")
			// One that knows beforehand tells the client not to use the connection again.
			want := strings.Replace(heads["ordinary"], "Connection: keep-alive\r\n", "Connection: close\r\n", 1)
			require.Equal(t, sortedLines(want), sortedLines(heads["announced"]))
		})
	}
}

func sortedLines(s string) []string { return slices.Sorted(strings.Lines(s)) }

// Whoever writes, each frame goes out once, whole, and in the order of its writer.
func TestDetachWritersRace(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		const writers, each = 6, 150
		d := newDetacher(t, tr, sse.Config{})
		s, w := d.connect() // the handler may still be returning
		s.owner.beat = nil
		var all sync.WaitGroup
		text := func(who string, i int) string {
			return fmt.Sprintf("%s %d %s", who, i, strings.Repeat("x", rand.N(3000)))
		}
		counts := make(map[string]int)
		for i := range writers {
			who := fmt.Sprint("send", i)
			counts[who] = each
			all.Go(func() {
				for n := range each {
					noError(t, s.SendData(text(who, n)))
				}
			})
			whose := fmt.Sprint("comment", i)
			counts[whose] = each
			all.Go(func() {
				for n := range each {
					noError(t, s.Comment(text(whose, n)))
				}
			})
		}
		counts["hub"] = 4 * each
		var pendings int
		all.Go(func() { // there is one of a hub's at a time
			for n := 0; n < 4*each; n += 2 {
				pending, err := s.hub.TryWrite(framesOf(text("hub", n), text("hub", n+1)))
				noError(t, err)
				if pending {
					pendings++
					noError(t, s.hub.Finish())
				}
			}
		})
		var beats atomic.Int64
		all.Go(func() {
			for range each {
				noError(t, s.Heartbeat(sse.Heartbeat{Period: time.Millisecond, Provider: func() sse.Event {
					return sse.Event{Data: text("beat", int(beats.Add(1)-1))}
				}}))
			}
		})
		done := make(chan struct{})
		t.Cleanup(func() { w.Close(); <-done })
		go func() {
			defer close(done)
			all.Wait()
			noError(t, s.Close())
		}()

		resp := &http.Response{Body: io.NopCloser(newChunkedReader(w.r))}
		client := newStream(t, resp, nil)
		next := make(map[string]int)
		for {
			ev, err := client.dec.Decode()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			var who, rest string
			var n int
			_, err = fmt.Sscan(cmp.Or(ev.Data, ev.Comment), &who, &n)
			require.NoError(t, err, "%+v", ev)
			require.Equal(t, next[who], n, "of %s", who)
			_, rest, _ = strings.Cut(strings.TrimPrefix(cmp.Or(ev.Data, ev.Comment), fmt.Sprintf("%s %d", who, n)), " ")
			require.Empty(t, strings.Trim(rest, "x"))
			next[who]++
		}
		receive(t, done)
		sentBeats := next["beat"]
		require.Positive(t, sentBeats)
		require.LessOrEqual(t, int64(sentBeats), beats.Load())
		delete(next, "beat")
		require.Equal(t, counts, next)
		e := d.ended(s)
		require.Equal(t, sse.EndClosed, e.Reason)
		require.EqualValues(t, 1+2*writers*each+4*each, e.Events)
		if !tr.mayBlock() {
			require.Positive(t, pendings, "not a test of what it should be")
		}
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

func TestDetachClientThatPauses(t *testing.T) {
	t.Parallel()
	if overTCP.mayBlock() {
		t.Skip("writes block here")
	}
	for name, tt := range map[string]struct {
		// then is what follows when a write is pending. It returns what the client is to be
		// sent, and how many events that is. reads has the client read on; if it waits, until
		// the client has all that can come now.
		then func(t *testing.T, s *detached, reads func(wait bool)) (more string, events int)
	}{
		"Finish": {func(t *testing.T, s *detached, reads func(wait bool)) (string, int) {
			t.Helper()
			reads(false)
			require.NoError(t, s.hub.Finish())
			return "", 0
		}},
		"Send has its turn": {func(t *testing.T, s *detached, reads func(wait bool)) (string, int) {
			t.Helper()
			sent := make(chan error, 1)
			go func() { sent <- s.SendData("later") }()
			select {
			case err := <-sent:
				require.NoError(t, err)
				require.FailNow(t, "sent, before what is to be sent first")
			case <-time.After(50 * time.Millisecond):
			}
			reads(false)
			require.NoError(t, receive(t, sent))
			require.NoError(t, s.hub.Finish(), "nothing is left")
			return chunk("data: later\n\n"), 1
		}},
		"Finish and Send": {func(t *testing.T, s *detached, reads func(wait bool)) (string, int) {
			t.Helper()
			results := make(chan error, 9)
			go func() { results <- s.hub.Finish() }()
			for range 8 {
				go func() { results <- s.SendData("later") }()
			}
			reads(false)
			for range cap(results) {
				require.NoError(t, receive(t, results))
			}
			return strings.Repeat(chunk("data: later\n\n"), 8), 8
		}},
		"more of the hub": {func(t *testing.T, s *detached, reads func(wait bool)) (string, int) {
			t.Helper()
			f := framesOf("a", "b")
			for range 2 {
				pending, err := s.hub.TryWrite(f)
				require.NoError(t, err)
				require.True(t, pending, "it stands behind what is")
			}
			reads(false)
			require.NoError(t, s.hub.Finish())
			return strings.Repeat(chunk("data: a\n\ndata: b\n\n"), 2), 4
		}},
		"more of the hub, when there is room": {func(t *testing.T, s *detached, reads func(wait bool)) (string, int) {
			t.Helper()
			reads(true)
			pending, err := s.hub.TryWrite(framesOf("a"))
			require.NoError(t, err)
			require.True(t, pending, "it stands behind what is")
			require.NoError(t, s.hub.Finish())
			return chunk("data: a\n\n"), 1
		}},
		"Send, when there is room": {func(t *testing.T, s *detached, reads func(wait bool)) (string, int) {
			t.Helper()
			reads(true)
			require.NoError(t, s.SendData("a"))
			require.NoError(t, s.hub.Finish())
			return chunk("data: a\n\n"), 1
		}},
		"a heartbeat": {func(t *testing.T, s *detached, reads func(wait bool)) (string, int) {
			t.Helper()
			reads(false)
			require.NoError(t, s.Heartbeat(sse.Heartbeat{Period: time.Hour}))
			require.NoError(t, s.hub.Finish())
			return chunk(": heartbeat\n\n"), 0
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var bytes, errs int
			d := newDetacher(t, overTCP, sse.Config{WriteTimeout: time.Hour, OnSend: func(_ *sse.ServerSession, s sse.Sent) {
				mu.Lock()
				defer mu.Unlock()
				bytes += s.Bytes
				if s.Err != nil {
					errs++
				}
			}})
			s, w := d.connectReturned()
			want, events := s.fill(t)
			var count atomic.Int64
			read := make(chan []byte, 1)
			reads := func(wait bool) {
				go func() {
					b, _ := io.ReadAll(io.TeeReader(w.r, writerFunc(func(p []byte) { count.Add(int64(len(p))) })))
					read <- b
				}()
				if wait { // at the most the last event is pending
					eventually(t, func() bool { return count.Load() >= int64(len(want)-11_000) }, "what it can have")
				}
			}
			more, n := tt.then(t, s, reads)
			pending, err := s.hub.TryWrite(framesOf("end"))
			require.NoError(t, err)
			if pending {
				require.NoError(t, s.hub.Finish())
			}
			require.NoError(t, s.Close())
			want += more + chunk("data: end\n\n") + lastChunk
			got := string(receive(t, read))
			if got != want {
				require.Equal(t, excerpt(want), excerpt(got))
				require.FailNow(t, "other bytes than expected")
			}
			e := d.ended(s)
			require.Equal(t, sse.EndClosed, e.Reason)
			require.EqualValues(t, 1+events+n+1, e.Events)
			mu.Lock()
			defer mu.Unlock()
			require.EqualValues(t, bytes, e.Bytes)
			require.Zero(t, errs)
		})
	}
}

// What the client has not taken yet belongs to the stream, and comes before its end.
func TestDetachEndWithAWritePending(t *testing.T) {
	t.Parallel()
	if overTCP.mayBlock() {
		t.Skip("writes block here")
	}
	for name, end := range map[string]func(d *detacher, s *detached){
		"Close":    func(_ *detacher, s *detached) { s.Close() },
		"slow":     func(_ *detacher, s *detached) { s.hub.End(sse.ErrSlow) },
		"shutdown": func(d *detacher, _ *detached) { go func() { _ = d.Plugin().Shutdown(context.Background()) }() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told atomic.Int64
			d := newDetacher(t, overTCP, sse.Config{WriteTimeout: time.Hour, ShutdownSpread: 1, OnSend: func(_ *sse.ServerSession, s sse.Sent) {
				noError(t, s.Err)
				told.Add(int64(s.Bytes))
			}})
			s, w := d.connectReturned()
			want, events := s.fill(t)
			end(d, s)
			receive(t, s.Done())
			w.expect(want)
			rest := w.rest()
			require.True(t, strings.HasSuffix(rest, lastChunk), rest)
			require.Equal(t, name == "shutdown", strings.Contains(rest, "retry: "))
			e := d.ended(s)
			require.EqualValues(t, 1+events, e.Events, "all that the client was sent")
			body, err := io.ReadAll(newChunkedReader(bufio.NewReader(strings.NewReader(want + rest))))
			require.NoError(t, err)
			require.EqualValues(t, len(openFrame)+len(body), e.Bytes)
			require.Equal(t, e.Bytes, told.Load())
			require.Error(t, s.hub.Finish())
			_, err = s.hub.TryWrite(framesOf("late"))
			require.ErrorIs(t, err, sse.ErrClosed)
			require.ErrorIs(t, err, context.Cause(s.Context()))
		})
	}
}

// A client that is too slow for the last words gets fewer of them, but no others.
func TestDetachSlowClientAtTheEnd(t *testing.T) {
	t.Parallel()
	if overTCP.mayBlock() {
		t.Skip("writes block here")
	}
	for name, end := range map[string]func(d *detacher, s *detached){
		"Close":    func(_ *detacher, s *detached) { s.Close() },
		"shutdown": func(d *detacher, _ *detached) { go func() { _ = d.Plugin().Shutdown(context.Background()) }() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDetacher(t, overTCP, sse.Config{WriteTimeout: 200 * time.Millisecond, ShutdownSpread: 1})
			s, w := d.connectReturned()
			var data strings.Builder
			for i := range 1 << 20 {
				fmt.Fprintf(&data, "%08x", i) // no two parts are alike
			}
			pending, err := s.hub.TryWrite(framesOf(data.String()))
			require.NoError(t, err)
			require.True(t, pending)
			end(d, s)
			// It takes a little at a time, until it is cut off.
			var got strings.Builder
			part := make([]byte, 10_000)
			for err == nil {
				var n int
				n, err = w.r.Read(part)
				got.Write(part[:n])
				if len(d.ends) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			want := chunk("data: " + data.String() + "\n\n")
			require.Less(t, got.Len(), len(want))
			require.True(t, strings.HasPrefix(want, got.String()), "something is doubled, or left out")
			require.EqualValues(t, 1, d.ended(s).Events)
		})
	}
}

// However well a session ends, the half of an event must not pass for its whole.
func TestDetachHalfAnEventIsNoEnd(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetacher(t, tr, sse.Config{WriteTimeout: time.Hour})
		s, w := d.connectReturned()
		data := strings.Repeat("x", 8<<20)
		failed := make(chan error, 1)
		go func() { failed <- s.SendData(data) }()
		want := chunk("data: " + data + "\n\n")
		w.expect(want[:50_000]) // it is in the middle
		require.NoError(t, s.Close())
		s.hub.Interrupt()
		require.ErrorIs(t, receive(t, failed), os.ErrDeadlineExceeded)
		rest := w.rest()
		require.True(t, strings.HasPrefix(want[50_000:], rest), "something else has come")
		require.Equal(t, sse.EndClosed, d.ended(s).Reason)
	})
}

func TestDetachClientThatNeverReads(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("all", func(t *testing.T) {
		for _, tr := range transports {
			for _, by := range []string{"Send", "a heartbeat", "a hub"} {
				if by == "a hub" && tr.mayBlock() {
					continue
				}
				t.Run(by+" over "+tr.name, func(t *testing.T) {
					t.Parallel()
					const timeout = 300 * time.Millisecond
					d := newDetacher(t, tr, sse.Config{WriteTimeout: timeout})
					s, w := d.connectReturned()
					var began time.Time
					var err error
					switch by {
					case "Send":
						for err == nil {
							began = time.Now()
							err = s.SendData(strings.Repeat("x", 100_000))
						}
					case "a heartbeat":
						for err == nil {
							began = time.Now()
							err = s.Heartbeat(sse.Heartbeat{Period: time.Hour, Event: sse.Event{Data: strings.Repeat("x", 100_000)}})
						}
					default:
						s.fill(t)
						began = time.Now()
						err = s.hub.Finish()
					}
					require.ErrorIs(t, err, sse.ErrWriteTimeout)
					require.Greater(t, time.Since(began), timeout*9/10)
					failed := time.Now()
					e := d.ended(s)
					require.Less(t, time.Since(failed), 3*time.Second, "nothing is left to wait for")
					require.Equal(t, sse.EndWriteTimeout, e.Reason)
					require.ErrorIs(t, e.Err, sse.ErrWriteTimeout)
					logged := d.book.entries("session ended")
					require.Len(t, logged, 1)
					require.Equal(t, slog.LevelWarn, logged[0].Level)
					require.False(t, strings.HasSuffix(w.rest(), lastChunk))
					require.ErrorIs(t, s.hub.Finish(), sse.ErrClosed)
					require.ErrorIs(t, s.SendData("x"), sse.ErrWriteTimeout)
					require.Zero(t, d.Plugin().Len())
				})
			}
		}
	})
	goroutinesBackTo(t, before)
}

// A timeout is of a write, and not of the writes after it.
func TestDetachWriteTimeoutIsOfEachWrite(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		const timeout = 500 * time.Millisecond
		d := newDetacher(t, tr, sse.Config{WriteTimeout: timeout})
		s, w := d.connectReturned()
		for range 2 {
			data := strings.Repeat("x", 256<<10) // which waits for the client
			sent := make(chan error, 1)
			go func() { sent <- s.SendData(data) }()
			w.expect(chunk("data: " + data + "\n\n"))
			require.NoError(t, receive(t, sent))
			time.Sleep(timeout + timeout/10) // a deadline that was left armed has passed
			pending, err := s.hub.TryWrite(framesOf("x"))
			require.NoError(t, err)
			require.False(t, pending)
			w.expect(chunk("data: x\n\n"))
		}
		require.NoError(t, s.Context().Err())
	})
}

var leavers = []struct {
	name  string
	of    func(tr transport) bool
	leave func(w *wire) error
}{
	{"FIN", nil, func(w *wire) error { return w.tcp.Close() }},
	{"RST", nil, func(w *wire) error { return errors.Join(w.tcp.SetLinger(0), w.tcp.Close()) }},
	{"half-close", nil, func(w *wire) error { return w.tcp.CloseWrite() }},
	{"close_notify", func(tr transport) bool { return tr.tls }, func(w *wire) error { return w.Conn.(*tls.Conn).CloseWrite() }},
	{"close_notify and FIN", func(tr transport) bool { return tr.tls }, func(w *wire) error { return w.Conn.Close() }},
	{"garbage before", nil, func(w *wire) error {
		_, err := io.WriteString(w.Conn, strings.Repeat("\x00garbage\r\n\r\n", 100))
		return errors.Join(err, w.tcp.CloseWrite())
	}},
	{"a pipelined request before", nil, func(w *wire) error {
		_, err := io.WriteString(w.Conn, plainRequest)
		return errors.Join(err, w.tcp.Close())
	}},
}

func TestDetachClientLeaves(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("all", func(t *testing.T) {
		for _, tr := range transports {
			for _, how := range leavers {
				if how.of != nil && !how.of(tr) {
					continue
				}
				t.Run(how.name+" over "+tr.name, func(t *testing.T) {
					t.Parallel()
					d := newDetacher(t, tr, sse.Config{WriteTimeout: time.Hour, Heartbeat: sse.Heartbeat{Period: -1}})
					s, w := d.connectReturned()
					other, otherWire := d.connectReturned()
					require.NoError(t, how.leave(w))
					e := d.ended(s)
					require.Equal(t, sse.EndClientGone, e.Reason)
					require.NoError(t, e.Err)
					require.Equal(t, sse.ErrClientGone, context.Cause(s.Context()))
					require.ErrorIs(t, s.SendData("x"), sse.ErrClientGone)
					require.Equal(t, 1, d.Plugin().Len())
					logged := d.book.entries("session ended")
					require.Len(t, logged, 1)
					require.Equal(t, slog.LevelDebug, logged[0].Level)
					require.NoError(t, other.SendData("still here"))
					otherWire.expect(chunk("data: still here\n\n"))
					require.Empty(t, d.sessions, "a second request was served")
				})
			}
		}
	})
	goroutinesBackTo(t, before)
}

// A write that is under way does not keep the session, for the client will not take
// it.
func TestDetachClientLeavesWhileItIsWrittenTo(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		for _, how := range leavers[:3] {
			t.Run(how.name, func(t *testing.T) {
				t.Parallel()
				d := newDetacher(t, tr, sse.Config{WriteTimeout: time.Hour})
				s, w := d.connectReturned()
				failed := make(chan error, 1)
				go func() { failed <- s.SendData(strings.Repeat("x", 8<<20)) }()
				_, err := io.ReadFull(w.r, make([]byte, 50_000)) // it is in the middle
				require.NoError(t, err)
				require.NoError(t, how.leave(w))
				require.Error(t, receive(t, failed))
				e := d.ended(s)
				require.Equal(t, sse.EndClientGone, e.Reason)
			})
		}
	})
}

// What a client says beside its request is of no meaning, however much it is.
func TestDetachClientThatTalks(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetacher(t, tr, sse.Config{})
		w := tr.ask(t, d.srv, plainRequest+plainRequest)
		w.head()
		w.expect(chunk(openFrame))
		s := receive(t, d.sessions)
		for i := range 50 {
			_, err := io.WriteString(w.Conn, plainRequest+"\x00")
			require.NoError(t, err)
			require.NoError(t, s.SendData(i))
			w.expect(chunk(fmt.Sprintf("data: %d\n\n", i)))
		}
		require.NoError(t, s.Close())
		require.Equal(t, lastChunk, w.rest())
		require.Equal(t, sse.EndClosed, d.ended(s).Reason)
		require.Empty(t, d.sessions, "a second request was served")
	})
}

func TestDetachEnds(t *testing.T) {
	t.Parallel()
	kicked := fmt.Errorf("kicked: %w", sse.ErrClosed)
	behind := fmt.Errorf("behind: %w", sse.ErrSlow)
	panicked := &sse.PanicError{Value: "of a filter", Stack: []byte("somewhere")}
	quit := &sse.PanicError{Value: http.ErrAbortHandler}
	canceled := fmt.Errorf("%w: %w", sse.ErrCanceled, errOwn)
	moved := fmt.Errorf("moved: %w", sse.ErrShutdown)
	for name, tt := range map[string]struct {
		cause  error // nil: Close
		reason sse.EndReason
		err    error
		level  slog.Level
		whole  bool
	}{
		"Close":              {nil, sse.EndClosed, nil, slog.LevelDebug, true},
		"ErrClosed":          {sse.ErrClosed, sse.EndClosed, nil, slog.LevelDebug, true},
		"a wrapped closed":   {kicked, sse.EndClosed, kicked, slog.LevelInfo, true},
		"ErrSlow":            {sse.ErrSlow, sse.EndSlow, sse.ErrSlow, slog.LevelWarn, true},
		"a wrapped slow":     {behind, sse.EndSlow, behind, slog.LevelWarn, true},
		"ErrShutdown":        {sse.ErrShutdown, sse.EndShutdown, nil, slog.LevelDebug, true},
		"a wrapped shutdown": {moved, sse.EndShutdown, moved, slog.LevelInfo, true},
		"ErrClientGone":      {sse.ErrClientGone, sse.EndClientGone, nil, slog.LevelDebug, true},
		"canceled":           {canceled, sse.EndCanceled, canceled, slog.LevelDebug, false},
		"an error":           {errOwn, sse.EndWriteError, errOwn, slog.LevelInfo, false},
		"a panic":            {panicked, sse.EndPanic, panicked, slog.LevelError, false},
		"a quiet panic":      {quit, sse.EndPanic, quit, slog.LevelDebug, false},
	} {
		for _, tr := range transports {
			t.Run(name+" over "+tr.name, func(t *testing.T) {
				t.Parallel()
				d := newDetacher(t, tr, sse.Config{})
				s, w := d.connectReturned()
				require.NoError(t, s.SendData("x"))
				if tt.cause == nil {
					require.NoError(t, s.Close())
				} else {
					s.hub.End(tt.cause)
				}
				receive(t, s.Done())
				s.hub.End(errors.New("too late")) // the first cause holds
				require.NoError(t, s.Close())
				w.expect(chunk("data: x\n\n"))
				rest := w.rest()
				switch {
				case !tt.whole:
					require.Empty(t, rest)
				case tt.reason == sse.EndShutdown:
					require.Regexp(t, `^d\r\nretry: \d{4}\n\n\r\n0\r\n\r\n$`, rest)
				default:
					require.Equal(t, lastChunk, rest)
				}
				e := d.ended(s)
				require.Equal(t, tt.reason, e.Reason)
				require.Equal(t, tt.err, e.Err)
				require.True(t, e.Opened)
				require.EqualValues(t, 2, e.Events)
				require.Positive(t, e.Duration)
				logged := d.book.entries("session ended")
				require.Len(t, logged, 1)
				require.Equal(t, tt.level, logged[0].Level)
				require.Equal(t, name == "a panic", logged[0].Attrs["stack"].String() == "somewhere")
				err := s.SendData("late")
				require.ErrorIs(t, err, sse.ErrClosed)
				require.ErrorIs(t, err, cmp.Or(tt.cause, sse.ErrClosed))
				require.Equal(t, err, s.Comment("late"))
				require.ErrorIs(t, s.Heartbeat(sse.Heartbeat{Period: time.Hour}), sse.ErrClosed)
				require.ErrorIs(t, s.Open(), sse.ErrClosed)
			})
		}
	}
}

// A client of package net/http sees the difference too.
func TestDetachEndsAsAClientSeesThem(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]error{sse.ErrClosed: nil, sse.ErrSlow: nil, errOwn: io.ErrUnexpectedEOF} {
		d := newDetacher(t, overTCP, sse.Config{})
		c := connect(t, d.srv, "/")
		s := receive(t, d.sessions)
		s.hub.End(cause)
		body, err := c.rest()
		require.Equal(t, openFrame, body)
		require.Equal(t, want, err)
	}
}

func TestDetachHandlerThatFails(t *testing.T) {
	t.Parallel()
	ends := map[string]struct {
		end    func(s *sse.ServerSession) error
		reason sse.EndReason
	}{
		"another's cancellation": {func(*sse.ServerSession) error { return context.Canceled }, sse.EndHandlerError},
		"another's close":        {func(*sse.ServerSession) error { return fmt.Errorf("pool: %w", sse.ErrClosed) }, sse.EndHandlerError},
	}
	maps.Copy(ends, brokenEnds)
	for name, tt := range ends {
		for _, detach := range []bool{false, true} { // it is the same
			t.Run(fmt.Sprint(name, " detached ", detach), func(t *testing.T) {
				t.Parallel()
				tr := overTCP
				var panics atomic.Int64
				d := newDetacher(t, tr, sse.Config{}, func(d *detacher) {
					d.Use(func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							defer func() {
								if recover() != nil {
									panics.Add(1)
									w.WriteHeader(http.StatusInternalServerError)
									io.WriteString(w, "sorry")
								}
							}()
							next.ServeHTTP(w, r)
						})
					})
					d.after = func(s *detached) error { return tt.end(s.ServerSession) }
					d.SSE("/ordinary", func(s *sse.ServerSession) error {
						noError(t, s.SendData("open"))
						return tt.end(s)
					})
				})
				path := "/ordinary"
				if detach {
					path = "/"
				}
				w := tr.ask(t, d.srv, "GET "+path+" HTTP/1.1\r\nHost: test\r\n\r\n")
				w.head()
				w.expect(chunk(openFrame))
				require.Empty(t, w.rest(), "a broken end has no last chunk, and nothing else")
				e := receive(t, d.ends)
				require.Equal(t, tt.reason, e.Reason)
				require.Error(t, e.Err)
				logged := d.book.entries("session ended")
				require.Len(t, logged, 1)
				if name != "abort" {
					require.Equal(t, slog.LevelError, logged[0].Level)
				}
				if detach {
					s := receive(t, d.sessions)
					receive(t, s.returned)
					matches(t, receive(t, s.owner.ended), context.Cause(s.Context()))
					require.Zero(t, panics.Load())
				}
				require.Empty(t, d.ends, "OnClose was called twice")
				require.Empty(t, d.complaints.String())
			})
		}
	}
}

// Close ends the session, and the handler's return the response.
func TestDetachSessionEndsBeforeTheHandlerReturns(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		returns func(s *detached) error
		reason  sse.EndReason
		rest    string
	}{
		"nil":           {func(*detached) error { return nil }, sse.EndClosed, lastChunk},
		"what it knows": {func(s *detached) error { return s.SendData("x") }, sse.EndClosed, lastChunk},
		"an error":      {func(*detached) error { return errOwn }, sse.EndHandlerError, ""},
		"a panic":       {func(*detached) error { panic(errOwn) }, sse.EndPanic, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			goOn := make(chan struct{})
			d := newDetacher(t, overTCP, sse.Config{}, func(d *detacher) {
				d.after = func(s *detached) error {
					noError(t, s.Close())
					<-goOn
					return tt.returns(s)
				}
			})
			s, w := d.connect()
			receive(t, s.Done())
			require.Equal(t, 1, d.Plugin().Len())
			require.Equal(t, []*sse.ServerSession{s.ServerSession}, slices.Collect(d.Plugin().Sessions()))
			require.NoError(t, w.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
			_, err := w.r.ReadByte()
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nothing may come yet")
			require.NoError(t, w.SetReadDeadline(time.Now().Add(patience)))
			require.Empty(t, d.ends)
			require.Empty(t, s.owner.ended)
			close(goOn)
			require.Equal(t, tt.rest, w.rest())
			require.Equal(t, tt.reason, d.ended(s).Reason)
		})
	}
}

func TestDetachEndRacesWithTheReturn(t *testing.T) {
	t.Parallel()
	const rounds = 120
	var closed atomic.Int64
	var cfg sse.Config
	cfg.OnClose = func(*sse.ServerSession, sse.End) { closed.Add(1) }
	var w atomic.Pointer[wire]
	enders := []struct {
		end    func(s *detached)
		reason []sse.EndReason
	}{
		{func(s *detached) { s.Close() }, []sse.EndReason{sse.EndClosed}},
		{func(s *detached) { s.hub.End(errOwn) }, []sse.EndReason{sse.EndWriteError}},
		{func(*detached) { w.Load().tcp.Close() }, []sse.EndReason{sse.EndClientGone}},
		{func(s *detached) { s.hub.End(errOwn); s.hub.Interrupt(); s.hub.End(sse.ErrSlow) }, []sse.EndReason{sse.EndWriteError}},
		{func(s *detached) { go s.Close(); s.hub.End(errOwn) }, []sse.EndReason{sse.EndClosed, sse.EndWriteError}},
	}
	ready := make(chan struct{})
	d := newDetacher(t, overTCP, cfg, func(d *detacher) {
		d.after = func(*detached) error {
			<-ready
			return nil
		}
	})
	for i := range rounds {
		for _, e := range enders {
			s, c := d.connect()
			w.Store(c)
			var writers sync.WaitGroup
			writers.Go(func() {
				for range i % 3 {
					_ = s.SendData("x")
				}
			})
			writers.Go(func() { e.end(s) })
			ready <- struct{}{}
			writers.Wait()
			require.Contains(t, e.reason, d.ended(s).Reason)
			receive(t, s.returned)
			c.Close()
		}
	}
	require.EqualValues(t, rounds*len(enders), closed.Load())
	require.Zero(t, d.Plugin().Len())
}

func TestDetachShutdown(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		const n = 20
		d := newDetacher(t, tr, sse.Config{})
		sessions := make(map[*sse.ServerSession]bool)
		clients := make([]*wire, n)
		owners := make([]*stubHub, n)
		for i := range clients {
			s, w := d.connectReturned()
			sessions[s.ServerSession], clients[i], owners[i] = true, w, s.owner
		}
		p := d.Plugin()
		require.Equal(t, n, p.Len())
		for s := range p.Sessions() {
			require.True(t, sessions[s])
			delete(sessions, s)
		}
		require.Empty(t, sessions)
		require.NoError(t, p.Shutdown(t.Context()))
		require.Zero(t, p.Len())
		require.Empty(t, slices.Collect(p.Sessions()))
		for i, w := range clients {
			require.Regexp(t, `^d\r\nretry: \d{4}\n\n\r\n0\r\n\r\n$`, w.rest())
			require.Equal(t, sse.ErrShutdown, receive(t, owners[i].ended))
		}
		for range n {
			e := receive(t, d.ends)
			require.Equal(t, sse.EndShutdown, e.Reason)
			require.NoError(t, e.Err)
		}
		require.Equal(t, http.StatusServiceUnavailable, readStatus(t, tr.ask(t, d.srv, plainRequest)))
	})
}

func readStatus(t testing.TB, w *wire) int {
	t.Helper()
	resp, err := http.ReadResponse(w.r, nil)
	require.NoError(t, err)
	return resp.StatusCode
}

// The plugin gives a write that is under way its time, and interrupts it then. A
// handler that returns later still has its client told when to come back.
func TestDetachShutdownAndAHandlerThatIsLate(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		interrupted := make(chan struct{})
		d := newDetacher(t, tr, sse.Config{}, func(d *detacher) {
			d.after = func(s *detached) error {
				<-interrupted
				return nil
			}
		})
		s, w := d.connect()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, d.Plugin().Shutdown(ctx), context.DeadlineExceeded)
		close(interrupted)
		require.Regexp(t, `^d\r\nretry: \d{4}\n\n\r\n0\r\n\r\n$`, w.rest())
		require.Equal(t, sse.EndShutdown, d.ended(s).Reason)
	})
}

func TestDetachShutdownEndsAStalledSession(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetacher(t, tr, sse.Config{WriteTimeout: time.Hour})
		s, w := d.connectReturned()
		failed := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				err = s.SendData(strings.Repeat("x", 1<<20))
			}
			failed <- err
		}()
		w.expect(chunk("data: " + strings.Repeat("x", 1<<20) + "\n\n")[:100_000]) // it is in the middle
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, d.Plugin().Shutdown(ctx))
		require.Less(t, time.Since(began), 4*time.Second)
		require.ErrorIs(t, receive(t, failed), os.ErrDeadlineExceeded)
		e := d.ended(s)
		require.Equal(t, sse.EndShutdown, e.Reason)
		require.False(t, strings.HasSuffix(w.rest(), lastChunk), "half an event must not look like an end")
	})
}

func TestDetachShutdownOfTheServer(t *testing.T) {
	t.Parallel()
	d := newDetacher(t, overTCP, sse.Config{})
	d.Plugin().ShutdownWith(d.srv.Config)
	var clients []*wire
	for range 5 {
		_, w := d.connectReturned()
		clients = append(clients, w)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, d.srv.Config.Shutdown(ctx))
	for _, w := range clients {
		require.Regexp(t, `^d\r\nretry: \d{4}\n\n\r\n0\r\n\r\n$`, w.rest())
	}
	require.NoError(t, d.Plugin().Shutdown(ctx))
	require.Zero(t, d.Plugin().Len())
}

func TestDetachSessionLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg     sse.Config
		options []sse.RouteOption
	}{
		"of the plugin": {sse.Config{MaxSessions: 3}, nil},
		"of the route":  {sse.Config{}, []sse.RouteOption{sse.WithSessionLimit(3)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDetacher(t, overTCP, tt.cfg, func(d *detacher) { d.SSE("/few", d.handler, tt.options...) })
			open := func() (*detached, *wire) {
				w := overTCP.ask(t, d.srv, "GET /few HTTP/1.1\r\nHost: test\r\n\r\n")
				require.Contains(t, w.head(), " 200 OK")
				s := receive(t, d.sessions)
				receive(t, s.returned)
				return s, w
			}
			refused := func() {
				t.Helper()
				w := overTCP.ask(t, d.srv, "GET /few HTTP/1.1\r\nHost: test\r\n\r\n")
				require.Equal(t, http.StatusServiceUnavailable, readStatus(t, w))
			}
			one, w := open()
			two, _ := open()
			three, _ := open()
			refused()
			w.Close()
			d.ended(one)
			four, _ := open()
			refused()
			require.NoError(t, two.Close())
			d.ended(two)
			five, _ := open()
			refused()
			require.Equal(t, 3, d.Plugin().Len())
			for _, s := range []*detached{three, four, five} {
				s.hub.End(errOwn)
				d.ended(s)
			}
			for range 3 {
				open()
			}
			refused()
		})
	}
}

func TestDetachHooks(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		var mu sync.Mutex
		var calls []string
		var sum int64
		var last sse.End
		note := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, fmt.Sprintf(format, args...))
		}
		d := newDetacher(t, tr, sse.Config{
			OnOpen: func(*sse.ServerSession) { note("open") },
			OnSend: func(_ *sse.ServerSession, s sse.Sent) {
				note("send %d %t %v", s.Bytes, s.Heartbeat, s.Err)
				mu.Lock()
				defer mu.Unlock()
				sum += int64(s.Bytes)
			},
			OnClose: func(s *sse.ServerSession, e sse.End) {
				matches(t, s.SendData("x"), sse.ErrClosed, "it can be called")
				note("close %v", e.Reason)
				last = e
			},
		})
		s, w := d.connectReturned()
		require.NoError(t, s.SendData("12"))
		_, err := s.hub.TryWrite(framesOf("123", "1"))
		require.NoError(t, err)
		require.NoError(t, s.Heartbeat(sse.Heartbeat{Period: time.Hour}))
		require.NoError(t, d.Plugin().Shutdown(t.Context()))
		e := d.ended(s)
		w.rest()
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []string{
			"open", "send 12 false <nil>", "send 10 false <nil>", "send 20 false <nil>", "send 13 true <nil>",
			"send 13 false <nil>", "close shutdown",
		}, calls)
		require.Equal(t, e, last)
		require.Equal(t, sum, e.Bytes)
		require.EqualValues(t, 4, e.Events)
	})
}

// What OnSend is told of the time is that of the write, which counts as traffic.
func TestDetachDurationOfAWrite(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		sent := make(chan sse.Sent, 10)
		d := newDetacher(t, tr, sse.Config{OnSend: func(_ *sse.ServerSession, s sse.Sent) { sent <- s }})
		s, _ := d.connectReturned()
		receive(t, sent)
		for name, write := range map[string]func() error{
			"TryWrite": func() error { _, err := s.hub.TryWrite(framesOf("x")); return err },
			"Send":     func() error { return s.SendData("x") },
		} {
			time.Sleep(20 * time.Millisecond)
			began := time.Now()
			require.NoError(t, write())
			require.LessOrEqual(t, receive(t, sent).Duration, time.Since(began), name)
		}
	})
}

// Whoever keeps a list of sessions by the hooks must not be told of a send, when it
// has struck the session off.
func TestDetachOnCloseIsTheLastHook(t *testing.T) {
	t.Parallel()
	var late, lateClose atomic.Int64
	var closed sync.Map
	d := newDetacher(t, overTCP, sse.Config{
		OnSend: func(s *sse.ServerSession, _ sse.Sent) {
			runtime.Gosched()
			if _, ok := closed.Load(s); ok {
				late.Add(1)
			}
		},
		OnClose: func(s *sse.ServerSession, _ sse.End) {
			if _, again := closed.LoadOrStore(s, true); again {
				lateClose.Add(1)
			}
		},
	})
	for i := range 150 {
		s, w := d.connect()
		var writers sync.WaitGroup
		for range 2 {
			writers.Go(func() {
				for s.SendData("x") == nil {
				}
			})
		}
		writers.Go(func() {
			for {
				pending, err := s.hub.TryWrite(framesOf("x"))
				if pending {
					err = s.hub.Finish()
				}
				if err != nil {
					return
				}
			}
		})
		writers.Go(func() {
			_, _ = io.CopyN(io.Discard, w.r, int64(rand.N(2000)))
			if i%2 == 0 {
				s.hub.End(errOwn)
			} else {
				w.tcp.Close()
			}
		})
		writers.Wait()
		d.ended(s)
		w.tcp.Close()
	}
	require.Zero(t, late.Load(), "OnSend after OnClose")
	require.Zero(t, lateClose.Load(), "OnClose twice")
}

type tenantKey struct{}

// chi uses its contexts, and net/http its buffers, for the next request.
func TestDetachCallStaysValid(t *testing.T) {
	t.Parallel()
	d := newDetacher(t, overTCP, sse.Config{}, func(d *detacher) {
		d.Use(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), tenantKey{}, r.URL.Query().Get("t")), time.Hour)
				defer cancel()
				next.ServeHTTP(w, r.WithContext(ctx))
			})
		})
		d.Get("/plain/{a}/{b}/{c}", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, chi.URLParam(r, "a")+chi.URLParam(r, "c"))
		})
	})
	const n = 30
	var all []*detached
	byID := make(map[*detached]int)
	for i := range n {
		w := overTCP.ask(t, d.srv, fmt.Sprintf("GET /a%d/b%d?t=t%d HTTP/1.1\r\nHost: h%d\r\nLast-Event-ID: %d\r\nX-My: x%d\r\nCookie: c=%d\r\n\r\n", i, i, i, i, i, i, i))
		w.head()
		w.expect(chunk(openFrame))
		s := receive(t, d.sessions)
		receive(t, s.returned)
		byID[s] = i
		all = append(all, s)
	}
	check := func(s *detached, i int) {
		r := s.Call()
		assert.Equal(t, fmt.Sprint("a", i), chi.URLParam(r, "a"))
		assert.Equal(t, fmt.Sprint("b", i), chi.URLParam(r, "b"))
		assert.Equal(t, fmt.Sprint("b", i), chi.URLParamFromCtx(s.Context(), "b"))
		assert.Equal(t, "/{a}/{b}", chi.RouteContext(r.Context()).RoutePattern())
		assert.Nil(t, s.Context().Value(tenantKey{}), "documented to be gone")
		assert.Equal(t, fmt.Sprintf("/a%d/b%d", i, i), r.URL.Path)
		assert.Equal(t, fmt.Sprint("h", i), r.Host)
		assert.Equal(t, fmt.Sprint("x", i), r.Header.Get("X-My"))
		assert.Equal(t, strconv.Itoa(i), s.LastEventID())
		assert.Equal(t, http.MethodGet, r.Method)
		assert.Equal(t, "HTTP/1.1", r.Proto)
		assert.NotEmpty(t, r.RemoteAddr)
		assert.Equal(t, fmt.Sprintf("t=t%d", i), r.URL.RawQuery)
		assert.Equal(t, fmt.Sprintf("/a%d/b%d?t=t%d", i, i, i), r.RequestURI)
		cookie, err := r.Cookie("c")
		noError(t, err)
		assert.Equal(t, strconv.Itoa(i), cookie.Value)
		b, err := io.ReadAll(r.Clone(context.Background()).Body)
		noError(t, err)
		assert.Empty(t, b)
		assert.Empty(t, s.Header(), "of a session that is detached")
		s.Header().Set("X", "of no effect")
		_, hasDeadline := s.Context().Deadline()
		assert.False(t, hasDeadline)
		noError(t, s.Context().Err())
		assert.Equal(t, s.Context(), r.Context())
		assert.Equal(t, s.Context().Done(), s.Done())
	}
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for i := range 100 {
				a := get(t, d.srv, fmt.Sprintf("/plain/q%d/r/s%d", i, i))
				assert.Equal(t, fmt.Sprintf("q%ds%d", i, i), a.Body)
			}
		})
	}
	work.Go(func() {
		for range 10 {
			for _, s := range all {
				check(s, byID[s])
			}
		}
	})
	work.Wait()
	for i, s := range all {
		check(s, i)
		require.NoError(t, s.Close())
	}
	for i, s := range all {
		require.Equal(t, sse.ErrClosed, receive(t, s.owner.ended))
		receive(t, d.ends)
		require.Equal(t, fmt.Sprint("a", i), chi.URLParam(s.Call(), "a"), "after the end")
		require.Empty(t, s.Header())
		require.NotPanics(t, func() { s.Header().Set("X", "of no effect") })
	}
}

// Others may look at the request at any time, be it the moment when the handler
// returns.
func TestDetachCallWhileTheHandlerReturns(t *testing.T) {
	t.Parallel()
	d := newDetacher(t, overTCP, sse.Config{}, func(d *detacher) { d.Post("/", d.SSEHandler(d.handler).ServeHTTP) })
	for range 20 {
		w := overTCP.ask(t, d.srv, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody")
		w.head()
		w.expect(chunk(openFrame))
		s := receive(t, d.sessions)
		for done := false; !done; {
			select {
			case <-s.returned:
				done = true
			default:
			}
			require.Equal(t, http.MethodPost, s.Call().WithContext(t.Context()).Method)
			require.NotNil(t, s.Call().Body)
		}
	}
}

// A call that is packed is the same to who looks at it.
func TestDetachPackedCall(t *testing.T) {
	t.Parallel()
	type view struct {
		Method, URL, Path, RawPath, Query, Proto, Host, RequestURI, RemoteAddr, LastEventID, A, B, Pattern, RouteMethod string

		Major, Minor int
		Header       http.Header
		TLS          bool
	}
	look := func(s *sse.ServerSession) view {
		r := s.Call()
		rctx := chi.RouteContext(r.Context())
		return view{
			r.Method, r.URL.String(), r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.Proto, r.Host, r.RequestURI, r.RemoteAddr, s.LastEventID(),
			chi.URLParam(r, "a"), chi.URLParam(r, "b"), rctx.RoutePattern(), rctx.RouteMethod,
			r.ProtoMajor, r.ProtoMinor, r.Header, r.TLS != nil && r.TLS.HandshakeComplete,
		}
	}
	for name, request := range map[string]string{
		"plain":          "GET /x/y HTTP/1.1\r\nHost: test\r\n\r\n",
		"HTTP/1.0":       "GET /x/y HTTP/1.0\r\n\r\n",
		"query":          "GET /x/y?a=1&a=2&b=%00%20+ HTTP/1.1\r\nHost: test\r\n\r\n",
		"escaped":        "GET /x%2Fx/%C3%A9%20y HTTP/1.1\r\nHost: test\r\n\r\n",
		"odd":            "GET /x:%21//y HTTP/1.1\r\nHost: test\r\n\r\n",
		"absolute":       "GET http://other:1/x/y?z HTTP/1.1\r\nHost: test\r\n\r\n",
		"many headers":   "GET /x/y HTTP/1.1\r\nHost: test\r\nX-A: 1\r\nx-a: 2\r\nX-B:\r\nX-A: 3\r\nCookie: a=b; c=d\r\n\r\n",
		"last event id":  "GET /x/y HTTP/1.1\r\nHost: test\r\nLast-Event-ID: \xc3\xa9 7\r\n\r\n",
		"with encodings": "GET /x/y HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip, br\r\n\r\n",
		"a body":         "POST /post HTTP/1.1\r\nHost: test\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody",
	} {
		for _, tr := range transports {
			t.Run(name+" over "+tr.name, func(t *testing.T) {
				t.Parallel()
				views := make(chan view, 3)
				r := newRouter(sse.Config{})
				r.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tenantKey{}, "t")))
					})
				})
				goOn := make(chan struct{})
				stop := sync.OnceFunc(func() { close(goOn) })
				t.Cleanup(stop)
				h := func(s *sse.ServerSession) error {
					views <- look(s)
					engine.Of(s).Pack()
					engine.Of(s).Pack()
					views <- look(s)
					one, other := s.Call(), s.Call()
					assert.NotSame(t, one, other)
					assert.Equal(t, "t", s.Context().Value(tenantKey{}), "it is not detached")
					assert.Equal(t, "t", s.Call().Context().Value(tenantKey{}))
					s.Call().Header.Set("X", "of no effect")
					s.Call().URL.Path = "likewise"
					chi.RouteContext(s.Context()).URLParams.Add("a", "likewise")
					noError(t, s.SendData("open"))
					views <- look(s)
					<-goOn
					return nil
				}
				r.SSE("/{a}/{b}", h)
				r.SSE("/x:!//{b}", h)
				r.SSE("/post", h, sse.WithMethods(http.MethodPost))
				srv := serve(t, r, tr.setup)
				tr.ask(t, srv, request)
				before := receive(t, views)
				require.Equal(t, tr.tls, before.TLS)
				require.Equal(t, before, receive(t, views))
				require.Equal(t, before, receive(t, views))
				stop()
			})
		}
	}
}

// noHijack is a writer of a middleware that cannot be hijacked, as some are.
type noHijack struct {
	http.ResponseWriter
	err error
}

func (w *noHijack) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// failingHijack has one that fails.
type failingHijack struct{ noHijack }

func (w *failingHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errOwn }

func TestDetachRefuses(t *testing.T) {
	t.Parallel()
	h2c := func(srv *httptest.Server) {
		srv.Config.Protocols = new(http.Protocols)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
	}
	wrap := func(f func(http.ResponseWriter) http.ResponseWriter) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(f(w), r) })
		}
	}
	for name, tt := range map[string]struct {
		setup   func(*httptest.Server)
		outside func(http.Handler) http.Handler
		proto   string
	}{
		"HTTP/2":           {overHTTP2, nil, "HTTP/2.0"},
		"h2c":              {h2c, nil, "HTTP/2.0"},
		"a writer without": {nil, wrap(func(w http.ResponseWriter) http.ResponseWriter { return &noHijack{w, nil} }), "HTTP/1.1"},
		"one that fails":   {nil, wrap(func(w http.ResponseWriter) http.ResponseWriter { return &failingHijack{noHijack{w, nil}} }), "HTTP/1.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			ends := endsOf(&cfg)
			cfg.Heartbeat.Period = time.Hour
			r := newRouter(cfg)
			goOn := make(chan struct{})
			r.SSE("/", func(s *sse.ServerSession) error {
				e := engine.Of(s)
				h := &stubHub{ended: make(chan error, 1)}
				assert.True(t, e.Attach(h))
				assert.False(t, e.Attach(h), "it has an owner")
				noError(t, s.SendData("open"))
				for range 3 {
					assert.False(t, e.Detach())
				}
				assert.True(t, e.MayBlock())
				pending, err := e.TryWrite(framesOf("a", "b"))
				noError(t, err)
				assert.False(t, pending)
				noError(t, s.Heartbeat(sse.Heartbeat{}))
				assert.EqualValues(t, 1, h.begun.Load())
				e.Release()
				noError(t, s.Heartbeat(sse.Heartbeat{}))
				assert.EqualValues(t, 1, h.begun.Load(), "it has no owner anymore")
				assert.True(t, e.Attach(h))
				select {
				case <-goOn:
				case <-s.Done():
				}
				assert.Equal(t, "text/event-stream", s.Header().Get("Content-Type"))
				e.End(sse.ErrSlow)
				<-s.Done()
				assert.Empty(t, h.ended, "the handler knows by itself")
				return nil
			})
			var h http.Handler = r
			if tt.outside != nil {
				h = tt.outside(h)
			}
			options := []func(*httptest.Server){}
			if tt.setup != nil {
				options = append(options, tt.setup)
			}
			srv := serve(t, h, options...)
			if name == "h2c" {
				p := new(http.Protocols)
				p.SetUnencryptedHTTP2(true)
				srv.Client().Transport.(*http.Transport).Protocols = p
			}
			c := connect(t, srv, "/")
			require.Equal(t, tt.proto, c.Proto)
			for _, data := range []string{"open", "a", "b"} {
				require.Equal(t, data, c.nextData())
			}
			require.Equal(t, "heartbeat", c.next().Comment)
			require.Equal(t, "heartbeat", c.next().Comment)
			close(goOn)
			c.end()
			e := receive(t, ends)
			require.Equal(t, sse.EndSlow, e.Reason)
			require.EqualValues(t, 3, e.Events)
		})
	}
}

func TestDetachAtTheWrongTime(t *testing.T) {
	t.Parallel()
	t.Run("before it is open", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{OpenDelay: -1})
		r.SSE("/", func(s *sse.ServerSession) error {
			assert.False(t, engine.Of(s).Detach())
			s.Header().Set("X-Own", "1")
			assert.False(t, engine.Of(s).Detach())
			if s.Call().URL.RawQuery != "" {
				return sse.Error(http.StatusTeapot, nil)
			}
			return s.SendData("x")
		})
		srv := serve(t, r)
		a := get(t, srv, "/")
		require.NoError(t, a.Err)
		require.Equal(t, "data: x\n\n", a.Body)
		require.Equal(t, "1", a.Header.Get("X-Own"))
		require.Equal(t, http.StatusTeapot, get(t, srv, "/?refuse").Status)
	})
	t.Run("after its end", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{})
		sessions := make(chan *sse.ServerSession, 1)
		r.SSE("/", func(s *sse.ServerSession) error {
			noError(t, s.SendData("x"))
			noError(t, s.Close())
			assert.False(t, engine.Of(s).Detach())
			sessions <- s
			return nil
		})
		a := get(t, serve(t, r), "/")
		require.NoError(t, a.Err)
		require.Equal(t, "data: x\n\n", a.Body)
		s := receive(t, sessions)
		eventually(t, func() bool { return r.Plugin().Len() == 0 }, "the end")
		require.False(t, engine.Of(s).Detach(), "the handler has returned")
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		d := newDetacher(t, overTCP, sse.Config{}, func(d *detacher) {
			d.after = func(s *detached) error {
				assert.False(t, s.hub.Detach())
				return nil
			}
		})
		s, w := d.connectReturned()
		require.False(t, s.hub.Detach())
		require.False(t, s.hub.Attach(s.owner))
		require.NoError(t, s.SendData("x"))
		w.expect(chunk("data: x\n\n"))
		require.NoError(t, s.Close())
		require.Equal(t, lastChunk, w.rest())
		d.ended(s)
		require.False(t, s.hub.Detach())
	})
	t.Run("while the client leaves", func(t *testing.T) {
		t.Parallel()
		var cfg sse.Config
		ends := endsOf(&cfg)
		r := newRouter(cfg)
		var detached atomic.Int64
		r.SSE("/", func(s *sse.ServerSession) error {
			_ = s.SendData("open")
			if engine.Of(s).Detach() {
				detached.Add(1)
			}
			return nil
		})
		srv := serve(t, r)
		for i := range 100 {
			w := overTCP.ask(t, srv, plainRequest)
			if i%2 == 0 {
				w.head()
			}
			w.tcp.Close()
			e := receive(t, ends)
			require.Contains(t, []sse.EndReason{sse.EndClientGone, sse.EndReturned}, e.Reason)
		}
		require.Positive(t, detached.Load())
	})
	t.Run("without a connection", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			noError(t, s.SendData("open"))
			assert.False(t, engine.Of(s).Detach())
			return s.SendData("more")
		})
		require.Equal(t, "data: open\n\ndata: more\n\n", record(r, http.MethodGet, "/").Body.String())
	})
}

func TestDetachHeartbeats(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetacher(t, tr, sse.Config{Heartbeat: sse.Heartbeat{Period: 10 * time.Millisecond}})
		_, w := d.connectReturned()
		for range 5 {
			w.expect(chunk(": heartbeat\n\n"))
		}
	})
}

// A pipe is no socket, so writes wait for the client; but its time is the bubble's.
func TestDetachInItsTime(t *testing.T) {
	t.Parallel()
	handler := func(t *testing.T, sessions chan<- *sse.ServerSession) sse.Handler {
		t.Helper()
		return func(s *sse.ServerSession) error {
			noError(t, s.SendData("open"))
			assert.True(t, engine.Of(s).Detach())
			assert.True(t, engine.Of(s).MayBlock())
			sessions <- s
			return nil
		}
	}
	t.Run("heartbeats", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			sessions := make(chan *sse.ServerSession, 1)
			r := newRouter(sse.Config{})
			r.SSE("/", handler(t, sessions))
			c := servePipe(t, r).connect("/")
			require.Equal(t, "open", c.next().Data)
			s := <-sessions
			expectBeat := func() {
				t.Helper()
				began := time.Now()
				require.Equal(t, "heartbeat", c.next().Comment)
				require.GreaterOrEqual(t, time.Since(began), sse.DefaultHeartbeat)
				require.LessOrEqual(t, time.Since(began), sse.DefaultHeartbeat*9/8, "it may be an eighth late")
			}
			for range 100 {
				expectBeat()
			}
			time.Sleep(10 * time.Second)
			go func() { noError(t, s.SendData("traffic")) }()
			require.Equal(t, "traffic", c.next().Data)
			expectBeat() // pushed back by the traffic
			go func() { noError(t, s.Heartbeat(sse.Heartbeat{Period: time.Second, Event: sse.Event{Data: "own"}})) }()
			require.Equal(t, "own", c.next().Data)
			for range 20 {
				began := time.Now()
				require.Equal(t, "own", c.next().Data)
				require.Equal(t, time.Second, time.Since(began), "one that clients wait for is in time")
			}
			go func() { noError(t, s.Heartbeat(sse.Heartbeat{})) }()
			require.Equal(t, "heartbeat", c.next().Comment)
			expectBeat()
			require.NoError(t, s.Heartbeat(sse.Heartbeat{Period: -1}))
			time.Sleep(time.Hour)
			go func() { noError(t, s.SendData("silence")) }()
			require.Equal(t, "silence", c.next().Data)
			s.Close()
			c.end()
		})
	})
	t.Run("write timeout", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			sessions := make(chan *sse.ServerSession, 1)
			cfg := sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1}
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.SSE("/", handler(t, sessions))
			c := servePipe(t, r).connect("/")
			require.Equal(t, "open", c.next().Data)
			s := <-sessions
			time.Sleep(time.Hour)
			began := time.Now()
			err := s.SendData("not read")
			require.ErrorIs(t, err, sse.ErrWriteTimeout)
			require.Equal(t, sse.DefaultWriteTimeout, time.Since(began))
			require.Equal(t, sse.EndWriteTimeout, (<-ends).Reason)
			_, err = c.rest()
			require.Error(t, err)
		})
	})
	t.Run("a slow client at the end", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			sessions := make(chan *sse.ServerSession, 1)
			cfg := sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1}
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.SSE("/", handler(t, sessions))
			c := servePipe(t, r).connect("/")
			require.Equal(t, "open", c.next().Data)
			s := <-sessions
			began := time.Now()
			s.Close()
			require.Equal(t, sse.EndClosed, (<-ends).Reason)
			require.Equal(t, time.Second, time.Since(began), "it has a second to take the last chunk")
			_, err := c.rest()
			require.Error(t, err)
		})
	})
}

// trespasser is a middleware that writes when all is over.
func trespasser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		w.Header().Set("X-Late", "1")
		w.WriteHeader(http.StatusGatewayTimeout)
		_, _ = w.Write([]byte("data: of a middleware\n\n"))
		_, _ = io.WriteString(w, "data: of a middleware\n\n")
		if rf, ok := w.(io.ReaderFrom); ok {
			_, _ = rf.ReadFrom(strings.NewReader("data: of a middleware\n\n"))
		}
		c := http.NewResponseController(w)
		_ = c.Flush()
		_ = c.SetWriteDeadline(time.Unix(1, 0))
		_ = c.SetReadDeadline(time.Unix(1, 0))
		_, _, _ = c.Hijack()
	})
}

func TestDetachMiddleware(t *testing.T) {
	t.Parallel()
	var logged syncBuffer
	logger := func() func(http.Handler) http.Handler {
		return middleware.RequestLogger(&middleware.DefaultLogFormatter{Logger: log.New(&logged, "", 0), NoColor: true})
	}
	counter := func(counted *atomic.Int64) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
				next.ServeHTTP(ww, r)
				counted.Store(int64(ww.Status()*1000 + ww.BytesWritten()))
			})
		}
	}
	var inside, outside atomic.Int64
	type chain = []func(http.Handler) http.Handler
	for name, tt := range map[string]struct {
		outside, inside chain
		check           func(t *testing.T)
	}{
		"Logger": {nil, chain{logger()}, func(t *testing.T) {
			t.Helper()
			require.Contains(t, logged.String(), fmt.Sprintf(" - 200 %dB in ", len(openFrame)))
		}},
		"WrapResponseWriter": {chain{counter(&outside)}, chain{counter(&inside)}, func(t *testing.T) {
			t.Helper()
			require.EqualValues(t, 200_000+len(openFrame), inside.Load())
			require.EqualValues(t, 200_000+len(openFrame), outside.Load())
		}},
		"Compress inside":  {nil, chain{middleware.Compress(5)}, nil},
		"Compress outside": {chain{middleware.Compress(5)}, nil, nil},
		"Compress twice":   {chain{middleware.Compress(5)}, chain{middleware.Compress(5)}, nil},
		"Timeout":          {nil, chain{middleware.Timeout(time.Millisecond)}, nil},
		"Timeout outside":  {chain{middleware.Timeout(time.Hour)}, nil, nil},
		"Recoverer":        {nil, chain{middleware.Recoverer}, nil},
		"Throttle":         {nil, chain{nil}, nil},
		"Throttle outside": {chain{nil}, nil, nil},
		"late words":       {nil, chain{trespasser}, nil},
		"late words, too":  {nil, chain{trespasser, middleware.Compress(5), trespasser, logger()}, nil},
		"a whole stack": {chain{logger(), middleware.Compress(5)}, chain{
			middleware.RequestID, middleware.Compress(5), middleware.Recoverer, middleware.Timeout(time.Millisecond),
			middleware.NoCache, middleware.StripSlashes, middleware.CleanPath, middleware.SetHeader("X-A", "b"), nil,
		}, nil},
	} {
		for _, tr := range transports {
			t.Run(name+" over "+tr.name, func(t *testing.T) {
				t.Parallel()
				outside, inside := slices.Clone(tt.outside), slices.Clone(tt.inside)
				switch { // each has one of its own
				case name == "Throttle outside":
					outside[0] = middleware.Throttle(1)
				case name == "Throttle", name == "a whole stack":
					inside[len(inside)-1] = middleware.Throttle(1)
				}
				contexts := make(chan context.Context, 10)
				d := newDetacher(t, tr, sse.Config{}, func(d *detacher) {
					d.outside = outside
					d.Use(inside...)
					d.Use(func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							contexts <- r.Context()
							next.ServeHTTP(w, r)
						})
					})
				})
				w := tr.ask(t, d.srv, "GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n")
				require.NotContains(t, w.head(), "gzip")
				w.expect(chunk(openFrame))
				s := receive(t, d.sessions)
				receive(t, s.returned)
				receive(t, receive(t, contexts).Done()) // a deadline has passed, and the request is over
				require.NoError(t, s.Context().Err())
				other, _ := d.connectReturned() // there is room
				require.NoError(t, s.SendData("x"))
				w.expect(chunk("data: x\n\n"))
				if tt.check != nil {
					tt.check(t)
				}
				require.NoError(t, s.Close())
				require.Equal(t, lastChunk, w.rest())
				require.Equal(t, sse.EndClosed, d.ended(s).Reason)
				require.NoError(t, other.Close())
				require.Equal(t, sse.EndClosed, d.ended(other).Reason)
			})
		}
	}
}

// The connection is out of reach for a middleware, from the moment of detaching on.
func TestDetachMiddlewareHasNoConnection(t *testing.T) {
	t.Parallel()
	d := newDetacher(t, overTCP, sse.Config{}, func(d *detacher) {
		d.Use(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				c := http.NewResponseController(w)
				matches(t, c.SetWriteDeadline(time.Unix(1, 0)), http.ErrNotSupported)
				matches(t, c.SetReadDeadline(time.Unix(1, 0)), http.ErrNotSupported)
				_, _, err := c.Hijack()
				assert.Error(t, err)
				_, err = w.Write([]byte("x"))
				assert.Error(t, err)
			})
		})
	})
	s, w := d.connectReturned()
	require.NoError(t, s.SendData("x"))
	w.expect(chunk("data: x\n\n"))
}

// As long as the handler runs, the request's context counts as ever.
func TestDetachHandlerThatIsCanceled(t *testing.T) {
	t.Parallel()
	for name, deadline := range map[string]bool{"by a middleware": false, "by a deadline": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			goOn := make(chan struct{})
			d := newDetacher(t, overTCP, sse.Config{}, func(d *detacher) {
				d.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						ctx, cancel := context.WithCancelCause(r.Context())
						if deadline {
							var stop func()
							ctx, stop = context.WithTimeout(ctx, time.Millisecond)
							defer stop()
						} else {
							go func() { <-goOn; cancel(errOwn) }()
						}
						next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, tenantKey{}, ctx)))
						cancel(errOwn)
					})
				})
				d.after = func(s *detached) error {
					<-s.Context().Value(tenantKey{}).(context.Context).Done()
					if !deadline {
						<-s.Done()
					}
					return nil
				}
			})
			s, w := d.connect()
			close(goOn)
			receive(t, s.returned)
			if deadline {
				require.NoError(t, s.SendData("x"))
				w.expect(chunk("data: x\n\n"))
				return
			}
			require.Empty(t, w.rest(), "a broken end")
			e := d.ended(s)
			require.Equal(t, sse.EndCanceled, e.Reason)
			require.ErrorIs(t, e.Err, errOwn)
		})
	}
}

// A session that is detached holds nothing of the request but what Call returns.
func TestDetachHoldsNothingOfTheRequest(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		for name, request := range map[string]string{
			"GET":            plainRequest,
			"GET, too late":  "GET /late HTTP/1.1\r\nHost: test\r\n\r\n",
			"GET, unguarded": "GET /unguarded HTTP/1.1\r\nHost: test\r\n\r\n",
			"HTTP/1.0":       "GET / HTTP/1.0\r\n\r\n",
			"POST":           "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
			"POST, chunked":  "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
			"POST, SSE only": "POST /post HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var held atomic.Int64
				var kinds sync.Map
				// keep notes that v, a pointer, is in use.
				keep := func(what string, v any) {
					held.Add(1)
					kinds.Store(what, true)
					runtime.AddCleanup((*byte)(reflect.ValueOf(v).UnsafePointer()), func(what string) {
						kinds.Delete(what)
						held.Add(-1)
					}, what)
				}
				watch := func(what string) func(http.Handler) http.Handler {
					return func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							ww := &plainWrap{w}
							keep(what+" wrapper", ww)
							keep(what+" request", r)
							next.ServeHTTP(ww, r)
						})
					}
				}
				d := newDetacher(t, tr, sse.Config{}, func(d *detacher) {
					d.outside = []func(http.Handler) http.Handler{
						func(next http.Handler) http.Handler {
							return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
								keep("net/http's writer", w)
								keep("net/http's request", r)
								if r.Body != http.NoBody {
									keep("net/http's body", r.Body)
								}
								next.ServeHTTP(w, r)
							})
						}, watch("outer"),
					}
					d.Use(watch("inner"), middleware.Compress(5), middleware.Timeout(time.Hour), middleware.RequestID)
					d.Post("/", d.SSEHandler(d.handler).ServeHTTP)
					d.SSE("/post", d.handler, sse.WithMethods(http.MethodPost))
					late := d.With(func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							ctx, cancel := context.WithDeadline(r.Context(), time.Unix(1, 0))
							defer cancel()
							next.ServeHTTP(w, r.WithContext(ctx))
						})
					})
					late.Get("/late", d.SSEHandler(d.handler).ServeHTTP)
					d.outside = append(d.outside, func(next http.Handler) http.Handler {
						unguarded := d.SSEHandler(d.handler)
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							h := next
							if r.URL.Path == "/unguarded" {
								h = unguarded
							}
							h.ServeHTTP(w, r)
						})
					})
				})
				w := tr.ask(t, d.srv, request)
				w.head()
				body := openFrame
				if !strings.Contains(request, "HTTP/1.0") {
					body = chunk(body)
				}
				w.expect(body)
				s := receive(t, d.sessions)
				receive(t, s.returned)
				all := held.Load()
				for deadline := time.Now().Add(patience / 2); held.Load() > 0 && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
					runtime.GC()
				}
				kinds.Range(func(what, _ any) bool {
					t.Errorf("%s is held", what)
					return true
				})
				require.Zero(t, held.Load(), "of %d", all)
				require.NoError(t, s.SendData("x"), "it lives")
				require.Equal(t, strings.Fields(request)[0], s.Call().Method)
			})
		}
	})
}

type plainWrap struct{ http.ResponseWriter }

func (w *plainWrap) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *plainWrap) Flush()                      { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// What panics when a session ends is nobody's handler: it must neither end the
// process, nor keep the session in the books.
func TestDetachHookThatPanics(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg    sse.Config
		ended  func(error)
		reason sse.EndReason // 0: OnClose itself is at fault
	}{
		"OnClose": {sse.Config{OnClose: func(*sse.ServerSession, sse.End) { panic(errOwn) }}, nil, 0},
		"Ended":   {sse.Config{}, func(error) { panic(errOwn) }, sse.EndShutdown},
		"OnSend of the farewell": {sse.Config{OnSend: func(_ *sse.ServerSession, s sse.Sent) {
			if s.Bytes == len("retry: 3000\n\n") {
				panic(errOwn)
			}
		}}, nil, sse.EndShutdown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDetacher(t, overTCP, tt.cfg)
			s, w := d.connectReturned()
			s.owner.onEnded = tt.ended
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			require.NoError(t, d.Plugin().Shutdown(ctx))
			require.Zero(t, d.Plugin().Len())
			require.Regexp(t, `^d\r\nretry: \d{4}\n\n\r\n0\r\n\r\n$`, w.rest())
			if tt.reason != 0 {
				require.Equal(t, tt.reason, receive(t, d.ends).Reason)
			}
			eventually(t, func() bool { return len(d.book.entries(errOwn.Error())) == 1 }, "a word of it in the log")
			require.Equal(t, slog.LevelError, d.book.entries(errOwn.Error())[0].Level)
		})
	}
}

// A panic of a heartbeat, or of a hook that a heartbeat calls, is one of the session.
func TestDetachHeartbeatThatPanics(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		var beats atomic.Int64
		d := newDetacher(t, tr, sse.Config{Heartbeat: sse.Heartbeat{Period: time.Millisecond, Provider: func() sse.Event {
			if beats.Add(1) > 3 {
				panic(errOwn)
			}
			return sse.Event{Comment: "beat"}
		}}})
		s := receiveSession(t, d)
		e := d.ended(s)
		require.Equal(t, sse.EndPanic, e.Reason)
		var p *sse.PanicError
		require.ErrorAs(t, e.Err, &p)
		require.Equal(t, errOwn, p.Value)
	})
}

// receiveSession opens a session whose client does not look at what comes.
func receiveSession(t testing.TB, d *detacher) *detached {
	t.Helper()
	w := d.tr.ask(t, d.srv, plainRequest)
	w.head()
	return receive(t, d.sessions)
}

// When all sessions are over, so is what is collected for them.
func TestDetachSessionIsCollectedAtItsEnd(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, tr transport) {
		t.Helper()
		const n = 20
		var collected atomic.Int64
		d := newDetacher(t, tr, sse.Config{Heartbeat: sse.Heartbeat{Period: 40 * time.Millisecond}}, func(d *detacher) {
			d.after = func(s *detached) error {
				runtime.AddCleanup(s.ServerSession, func(int) { collected.Add(1) }, 0)
				return nil
			}
		})
		survivor, _ := d.connectReturned()
		for i := range n {
			s, w := d.connectReturned()
			switch i % 3 {
			case 0:
				w.tcp.Close()
			case 1:
				s.Close()
			default:
				s.hub.End(errOwn)
			}
			d.ended(s)
		}
		eventually(t, func() bool { runtime.GC(); return collected.Load() == n }, "their collection")
		require.NoError(t, survivor.SendData("x"))
	})
}

// However many sessions there are, and whatever their clients say, one goroutine is
// enough.
func TestDetachNeedsNoGoroutine(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere each connection is read from")
	}
	before := runtime.NumGoroutine()
	t.Run("all", func(t *testing.T) {
		d := newDetacher(t, overTCP, sse.Config{})
		few := runtime.NumGoroutine() + 1
		for range 30 {
			s, w := d.connectReturned()
			_, err := io.WriteString(w.Conn, "garbage")
			require.NoError(t, err)
			require.NoError(t, s.SendData("x"))
			w.expect(chunk("data: x\n\n"))
		}
		goroutinesBackTo(t, few)
	})
	goroutinesBackTo(t, before)
}

func TestDetachLeaksNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	descriptors := openDescriptors()
	t.Run("all", func(t *testing.T) {
		onAll(t, func(t *testing.T, tr transport) {
			t.Helper()
			for range 3 { // the watch ends, and begins anew
				d := newDetacher(t, tr, sse.Config{Heartbeat: sse.Heartbeat{Period: time.Millisecond}, WriteTimeout: time.Second})
				var clients sync.WaitGroup
				for range 40 {
					s, w := d.connect()
					clients.Go(func() {
						for range rand.N(20) {
							if s.SendData(strings.Repeat("x", rand.N(2000))) != nil {
								return
							}
						}
					})
					clients.Go(func() {
						_, _ = io.CopyN(io.Discard, w.r, int64(rand.N(2000)))
						switch rand.N(5) {
						case 0:
							_ = w.tcp.SetLinger(0)
							fallthrough
						case 1:
							w.tcp.Close()
						case 2:
							s.Close()
							w.tcp.Close()
						case 3:
							s.hub.End(errOwn)
						case 4: // it stays, and does not read
						}
					})
				}
				clients.Wait()
				require.NoError(t, d.Plugin().Shutdown(t.Context()))
				for range 40 {
					receive(t, d.ends)
				}
				require.Empty(t, d.ends)
			}
		})
	})
	goroutinesBackTo(t, before)
	if descriptors > 0 {
		eventually(t, func() bool { return openDescriptors() <= descriptors }, "the end of all connections")
	}
}

// openDescriptors returns how many descriptors the process has, or 0 where nobody
// says.
func openDescriptors() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// The system gives a new connection the descriptor of one that has just been closed.
func TestDetachDescriptorsAreUsedAgain(t *testing.T) {
	t.Parallel()
	const workers, each = 4, 200
	d := newDetacher(t, overTCP, sse.Config{Heartbeat: sse.Heartbeat{Period: -1}})
	kept := make(chan *detached, workers*each)
	var all sync.WaitGroup
	var mu sync.Mutex // of what connect takes: a session and the wire that belongs to it
	for range workers {
		all.Go(func() {
			for i := range each {
				mu.Lock()
				s, w := d.connectReturned()
				mu.Unlock()
				switch i % 4 {
				case 0:
					w.tcp.Close()
				case 1:
					s.Close()
				case 2:
					go s.Close()
					w.tcp.Close()
				default:
					if i%20 == 19 {
						kept <- s
						continue
					}
					_ = w.tcp.SetLinger(0)
					w.tcp.Close()
				}
				<-s.Done()
				want := []error{sse.ErrClientGone, sse.ErrClosed}
				switch i % 4 {
				case 1:
					want = want[1:]
				case 0, 3:
					want = want[:1]
				}
				assert.Contains(t, want, context.Cause(s.Context()))
			}
		})
	}
	all.Wait()
	close(kept)
	require.Len(t, kept, workers*each/20)
	eventually(t, func() bool { return d.Plugin().Len() == len(kept) }, "the end of the others")
	for s := range kept {
		require.NoError(t, s.Context().Err(), "the wrong session was ended")
		require.NoError(t, s.SendData("x"))
	}
}

// A great many leave at a time.
func TestDetachAllLeaveAtOnce(t *testing.T) {
	t.Parallel()
	const n = 300
	d := newDetacher(t, overTCP, sse.Config{Heartbeat: sse.Heartbeat{Period: -1}})
	var clients []*wire
	for range n {
		_, w := d.connectReturned()
		clients = append(clients, w)
	}
	var all sync.WaitGroup
	for _, w := range clients {
		all.Go(func() { w.tcp.Close() })
	}
	all.Wait()
	for range n {
		require.Equal(t, sse.EndClientGone, receive(t, d.ends).Reason)
	}
	require.Zero(t, d.Plugin().Len())
}

// BenchmarkIdleDetached measures, as BenchmarkIdle does, what an open session costs
// that has nothing to do, once it is detached. The clients are another process. RSS
// is what the system says that the process has, after all is returned to it.
func BenchmarkIdleDetached(b *testing.B) {
	const n = 10_000
	for range b.N {
		var open atomic.Int64
		r := sse.Install(chi.NewRouter(), sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			if err := s.Open(); err != nil {
				return err
			}
			if !engine.Of(s).Detach() {
				return errors.New("cannot be detached")
			}
			open.Add(1)
			return nil
		})
		srv := httptest.NewServer(r)
		rss := residentBytes()
		goroutines, heap, stack := footprint()
		client := exec.Command(os.Args[0])
		client.Env = append(os.Environ(), idleClientEnv+"="+srv.Listener.Addr().String()+" "+strconv.Itoa(n))
		client.Stderr = os.Stderr
		stdin, err := client.StdinPipe()
		require.NoError(b, err)
		stdout, err := client.StdoutPipe()
		require.NoError(b, err)
		require.NoError(b, client.Start())
		_, err = bufio.NewReader(stdout).ReadString('\n') // all are open
		require.NoError(b, err)
		eventually(b, func() bool { return open.Load() == n }, "all sessions")
		goroutines2, heap2, stack2 := footprint()
		rss2 := residentBytes()
		b.ReportMetric(float64(heap2-heap+stack2-stack)/n, "B/session")
		b.ReportMetric(float64(heap2-heap)/n, "heap-B/session")
		b.ReportMetric(float64(stack2-stack)/n, "stack-B/session")
		b.ReportMetric(float64(rss2-rss)/n, "RSS-B/session")
		b.ReportMetric(float64(goroutines2-goroutines), "goroutines")
		require.NoError(b, stdin.Close())
		require.NoError(b, client.Wait())
		eventually(b, func() bool { return r.Plugin().Len() == 0 }, "the end of all sessions")
		srv.Close()
	}
}

// residentBytes returns the process's resident memory, or 0 where nobody says.
func residentBytes() (n int64) {
	time.Sleep(100 * time.Millisecond)
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	if _, after, ok := bytes.Cut(status, []byte("VmRSS:")); ok {
		_, _ = fmt.Fscan(bytes.NewReader(after), &n)
	}
	return n << 10
}
