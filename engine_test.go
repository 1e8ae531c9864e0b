package sse_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestDetachClientThatPauses(t *testing.T) {
	t.Parallel()
	if overTCP.mayBlock() {
		t.Skip("writes block here")
	}
	for name, tt := range map[string]struct {
		// then is called when a write is pending. It returns what it sends to the client in
		// addition, and the number of events in that. It calls reads once, which makes the
		// client read; with wait, reads returns after the client has read nearly everything
		// that was sent before.
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
				require.FailNow(t, "Send did not wait for the pending write")
			case <-time.After(50 * time.Millisecond):
			}
			reads(false)
			require.NoError(t, testkit.Receive(t, sent))
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
				require.NoError(t, testkit.Receive(t, results))
			}
			return strings.Repeat(chunk("data: later\n\n"), 8), 8
		}},
		"more of the hub": {func(t *testing.T, s *detached, reads func(wait bool)) (string, int) {
			t.Helper()
			f := framesOf("a", "b")
			for range 2 {
				pending, err := s.hub.TryWrite(f)
				require.NoError(t, err)
				require.True(t, pending, "it must wait for the pending write")
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
			require.True(t, pending, "it must wait for the pending write")
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
			d := newDetachServer(t, overTCP, sse.Config{WriteTimeout: time.Hour, OnSend: func(_ *sse.ServerSession, s sse.Sent) {
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
				if wait { // at most the last event is still pending
					testkit.Eventually(t, func() bool { return count.Load() >= int64(len(want)-11_000) }, "the client to read what is not pending")
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
			got := string(testkit.Receive(t, read))
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

// noHijack is a writer of a middleware that does not implement http.Hijacker.
type noHijack struct {
	http.ResponseWriter
	err error
}

func (w *noHijack) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// failingHijack is a writer whose Hijack fails.
type failingHijack struct{ noHijack }

func (w *failingHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errOwn }

func TestDetachRefuses(t *testing.T) {
	t.Parallel()
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
		"HTTP/2":           {testkit.HTTP2.Setup, nil, "HTTP/2.0"},
		"h2c":              {testkit.H2C.Setup, nil, "HTTP/2.0"},
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
				assert.False(t, e.Attach(h), "the session has an owner already")
				testkit.NoError(t, s.SendData("open"))
				for range 3 {
					assert.False(t, e.Detach())
				}
				assert.True(t, e.MayBlock())
				pending, err := e.TryWrite(framesOf("a", "b"))
				testkit.NoError(t, err)
				assert.False(t, pending)
				testkit.NoError(t, s.Heartbeat(sse.Heartbeat{}))
				assert.EqualValues(t, 1, h.begun.Load())
				e.Release()
				testkit.NoError(t, s.Heartbeat(sse.Heartbeat{}))
				assert.EqualValues(t, 1, h.begun.Load(), "the session has no owner any longer")
				assert.True(t, e.Attach(h))
				select {
				case <-goOn:
				case <-s.Done():
				}
				assert.Equal(t, "text/event-stream", s.Header().Get("Content-Type"))
				e.End(sse.ErrSlow)
				<-s.Done()
				assert.Empty(t, h.ended, "the owner is told only of the end of a detached session")
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
			c := connect(t, srv, "/")
			require.Equal(t, tt.proto, c.Proto)
			for _, data := range []string{"open", "a", "b"} {
				require.Equal(t, data, c.nextData())
			}
			require.Equal(t, "heartbeat", c.next().Comment)
			require.Equal(t, "heartbeat", c.next().Comment)
			close(goOn)
			c.end()
			e := testkit.Receive(t, ends)
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
			testkit.NoError(t, s.SendData("x"))
			testkit.NoError(t, s.Close())
			assert.False(t, engine.Of(s).Detach())
			sessions <- s
			return nil
		})
		a := get(t, serve(t, r), "/")
		require.NoError(t, a.Err)
		require.Equal(t, "data: x\n\n", a.Body)
		s := testkit.Receive(t, sessions)
		testkit.Eventually(t, func() bool { return r.Plugin().Len() == 0 }, "the end of the session")
		require.False(t, engine.Of(s).Detach(), "the handler has returned")
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		d := newDetachServer(t, overTCP, sse.Config{}, func(d *detachServer) {
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
			s.Header().Set("Connection", "close") // otherwise the connection would stay with net/http
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
			e := testkit.Receive(t, ends)
			require.Contains(t, []sse.EndReason{sse.EndClientGone, sse.EndReturned}, e.Reason)
		}
		require.Positive(t, detached.Load())
	})
	t.Run("without a connection", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			testkit.NoError(t, s.SendData("open"))
			assert.False(t, engine.Of(s).Detach())
			return s.SendData("more")
		})
		require.Equal(t, "data: open\n\ndata: more\n\n", record(r, http.MethodGet, "/").Body.String())
	})
}

// After Seal, only the hub can write, until it ends the session.
func TestSeal(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetachServer(t, tr, sse.Config{})
		s, w := d.connectReturned()
		s.hub.Seal(errOwn)
		s.hub.Seal(sse.ErrSlow) // has no effect
		for _, send := range []func() error{
			func() error { return s.SendData("x") },
			func() error { return s.Comment("x") },
			s.Open,
			func() error { return s.Heartbeat(sse.Heartbeat{Period: time.Hour}) },
		} {
			err := send()
			require.ErrorIs(t, err, sse.ErrClosed)
			require.ErrorIs(t, err, errOwn)
		}
		require.NoError(t, s.Context().Err(), "the session has not ended yet")
		pending, err := s.hub.TryWrite(framesOf("last"))
		require.NoError(t, err)
		require.False(t, pending)
		require.Equal(t, time.Second, s.hub.Grace())
		s.hub.End(sse.ErrSlow)
		_, err = s.hub.TryWrite(framesOf("too late"))
		require.ErrorIs(t, err, sse.ErrSlow)
		require.ErrorIs(t, s.SendData("x"), sse.ErrSlow)
		w.expect(chunk("data: last\n\n"))
		require.Equal(t, lastChunk, w.rest())
		d.ended(s)
	})
}

// Shutdown leaves a session to the hub that serves it, but not for longer than its context
// allows.
func TestShutdownAndAHubThatDoesNotEndItsSession(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetachServer(t, tr, sse.Config{})
		asked := make(chan error, 10)
		setup := func(h *stubHub) {
			h.endSoon = func(cause error) bool {
				asked <- cause
				return true
			}
		}
		late, w1 := d.connectReturned()
		setup(late.owner)
		good, w2 := d.connectReturned()
		setup(good.owner)
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		down := make(chan error, 1)
		go func() { down <- d.Plugin().Shutdown(ctx) }()
		for range 2 {
			require.Equal(t, sse.ErrShutdown, testkit.Receive(t, asked))
		}
		time.Sleep(1200 * time.Millisecond) // longer than the bound of an ordinary session
		require.NoError(t, good.SendData("last"))
		good.hub.End(sse.ErrShutdown)
		w2.expect(chunk("data: last\n\n"))
		require.Contains(t, w2.rest(), "retry: ")
		require.NoError(t, late.Context().Err())
		if err := testkit.Receive(t, down); err != nil { // nil if the session ends in the moment in which it is cut off
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.Contains(t, w1.rest(), "retry: ")
		for range 2 {
			require.Equal(t, sse.EndShutdown, testkit.Receive(t, d.ends).Reason)
		}
		require.Empty(t, asked)
	})
}
