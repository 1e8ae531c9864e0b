package sse_test

// Each way to end a session means the same for a handler, a hub and a detached session, over
// each version of HTTP.

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// anEnd is a way to end a session, and what must be told of it.
type anEnd struct {
	by     func(m *endMode)
	reason sse.EndReason
	cause  error // that the context's cause matches, and that OnLeave is called with
	err    error // that End.Err matches; nil: there is none
	broken bool  // the client sees that the stream is not complete
}

// endMode is a server of one mode with one session.
type endMode struct {
	t      *testing.T
	plugin *sse.Plugin
	s      *sse.ServerSession
	resp   *http.Response
	leave  func()
	base   context.CancelFunc
	revoke atomic.Bool // the next check of WithRecheck fails

	mu    sync.Mutex
	hooks []string // that were called; a hook that is called several times in a row is here once
	left  error    // the cause that OnLeave was called with
}

func (m *endMode) note(hook string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.hooks) == 0 || m.hooks[len(m.hooks)-1] != hook {
		m.hooks = append(m.hooks, hook)
	}
}

var ways = map[string]anEnd{
	"Close":             {func(m *endMode) { m.s.Close() }, sse.EndClosed, sse.ErrClosed, nil, false},
	"the client leaves": {func(m *endMode) { m.leave() }, sse.EndClientGone, sse.ErrClientGone, nil, true},
	"Plugin.Shutdown": {func(m *endMode) {
		testkit.NoError(m.t, m.plugin.Shutdown(m.t.Context()))
	}, sse.EndShutdown, sse.ErrShutdown, nil, false},
	"the base context ends": {func(m *endMode) { m.base() }, sse.EndShutdown, sse.ErrShutdown, nil, false},
	"the client takes nothing": {func(m *endMode) {
		testkit.ErrorIs(m.t, m.s.SendData(strings.Repeat("x", 16<<20)), sse.ErrWriteTimeout)
	}, sse.EndWriteTimeout, sse.ErrWriteTimeout, sse.ErrWriteTimeout, true},
	"EndAt": {func(m *endMode) { m.s.EndAt(time.Now().Add(20*time.Millisecond), errOwn) }, sse.EndExpired, sse.ErrExpired, errOwn, false},
	"EndAt, in the past": {func(m *endMode) {
		m.s.EndAt(time.Unix(1, 0), nil)
		testkit.ErrorIs(m.t, m.s.SendData("late"), sse.ErrExpired)
	}, sse.EndExpired, sse.ErrExpired, nil, false},
	"a check fails": {func(m *endMode) { m.revoke.Store(true) }, sse.EndRevoked, sse.ErrRevoked, errOwn, false},
	"a heartbeat panics": {func(m *endMode) {
		first := true
		testkit.NoError(m.t, m.s.Heartbeat(sse.Heartbeat{Period: 10 * time.Millisecond, Provider: func() sse.Event {
			if !first {
				panic(errOwn)
			}
			first = false
			return sse.Event{Data: "x"}
		}}))
	}, sse.EndPanic, nil, nil, true},
}

