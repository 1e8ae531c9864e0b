package sse_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// failingWrites is a middleware after which writes of certain data fail.
func failingWrites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&failingWriter{w}, r)
	})
}

// failingWriter fails to write "data: x" and "data: fail".
type failingWriter struct{ http.ResponseWriter }

func (w *failingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *failingWriter) Flush() {}

func (w *failingWriter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "data: fail") || strings.Contains(string(p), "data: x") {
		return 0, errOwn
	}
	n, err := w.ResponseWriter.Write(p)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	return n, err
}

// Every reason for an end, with what OnClose, OnSend and the log report of it.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	const x = "data: x\n\n"
	twice := func(s *sse.ServerSession) error {
		return errors.Join(s.SendData("x"), s.Comment("hi"), s.SendData("x"))
	}
	for _, tt := range []struct {
		reason  sse.EndReason
		text    string
		level   slog.Level
		opened  bool
		events  int64
		bytes   int64
		err     error
		handler sse.Handler
		client  func(s *stream, r *sse.Router)
	}{
		{
			sse.EndReturned, "handler returned", slog.LevelDebug, true, 3, int64(len(x + ": hi\n\n" + x)), nil,
			twice, nil,
		},
		{
			sse.EndReturned, "handler returned", slog.LevelDebug, false, 0, 0, nil,
			func(*sse.ServerSession) error { return nil }, nil,
		},
		{
			sse.EndReturned, "handler returned", slog.LevelDebug, true, 0, int64(len(": open\n\n" + ": heartbeat\n\n")), nil,
			func(s *sse.ServerSession) error { time.Sleep(20 * time.Second); return nil }, nil,
		},
		{
			sse.EndClosed, "closed", slog.LevelDebug, true, 3, int64(len(x + ": hi\n\n" + x)), nil,
			func(s *sse.ServerSession) error { return errors.Join(twice(s), s.Close()) }, nil,
		},
		{
			sse.EndClientGone, "client gone", slog.LevelDebug, true, 1, int64(len(x)), nil,
			func(s *sse.ServerSession) error {
				if err := s.SendData("x"); err != nil {
					return err
				}
				<-s.Done()
				return s.SendData("x")
			}, func(s *stream, _ *sse.Router) { s.next(); s.leave() },
		},
		{
			sse.EndCanceled, "request canceled", slog.LevelDebug, true, 1, int64(len(x)), errOwn,
			func(s *sse.ServerSession) error {
				if err := s.SendData("x"); err != nil {
					return err
				}
				cancelCall(s, errOwn)
				<-s.Done()
				return nil
			}, nil,
		},
		{
			sse.EndShutdown, "shutdown", slog.LevelDebug, true, 1, int64(len(x)), nil,
			func(s *sse.ServerSession) error {
				if err := s.SendData("x"); err != nil {
					return err
				}
				<-s.Done()
				return s.SendData("x")
			}, func(s *stream, r *sse.Router) { s.next(); assert.NoError(s.t, r.Plugin().Shutdown(s.t.Context())) },
		},
		{
			sse.EndStatus, "status", slog.LevelDebug, false, 0, 0, errOwn,
			func(*sse.ServerSession) error { return sse.Error(404, errOwn) }, nil,
		},
		{
			sse.EndWriteTimeout, "write timeout", slog.LevelWarn, true, 1, int64(len(x)), sse.ErrWriteTimeout,
			func(s *sse.ServerSession) error {
				if err := s.SendData("x"); err != nil {
					return err
				}
				return s.SendData("x")
			}, func(s *stream, _ *sse.Router) { s.next(); time.Sleep(time.Minute) },
		},
		{
			sse.EndWriteError, "write error", slog.LevelInfo, true, 1, int64(len("data: y\n\n")), errOwn,
			func(s *sse.ServerSession) error { return errors.Join(s.SendData("y"), s.SendData("fail")) }, nil,
		},
		{
			sse.EndHandlerError, "handler error", slog.LevelError, true, 3, int64(len(x + ": hi\n\n" + x)), errOwn,
			func(s *sse.ServerSession) error { return errors.Join(twice(s), errOwn) }, nil,
		},
		{
			sse.EndHandlerError, "handler error", slog.LevelError, false, 0, 0, errOwn,
			func(*sse.ServerSession) error { return errOwn }, nil,
		},
		{
			sse.EndPanic, "panic", slog.LevelError, true, 3, int64(len(x + ": hi\n\n" + x)), nil,
			func(s *sse.ServerSession) error { _ = twice(s); panic("in the handler") }, nil,
		},
	} {
		t.Run(fmt.Sprint(tt.text, " opened ", tt.opened), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var calls []string
				var sent int64
				call := func(name string) {
					mu.Lock()
					defer mu.Unlock()
					if len(calls) == 0 || calls[len(calls)-1] != name {
						calls = append(calls, name)
					}
				}
				var session atomic.Pointer[sse.ServerSession]
				ends := make(chan sse.End, 1)
				logs := testkit.NewLog()
				r := newRouter(sse.Config{
					Logger:         logs.Logger(),
					ShutdownSpread: -1, // without a farewell, whose bytes would count
					OnOpen:         func(s *sse.ServerSession) { call("open"); assert.Same(t, session.Load(), s) },
					OnSend: func(s *sse.ServerSession, e sse.Sent) {
						call("send")
						assert.Same(t, session.Load(), s)
						if e.Err == nil {
							mu.Lock()
							sent += int64(e.Bytes)
							mu.Unlock()
						}
					},
					OnClose: func(s *sse.ServerSession, e sse.End) {
						call("close")
						assert.Same(t, session.Load(), s)
						assert.ErrorIs(t, s.SendData("y"), sse.ErrClosed, "Send fails in OnClose")
						ends <- e
					},
				})
				r.Use(cancelable)
				if tt.reason == sse.EndWriteError {
					r.Use(failingWrites)
				}
				var took time.Duration
				r.SSE("/rooms/{id}", func(s *sse.ServerSession) error {
					session.Store(s)
					began := time.Now()
					defer func() { took = time.Since(began) }()
					return tt.handler(s)
				})
				p := servePipe(t, r)
				conn := p.dial("/rooms/7")
				if tt.client == nil {
					go io.Copy(io.Discard, conn) //nolint:errcheck // it reads what there is
				} else {
					tt.client(p.read(conn), r)
				}
				e := <-ends
				synctest.Wait()

				require.Equal(t, tt.reason, e.Reason)
				require.Equal(t, tt.text, e.Reason.String())
				require.Equal(t, tt.opened, e.Opened)
				require.Equal(t, tt.events, e.Events)
				require.Equal(t, tt.bytes, e.Bytes)
				require.Equal(t, took, e.Duration)
				require.Equal(t, e.Bytes, sent, "the bytes that OnSend reported")
				switch {
				case tt.reason == sse.EndPanic:
					var p *sse.PanicError
					require.ErrorAs(t, e.Err, &p)
					require.Equal(t, "in the handler", p.Value)
				case tt.err == nil:
					require.NoError(t, e.Err)
				default:
					require.ErrorIs(t, e.Err, tt.err)
				}
				if tt.opened {
					require.Equal(t, []string{"open", "send", "close"}, calls)
				} else {
					require.Equal(t, []string{"close"}, calls)
				}
				require.Empty(t, ends, "OnClose was called twice")

				logged := logs.Entries("session ended")
				require.Len(t, logged, 1)
				require.Equal(t, tt.level, logged[0].Level)
				require.Equal(t, "pipe", logged[0].Attrs["remote"].String())
				require.Equal(t, e.LogValue().Group(), logged[0].Attrs["end"].Group())
				if stack, ok := logged[0].Attrs["stack"]; tt.reason == sse.EndPanic {
					require.Contains(t, stack.String(), "TestSessionEnds")
				} else {
					require.False(t, ok)
				}
				require.Len(t, logs.Entries(""), 1, "nothing else is logged")
			})
		})
	}
}

