package sse_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// A hook that is called for the opening is called for the end, and the other way
// around, whatever happens at the opening write.
func TestSessionOpenedSaysWhetherOnOpenWasCalled(t *testing.T) {
	t.Parallel()
	var opens int
	var end sse.End
	r := newRouter(sse.Config{
		OnOpen:  func(*sse.ServerSession) { opens++ },
		OnClose: func(_ *sse.ServerSession, e sse.End) { end = e },
	})
	r.Use(failingWrites)
	r.SSE("/", func(s *sse.ServerSession) error { return s.SendData("x") })
	require.Panics(t, func() { record(r, "GET", "/") })
	require.Equal(t, sse.EndWriteError, end.Reason)
	require.Equal(t, end.Opened, opens == 1, "opened %v, OnOpen called %d times", end.Opened, opens)
}

// Whoever keeps a list of sessions by the hooks must not be told of an opening, or
// of a send, when it has struck the session off.
func TestSessionOnCloseIsTheLastHook(t *testing.T) {
	t.Parallel()
	type calls struct{ closed atomic.Bool }
	var all sync.Map // session -> *calls
	of := func(s *sse.ServerSession) *calls {
		c, _ := all.LoadOrStore(s, new(calls))
		return c.(*calls)
	}
	var late atomic.Int64
	hook := func(s *sse.ServerSession) {
		if of(s).closed.Load() {
			late.Add(1)
		}
	}
	r := newRouter(sse.Config{
		OnOpen:  hook,
		OnSend:  func(s *sse.ServerSession, _ sse.Sent) { hook(s) },
		OnClose: func(s *sse.ServerSession, _ sse.End) { of(s).closed.Store(true) },
	})
	var openers sync.WaitGroup
	r.SSE("/", func(s *sse.ServerSession) error {
		started := make(chan struct{})
		openers.Go(func() {
			close(started)
			_ = s.Open()
		})
		<-started
		return nil
	})
	for range 3000 {
		record(r, http.MethodGet, "/")
	}
	openers.Wait()
	require.Zero(t, late.Load(), "a hook was called after OnClose")
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
				testkit.ErrorIs(t, s.SendData("x"), sse.ErrClosed, "it can be called")
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
		testkit.Receive(t, sent)
		for name, write := range map[string]func() error{
			"TryWrite": func() error { _, err := s.hub.TryWrite(framesOf("x")); return err },
			"Send":     func() error { return s.SendData("x") },
		} {
			time.Sleep(20 * time.Millisecond)
			began := time.Now()
			require.NoError(t, write())
			require.LessOrEqual(t, testkit.Receive(t, sent).Duration, time.Since(began), name)
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
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
			defer cancel()
			require.NoError(t, d.Plugin().Shutdown(ctx))
			require.Zero(t, d.Plugin().Len())
			require.Regexp(t, `^d\r\nretry: \d{4}\n\n\r\n0\r\n\r\n$`, w.rest())
			if tt.reason != 0 {
				require.Equal(t, tt.reason, testkit.Receive(t, d.ends).Reason)
			}
			testkit.Eventually(t, func() bool { return len(d.book.Entries(errOwn.Error())) == 1 }, "a word of it in the log")
			require.Equal(t, slog.LevelError, d.book.Entries(errOwn.Error())[0].Level)
		})
	}
}
