package sse_test

// Clients that leave a detached session, or send what a client should not.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// waysToLeave are the ways in which a client can end its side of a connection.
var waysToLeave = []struct {
	name  string
	of    func(tr transport) bool // whether it is possible over tr; nil: always
	leave func(w *rawClient) error
}{
	{"FIN", nil, func(w *rawClient) error { return w.tcp.Close() }},
	{"RST", nil, func(w *rawClient) error { return errors.Join(w.tcp.SetLinger(0), w.tcp.Close()) }},
	{"half-close", nil, func(w *rawClient) error { return w.tcp.CloseWrite() }},
	{"close_notify", func(tr transport) bool { return tr.tls }, func(w *rawClient) error { return w.Conn.(*tls.Conn).CloseWrite() }},
	{"close_notify and FIN", func(tr transport) bool { return tr.tls }, func(w *rawClient) error { return w.Conn.Close() }},
	{"garbage before", nil, func(w *rawClient) error {
		_, err := io.WriteString(w.Conn, strings.Repeat("\x00garbage\r\n\r\n", 100))
		return errors.Join(err, w.tcp.CloseWrite())
	}},
	{"a pipelined request before", nil, func(w *rawClient) error {
		_, err := io.WriteString(w.Conn, plainRequest)
		return errors.Join(err, w.tcp.Close())
	}},
}

func TestDetachClientLeaves(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("all", func(t *testing.T) {
		for _, tr := range transports {
			for _, how := range waysToLeave {
				if how.of != nil && !how.of(tr) {
					continue
				}
				t.Run(how.name+" over "+tr.name, func(t *testing.T) {
					t.Parallel()
					d := newDetachServer(t, tr, sse.Config{WriteTimeout: time.Hour, Heartbeat: sse.Heartbeat{Period: -1}})
					s, w := d.connectReturned()
					other, otherWire := d.connectReturned()
					require.NoError(t, how.leave(w))
					e := d.ended(s)
					require.Equal(t, sse.EndClientGone, e.Reason)
					require.NoError(t, e.Err)
					require.Equal(t, sse.ErrClientGone, context.Cause(s.Context()))
					require.ErrorIs(t, s.SendData("x"), sse.ErrClientGone)
					require.Equal(t, 1, d.Plugin().Len())
					logged := d.logs.Entries("session ended")
					require.Len(t, logged, 1)
					require.Equal(t, slog.LevelDebug, logged[0].Level)
					require.NoError(t, other.SendData("still here"))
					otherWire.expect(chunk("data: still here\n\n"))
					require.Empty(t, d.sessions, "a second request was served")
				})
			}
		}
	})
	testkit.GoroutinesBackTo(t, before)
}

// The client leaves in the middle of a write. The session ends although the write timeout is
// an hour.
func TestDetachClientLeavesWhileItIsWrittenTo(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		for _, how := range waysToLeave[:3] {
			t.Run(how.name, func(t *testing.T) {
				t.Parallel()
				d := newDetachServer(t, tr, sse.Config{WriteTimeout: time.Hour})
				s, w := d.connectReturned()
				failed := make(chan error, 1)
				go func() { failed <- s.SendData(strings.Repeat("x", 8<<20)) }()
				_, err := io.ReadFull(w.r, make([]byte, 50_000)) // the write is under way
				require.NoError(t, err)
				require.NoError(t, how.leave(w))
				require.Error(t, testkit.Receive(t, failed))
				e := d.ended(s)
				require.Equal(t, sse.EndClientGone, e.Reason)
			})
		}
	})
}

// The server ignores everything that a client sends after its request.
func TestDetachClientThatTalks(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetachServer(t, tr, sse.Config{})
		w := tr.ask(t, d.srv, plainRequest+plainRequest)
		w.head()
		w.expect(chunk(openFrame))
		s := testkit.Receive(t, d.sessions)
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

// Many clients leave at the same time.
func TestDetachAllLeaveAtOnce(t *testing.T) {
	t.Parallel()
	const n = 300
	d := newDetachServer(t, overTCP, sse.Config{Heartbeat: sse.Heartbeat{Period: -1}})
	var clients []*rawClient
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
		require.Equal(t, sse.EndClientGone, testkit.Receive(t, d.ends).Reason)
	}
	require.Zero(t, d.Plugin().Len())
}