func TestEndsMeanTheSameInEveryMode(t *testing.T) {
	t.Parallel()
	versions := map[string]testkit.Protocol{
		"HTTP/1.0": testkit.HTTP1, "HTTP/1.0 with TLS": testkit.HTTP1TLS, "HTTP/1.1": testkit.HTTP1, "HTTP/1.1 with TLS": testkit.HTTP1TLS, "h2": testkit.HTTP2,
	}
	for name, way := range ways {
		for version, proto := range versions {
			for _, by := range []string{byHandler, byHub, byDetachingHub} {
				if by == byDetachingHub && proto.Proto == "HTTP/2.0" {
					continue // it cannot detach
				}
				t.Run(fmt.Sprint(name, ", by ", by, " over ", version), func(t *testing.T) {
					t.Parallel()
					m, ends := newEndMode(t, by, version, proto)
					way.by(m)
					e := testkit.Receive(t, ends)
					require.Equal(t, way.reason, e.Reason, "%v", e.Err)
					require.True(t, e.Opened)
					switch p := (*sse.PanicError)(nil); {
					case way.reason == sse.EndPanic:
						require.ErrorAs(t, e.Err, &p)
						require.ErrorAs(t, context.Cause(m.s.Context()), &p)
					case way.err == nil:
						require.NoError(t, e.Err)
					default:
						require.ErrorIs(t, e.Err, way.err)
					}
					for _, send := range sendsOf(m.s) {
						require.ErrorIs(t, send(), sse.ErrClosed)
					}
					hooks := []string{"OnOpen", "OnSend", "OnClose"}
					if by != byHandler {
						testkit.Eventually(t, func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.left != nil }, "OnLeave")
						require.ErrorIs(t, m.left, context.Cause(m.s.Context()))
						if way.cause != nil {
							require.ErrorIs(t, m.left, way.cause)
						}
						hooks = []string{"OnOpen", "OnSend", "OnJoin", "OnSend", "OnClose", "OnLeave"}
					}
					if way.cause != nil {
						require.ErrorIs(t, context.Cause(m.s.Context()), way.cause)
					}
					m.mu.Lock()
					got := slices.DeleteFunc(slices.Clone(m.hooks), func(h string) bool { return h == "OnSend" || h == "OnLeave" })
					want := slices.DeleteFunc(hooks, func(h string) bool { return h == "OnSend" || h == "OnLeave" })
					require.Equal(t, want, got)
					require.Contains(t, m.hooks, "OnSend")
					require.NotEqual(t, "OnSend", m.hooks[len(m.hooks)-1], "OnSend comes before OnClose")
					m.mu.Unlock()
					if name != "the client leaves" {
						_, err := io.Copy(io.Discard, m.resp.Body)
						require.Equal(t, way.broken, err != nil, "%v", err)
						var timeout net.Error
						require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the connection is still open")
					}
				})
			}
		}
	}
}

// newEndMode starts a server whose sessions are served by by, and connects to it.
func newEndMode(t *testing.T, by, version string, proto testkit.Protocol) (*endMode, <-chan sse.End) {
	t.Helper()
	m := &endMode{t: t}
	ends, ready := make(chan sse.End, 10), make(chan *sse.ServerSession, 10)
	r := newRouter(sse.Config{
		WriteTimeout: 1500 * time.Millisecond,
		OnOpen:       func(*sse.ServerSession) { m.note("OnOpen") },
		OnSend:       func(*sse.ServerSession, sse.Sent) { m.note("OnSend") },
		OnClose:      func(_ *sse.ServerSession, e sse.End) { m.note("OnClose"); ends <- e },
	})
	m.plugin = r.Plugin()
	h, err := hub.New(hub.Config{
		Detached: by == byDetachingHub,
		OnJoin:   func(member *hub.Member, _ string) { m.note("OnJoin"); ready <- member.Session() },
		OnLeave: func(_ *hub.Member, _ string, cause error) {
			m.note("OnLeave")
			m.mu.Lock()
			defer m.mu.Unlock()
			m.left = cause
		},
	})
	require.NoError(t, err)
	r.SSE("/", func(s *sse.ServerSession) error {
		if by != byHandler {
			return h.Serve(s, hub.Subscription{Topics: []string{"a"}})
		}
		if err := s.Open(); err != nil {
			return err
		}
		ready <- s
		<-s.Done()
		return nil
	}, sse.WithRecheck(50*time.Millisecond, func(*sse.ServerSession) error {
		if m.revoke.Load() {
			return errOwn
		}
		return nil
	}))
	base, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	m.base = cancel
	srv := serve(t, r, proto.Setup, attached(base, r), func(srv *httptest.Server) {
		t.Cleanup(func() { // a detached session is no longer the server's
			ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
			defer cancel()
			_ = r.Plugin().Shutdown(ctx)
		})
	})
	if proto.Proto == "HTTP/2.0" {
		c := connect(t, srv, "/")
		m.resp, m.leave = c.Response, c.leave
	} else {
		var conn net.Conn = testkit.Dial(t, srv)
		if proto.TLS {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		_, err := io.WriteString(conn, "GET / "+version[:8]+"\r\nHost: test\r\n\r\n")
		require.NoError(t, err)
		m.resp, err = http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		m.leave = func() { conn.Close() }
	}
	require.Equal(t, http.StatusOK, m.resp.StatusCode)
	m.s = testkit.Receive(t, ready)
	return m, ends
}
