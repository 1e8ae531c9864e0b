package sse

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// deadlineWriter records the write deadlines that are set.
type deadlineWriter struct {
	*httptest.ResponseRecorder
	deadlines []time.Time
}

func (w *deadlineWriter) SetWriteDeadline(t time.Time) error {
	w.deadlines = append(w.deadlines, t)
	return nil
}

// After the handler has returned, the connection may be serving another request. An
// interruption of the session that was there before must not end it.
func TestInterruptAfterRelease(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*httpWire)
	}{
		{"released", func(x *httpWire) { x.release(false, time.Minute) }},
		{"dropped", (*httpWire).drop},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &deadlineWriter{ResponseRecorder: httptest.NewRecorder()}
			x := newHTTPWire(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody), nil, time.Minute)
			x.interrupt()
			require.Equal(t, []time.Time{longAgo}, w.deadlines)
			c.end(x)
			n := len(w.deadlines)
			x.interrupt()
			require.Len(t, w.deadlines, n)
		})
	}
}

// An interruption counts for the write that follows it, which sets a deadline of its own.
func TestInterruptBeforeAWrite(t *testing.T) {
	w := &deadlineWriter{ResponseRecorder: httptest.NewRecorder()}
	x := newHTTPWire(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody), nil, time.Minute)
	last := func() time.Time { return w.deadlines[len(w.deadlines)-1] }
	x.interrupt()
	require.NoError(t, x.write([]byte("x"), sinceEpoch(), time.Minute))
	require.Equal(t, longAgo, last())
	x.allowWrite()
	require.NoError(t, x.write([]byte("x"), sinceEpoch(), time.Minute))
	require.True(t, last().After(time.Now()))
}

// The same for a socket, whose write sets a deadline only if it has to wait.
func TestInterruptBeforeAWriteToASocket(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	w := newSocketWire(server, true, time.Hour)
	w.interrupt()
	require.ErrorIs(t, w.write([]byte("x"), sinceEpoch(), time.Hour), os.ErrDeadlineExceeded)
	w.allowWrite()
	go func() { _, _ = io.Copy(io.Discard, client) }()
	require.NoError(t, w.write([]byte("x"), sinceEpoch(), time.Hour))
}

// swappingWire stands for a wire that is replaced while it is interrupted.
type swappingWire struct {
	wire
	me   wire
	swap func()
}

func (w *swappingWire) self() *wire { w.me = w; return &w.me }
func (w *swappingWire) interrupt()  { w.swap() }

// An interruption that meets a session as it detaches reaches the new wire.
func TestInterruptFollowsTheWire(t *testing.T) {
	s := new(ServerSession)
	interrupted := false
	second := &swappingWire{swap: func() { interrupted = true }}
	s.setWire(&swappingWire{swap: func() { s.setWire(second) }})
	s.interruptWrite()
	require.True(t, interrupted)
}

// What net/http would still write of a broken stream fails: its deadline has passed.
func TestReleaseOfABrokenStream(t *testing.T) {
	w := &deadlineWriter{ResponseRecorder: httptest.NewRecorder()}
	x := newHTTPWire(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody), nil, time.Minute)
	x.release(true, time.Minute)
	require.Equal(t, []time.Time{longAgo}, w.deadlines)
}

// A deadline says nothing of the client: it is a timeout or an interruption.
func TestADeadlineIsNoLeaving(t *testing.T) {
	w := new(socketWire)
	require.False(t, w.clientLeft(os.ErrDeadlineExceeded))
	require.True(t, w.clientLeft(io.ErrClosedPipe))
}

// deadlineConn records the write deadlines that are set.
type deadlineConn struct {
	net.Conn
	deadlines []time.Time
}

func (c *deadlineConn) SetWriteDeadline(t time.Time) error {
	c.deadlines = append(c.deadlines, t)
	return c.Conn.SetWriteDeadline(t)
}

// A write that has waited leaves no deadline behind, and the end of a session does not wait for
// a client that has left.
func TestSocketDeadlines(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	conn := &deadlineConn{Conn: server}
	w := newSocketWire(conn, true, time.Hour)
	go func() { _, _ = io.CopyN(io.Discard, client, int64(len("1\r\nx\r\n"))) }()
	require.NoError(t, w.write([]byte("x"), sinceEpoch(), time.Hour))
	require.True(t, conn.deadlines[len(conn.deadlines)-1].IsZero())

	w.rest = &rest{b: []byte("half"), late: lateFrames{bytes: 8, events: 1}}
	require.Zero(t, w.finish(true, time.Hour), "nobody reads")
	require.Zero(t, w.finish(false, time.Millisecond))
	require.True(t, w.unfinished)
}
