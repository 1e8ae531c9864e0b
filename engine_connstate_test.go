package sse_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

// hijackHook makes http.Server.ConnState call hook in the middle of each Detach, with the
// session that detaches.
func hijackHook(hook func(s *sse.ServerSession)) func(*detachServer) {
	return func(d *detachServer) {
		d.options = append(d.options, func(srv *httptest.Server) {
			srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateHijacked {
					for s := range d.Plugin().Sessions() {
						hook(s)
					}
				}
			}
		})
	}
}

// http.Server calls ConnState while a session detaches. The hook may do with the session what
// any other goroutine may, and what it sends arrives in its turn.
func TestDetachConnStateMayUseTheSession(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 300_000)
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetachServer(t, tr, sse.Config{}, hijackHook(func(s *sse.ServerSession) {
			testkit.NoError(t, s.SendData("1"))
			testkit.NoError(t, s.Heartbeat(sse.Heartbeat{Period: time.Hour}))
			testkit.NoError(t, s.SendData(large))
			_ = s.Header()
			engine.Of(s).MayBlock()
			engine.Of(s).Detach()
		}))
		got := make(chan string, 1)
		w := tr.ask(t, d.srv, plainRequest)
		w.head()
		go func() {
			frames, err := readFrames(w)
			testkit.NoError(t, err)
			got <- frames
		}()
		s := testkit.Receive(t, d.sessions)
		require.NoError(t, s.SendData("2"))
		s.Close()
		want := openFrame + "data: 1\n\n: heartbeat\n\ndata: " + large + "\n\ndata: 2\n\n"
		if frames := testkit.Receive(t, got); frames != want {
			require.Equal(t, excerpt(want), excerpt(frames))
		}
		e := d.ended(s)
		require.Equal(t, sse.EndClosed, e.Reason)
		require.EqualValues(t, 4, e.Events)
		require.EqualValues(t, len(want), e.Bytes)
	})
}

// What is sent while the hook runs is bounded.
func TestDetachConnStateThatSendsTooMuch(t *testing.T) {
	t.Parallel()
	var last error
	d := newDetachServer(t, overTCP, sse.Config{}, hijackHook(func(s *sse.ServerSession) {
		for range 100 {
			if last = s.SendData(strings.Repeat("x", 100_000)); last != nil {
				return
			}
		}
	}))
	w := overTCP.ask(t, d.srv, plainRequest)
	w.head()
	frames, err := readFrames(w)
	require.Error(t, err, "it is a broken end")
	s := testkit.Receive(t, d.sessions)
	require.ErrorContains(t, last, "http.Server.ConnState")
	require.Equal(t, 10, strings.Count(frames, "data: x"), "what Send has accepted")
	require.Equal(t, sse.EndWriteError, d.ended(s).Reason)
}

// An end that comes while the session detaches ends it, at once and in every kind.
func TestDetachConnStateMayEndTheSession(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		end    func(s *sse.ServerSession)
		reason sse.EndReason
	}{
		"Close": {func(s *sse.ServerSession) { s.Close() }, sse.EndClosed},
		"End":   {func(s *sse.ServerSession) { engine.Of(s).End(sse.ErrSlow) }, sse.EndSlow},
		"Seal and cut off": {func(s *sse.ServerSession) {
			engine.Of(s).Seal(errOwn)
			testkit.ErrorIs(t, s.SendData("too late"), errOwn)
			engine.Of(s).End(sse.ErrClosed)
			engine.Of(s).Interrupt()
		}, sse.EndClosed},
	} {
		overEachNamed(t, name, func(t *testing.T, tr transport) {
			t.Helper()
			d := newDetachServer(t, tr, sse.Config{}, hijackHook(tt.end))
			s, w := d.connectReturned()
			frames, err := readFrames(w)
			require.NoError(t, err)
			require.Empty(t, frames)
			require.Equal(t, tt.reason, d.ended(s).Reason)
		})
	}
}

// An interruption that comes while the session detaches counts for what was sent meanwhile.
func TestDetachInterruptedByConnState(t *testing.T) {
	t.Parallel()
	d := newDetachServer(t, overConn, sse.Config{WriteTimeout: time.Hour}, hijackHook(func(s *sse.ServerSession) {
		testkit.NoError(t, s.SendData(strings.Repeat("x", 64<<20)))
		engine.Of(s).End(sse.ErrSlow)
		engine.Of(s).Interrupt()
	}))
	s, _ := d.connect() // and does not read
	require.Equal(t, sse.EndSlow, d.ended(s).Reason)
}

// takenServer returns a server whose sessions are opened by the OpenDelay, and then get their
// connection from net/http while the handler runs. ConnState calls hook meanwhile.
func takenServer(t *testing.T, hook func(), handler func() error) (*httptest.Server, <-chan sse.End) {
	t.Helper()
	cfg := sse.Config{OpenDelay: time.Millisecond, Logger: testkit.NewLog().Logger()}
	ends := endsOf(&cfg)
	r := newRouter(cfg)
	r.SSE("/", func(s *sse.ServerSession) error {
		engine.Of(s).WillDetach()
		return handler()
	})
	srv := serve(t, r, func(srv *httptest.Server) {
		srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateHijacked {
				hook()
			}
		}
	})
	return srv, ends
}

// A handler may return while another goroutine, which opens the session, takes its connection
// from net/http. The session has it all the same, and closes it.
func TestHandlerThatReturnsWhileItsConnectionIsTaken(t *testing.T) {
	t.Parallel()
	hijacked, goOn := make(chan struct{}), make(chan struct{})
	srv, ends := takenServer(t, func() { close(hijacked); <-goOn }, func() error { <-hijacked; return nil })
	w := overTCP.ask(t, srv, plainRequest)
	w.head()
	time.AfterFunc(50*time.Millisecond, func() { close(goOn) })
	frames, err := readFrames(w)
	require.NoError(t, err)
	require.Equal(t, ": open\n\n", frames)
	require.Equal(t, sse.EndReturned, testkit.Receive(t, ends).Reason)
}

func TestConnStateThatPanicsEndsTheSession(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	srv, ends := takenServer(t, func() { panic(errOwn) }, func() error { <-done; return nil })
	overTCP.ask(t, srv, plainRequest)
	time.AfterFunc(50*time.Millisecond, func() { close(done) })
	e := testkit.Receive(t, ends)
	require.Equal(t, sse.EndPanic, e.Reason)
	var p *sse.PanicError
	require.ErrorAs(t, e.Err, &p)
	require.Equal(t, errOwn, p.Value)
}