func TestEndLogValue(t *testing.T) {
	t.Parallel()
	e := sse.End{Reason: sse.EndClientGone, Opened: true, Duration: 3 * time.Second, Events: 2, Bytes: 42}
	require.Equal(t, []slog.Attr{
		slog.String("reason", "client gone"),
		slog.Bool("opened", true),
		slog.Duration("duration", 3*time.Second),
		slog.Int64("events", 2),
		slog.Int64("bytes", 42),
	}, e.LogValue().Group())
	e.Err = errOwn
	require.Equal(t, slog.Any("error", errOwn), e.LogValue().Group()[5])

	var text strings.Builder
	slog.New(slog.NewTextHandler(&text, nil)).Info("it", "end", e)
	require.Contains(t, text.String(), `end.reason="client gone" end.opened=true end.duration=3s end.events=2 end.bytes=42 end.error="an error of the handler"`)

	require.Equal(t, "EndReason(0)", sse.EndReason(0).String())
	require.Equal(t, "EndReason(200)", sse.EndReason(200).String())
}

// A handler panics with http.ErrAbortHandler to abort a response without a log entry of an
// error.
func TestSessionQuietAbort(t *testing.T) {
	t.Parallel()
	logs := testkit.NewLog()
	r := newRouter(sse.Config{Logger: logs.Logger()})
	r.SSE("/", func(s *sse.ServerSession) error {
		_ = s.SendData("x")
		panic(http.ErrAbortHandler)
	})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { record(r, http.MethodGet, "/") })
	logged := logs.Entries("session ended")
	require.Len(t, logged, 1)
	require.Equal(t, slog.LevelDebug, logged[0].Level)
	require.NotContains(t, logged[0].Text, "goroutine")
}
