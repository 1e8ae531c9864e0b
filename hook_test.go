package sse_test

// OnOpen, OnSend and OnClose: when they are called, and what happens if one panics.

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

// End.Opened says whether OnOpen was called, even if the write that opens the session fails.
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

// An application may keep a list of its sessions with the hooks. After OnClose has removed a
// session, neither OnOpen nor OnSend may be called for it.
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
	overEach(t, func(t *testing.T, tr transport) {
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
		d := newDetachServer(t, tr, sse.Config{
			OnOpen: func(*sse.ServerSession) { note("open") },
			OnSend: func(_ *sse.ServerSession, s sse.Sent) {
				note("send %d %t %v", s.Bytes, s.Heartbeat, s.Err)
				mu.Lock()
				defer mu.Unlock()
				sum += int64(s.Bytes)
			},
			OnClose: func(s *sse.ServerSession, e sse.End) {
				testkit.ErrorIs(t, s.SendData("x"), sse.ErrClosed, "Send can be called in OnClose, and fails")
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

// Sent.Duration is the time of the write alone, without the idle time before it.
func TestDetachDurationOfAWrite(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		sent := make(chan sse.Sent, 10)
		d := newDetachServer(t, tr, sse.Config{OnSend: func(_ *sse.ServerSession, s sse.Sent) { sent <- s }})
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

// As TestSessionOnCloseIsTheLastHook, for detached sessions: after OnClose, OnSend may not be
// called for a session.
func TestDetachOnCloseIsTheLastHook(t *testing.T) {
	t.Parallel()
	var late, lateClose atomic.Int64
	var closed sync.Map
	d := newDetachServer(t, overTCP, sse.Config{
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

// When a detached session ends, no handler is running that a panic of a hook could end. Such
// a panic must not end the process, and the plugin must still remove the session.
func TestDetachHookThatPanics(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg    sse.Config
		ended  func(error)
		reason sse.EndReason // 0: OnClose itself panics
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
			d := newDetachServer(t, overTCP, tt.cfg)
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
			testkit.Eventually(t, func() bool { return len(d.logs.Entries(errOwn.Error())) == 1 }, "the panic in the log")
			require.Equal(t, slog.LevelError, d.logs.Entries(errOwn.Error())[0].Level)
		})
	}
}
