package sse_test

// Clients that read slowly, or not at all, from a detached session.

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// Events that the client has not taken yet are sent before the session ends.
func TestDetachEndWithAWritePending(t *testing.T) {
	t.Parallel()
	if overTCP.mayBlock() {
		t.Skip("writes block here")
	}
	for name, end := range map[string]func(d *detachServer, s *detached){
		"Close":    func(_ *detachServer, s *detached) { s.Close() },
		"slow":     func(_ *detachServer, s *detached) { s.hub.End(sse.ErrSlow) },
		"shutdown": func(d *detachServer, _ *detached) { go func() { _ = d.Plugin().Shutdown(context.Background()) }() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told atomic.Int64
			d := newDetachServer(t, overTCP, sse.Config{WriteTimeout: time.Hour, ShutdownSpread: 1, OnSend: func(_ *sse.ServerSession, s sse.Sent) {
				testkit.NoError(t, s.Err)
				told.Add(int64(s.Bytes))
			}})
			s, w := d.connectReturned()
			want, events := s.fill(t)
			end(d, s)
			testkit.Receive(t, s.Done())
			w.expect(want)
			rest := w.rest()
			require.True(t, strings.HasSuffix(rest, lastChunk), rest)
			require.Equal(t, name == "shutdown", strings.Contains(rest, "retry: "))
			e := d.ended(s)
			require.EqualValues(t, 1+events, e.Events, "every event that the client was sent counts")
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

// A client that is too slow at the end gets less of the stream, but no wrong bytes.
func TestDetachSlowClientAtTheEnd(t *testing.T) {
	t.Parallel()
	if overTCP.mayBlock() {
		t.Skip("writes block here")
	}
	for name, end := range map[string]func(d *detachServer, s *detached){
		"Close":    func(_ *detachServer, s *detached) { s.Close() },
		"shutdown": func(d *detachServer, _ *detached) { go func() { _ = d.Plugin().Shutdown(context.Background()) }() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDetachServer(t, overTCP, sse.Config{WriteTimeout: 200 * time.Millisecond, ShutdownSpread: 1, Heartbeat: sse.Heartbeat{Period: -1}})
			s, w := d.connectReturned()
			var data []byte
			for i := range uint32(1 << 20) {
				data = hex.AppendEncode(data, binary.BigEndian.AppendUint32(nil, i)) // no two parts are alike
			}
			pending, err := s.hub.TryWrite(framesOf(string(data)))
			require.NoError(t, err)
			require.True(t, pending)
			end(d, s)
			// The client takes a little at a time, until the server closes the connection.
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
			want := chunk("data: " + string(data) + "\n\n")
			require.Less(t, got.Len(), len(want))
			require.True(t, strings.HasPrefix(want, got.String()), "bytes are repeated or missing")
			require.EqualValues(t, 1, d.ended(s).Events)
		})
	}
}

// A session that ends in order, but in the middle of an event, must not look complete.
func TestDetachHalfAnEventIsNoEnd(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetachServer(t, tr, sse.Config{WriteTimeout: time.Hour})
		s, w := d.connectReturned()
		data := strings.Repeat("x", 8<<20)
		failed := make(chan error, 1)
		go func() { failed <- s.SendData(data) }()
		want := chunk("data: " + data + "\n\n")
		w.expect(want[:50_000]) // the write is under way
		require.NoError(t, s.Close())
		s.hub.Interrupt()
		require.ErrorIs(t, testkit.Receive(t, failed), os.ErrDeadlineExceeded)
		rest := w.rest()
		require.True(t, strings.HasPrefix(want[50_000:], rest), "unexpected bytes")
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
					d := newDetachServer(t, tr, sse.Config{WriteTimeout: timeout})
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
					logged := d.logs.Entries("session ended")
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
	testkit.GoroutinesBackTo(t, before)
}

// The timeout of one write must not affect the writes after it.
func TestDetachWriteTimeoutIsOfEachWrite(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		const timeout = 500 * time.Millisecond
		d := newDetachServer(t, tr, sse.Config{WriteTimeout: timeout})
		s, w := d.connectReturned()
		for range 2 {
			data := strings.Repeat("x", 256<<10) // so large that the write waits for the client
			sent := make(chan error, 1)
			go func() { sent <- s.SendData(data) }()
			w.expect(chunk("data: " + data + "\n\n"))
			require.NoError(t, testkit.Receive(t, sent))
			time.Sleep(timeout + timeout/10) // a deadline that was not cleared would have passed
			pending, err := s.hub.TryWrite(framesOf("x"))
			require.NoError(t, err)
			require.False(t, pending)
			w.expect(chunk("data: x\n\n"))
		}
		require.NoError(t, s.Context().Err())
	})
}
