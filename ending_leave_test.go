package sse_test

// Clients that leave an ordinary session.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestSessionIsEndedByTheClientsLeaving(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			ends := endsOf(&cfg)
			causes := make(chan error, 3)
			r := newRouter(cfg)
			r.Use(middleware.Timeout(time.Hour)) // a context between net/http's and the session's
			h := func(s *sse.ServerSession) error {
				if err := s.SendData("x"); err != nil {
					return err
				}
				<-s.Done()
				causes <- context.Cause(s.Context())
				err := s.SendData("y")
				testkit.ErrorIs(t, err, sse.ErrClosed)
				assert.ErrorIs(t, err, sse.ErrClientGone)
				return err
			}
			r.SSE("/path", h)
			r.Handle("/handler", r.SSEHandler(h))
			r.Get("/function", r.SSEHandler(h).ServeHTTP)
			srv := serve(t, r, proto.Setup)
			for _, path := range []string{"/path", "/handler", "/function"} {
				s := connect(t, srv, path)
				require.Equal(t, "x", s.next().Data)
				s.leave()
				require.ErrorIs(t, testkit.Receive(t, causes), sse.ErrClientGone)
				e := testkit.Receive(t, ends)
				require.Equal(t, sse.EndClientGone, e.Reason)
				require.NoError(t, e.Err)
				require.True(t, e.Opened)
				require.EqualValues(t, 1, e.Events)
				require.EqualValues(t, len("data: x\n\n"), e.Bytes)
			}
		})
	}
}

func TestSessionEndsForAClientThatLeavesBeforeItOpens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cfg sse.Config
		ends := endsOf(&cfg)
		cfg.OpenDelay = -1
		cfg.OnOpen = func(*sse.ServerSession) { assert.Fail(t, "opened") }
		r := newRouter(cfg)
		r.SSE("/", func(s *sse.ServerSession) error {
			<-s.Done()
			return s.SendData("nobody there")
		})
		conn := servePipe(t, r).dial("/")
		synctest.Wait()
		require.Equal(t, 1, r.Plugin().Len())
		conn.Close()
		e := testkit.Receive(t, ends)
		require.Equal(t, sse.EndClientGone, e.Reason)
		require.False(t, e.Opened)
	})
}

// A write that fails because the client has left must not report a timeout.
func TestSessionWriteUnderWaySaysThatTheClientIsGone(t *testing.T) {
	t.Parallel()
	var cfg sse.Config
	ends := endsOf(&cfg)
	results := make(chan error, 1)
	r := newRouter(cfg)
	r.SSE("/", func(s *sse.ServerSession) error {
		results <- s.SendData(strings.Repeat("x", 16<<20))
		return nil
	})
	conn := dialRaw(t, serve(t, r, smallSendBuffer), "/")
	_, err := io.ReadFull(conn, make([]byte, 1<<10)) // the head and some data: the write is under way
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	err = testkit.Receive(t, results)
	require.Equal(t, sse.EndClientGone, testkit.Receive(t, ends).Reason)
	require.Error(t, err)
	require.NotErrorIs(t, err, sse.ErrWriteTimeout)
}

func TestSessionClientThatVanishes(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("all", func(t *testing.T) {
		for how, vanish := range map[string]func(*net.TCPConn) error{
			"RST":       func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
			"FIN":       func(c *net.TCPConn) error { return c.Close() },
			"half-FIN":  func(c *net.TCPConn) error { return c.CloseWrite() },
			"after all": nil, // nil: the server closes the connection
		} {
			for _, busy := range []bool{false, true} {
				t.Run(fmt.Sprint(how, " busy ", busy), func(t *testing.T) {
					var cfg sse.Config
					ends := endsOf(&cfg)
					cfg.WriteTimeout = time.Second
					r := newRouter(cfg)
					r.SSE("/", func(s *sse.ServerSession) error {
						if err := s.SendData("open"); err != nil || !busy {
							<-s.Done()
							return err
						}
						for {
							if err := s.SendData(strings.Repeat("x", 1<<20)); err != nil {
								<-s.Done()
								return err
							}
						}
					})
					srv := serve(t, r, smallSendBuffer)
					conn := dialRaw(t, srv, "/")
					read := bufio.NewReaderSize(conn, 16)
					for line := ""; line != "data: open\n"; {
						var err error
						line, err = read.ReadString('\n')
						require.NoError(t, err)
					}
					if vanish == nil {
						srv.CloseClientConnections()
					} else {
						require.NoError(t, vanish(conn))
					}
					e := testkit.Receive(t, ends)
					require.Equal(t, sse.EndClientGone, e.Reason, "%v", e.Err)
					require.Zero(t, r.Plugin().Len())
				})
			}
		}
	})
	testkit.GoroutinesBackTo(t, before)
}

// A client that leaves is normal. It is logged at level Info at most, in whatever way it
// leaves.
func TestSessionClientThatLeavesIsNotLoggedAboveInfo(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			logs := testkit.NewLog()
			var cfg sse.Config
			cfg.Logger = logs.Logger()
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.SSE("/idle", untilDone)
			r.SSE("/busy", func(s *sse.ServerSession) error {
				for {
					if err := s.SendData(strings.Repeat("x", 10_000)); err != nil {
						return err
					}
				}
			})
			r.SSE("/own", func(s *sse.ServerSession) error {
				if err := s.SendData("x"); err != nil {
					return err
				}
				<-s.Done()
				return errOwn // an error that a handler returns because the session has ended
			})
			srv := serve(t, r, proto.Setup)
			for range 10 {
				for _, path := range []string{"/idle", "/busy", "/own"} {
					s := connect(t, srv, path)
					s.next()
					s.leave()
				}
			}
			for range 30 {
				require.Equal(t, sse.EndClientGone, testkit.Receive(t, ends).Reason)
			}
			testkit.Eventually(t, func() bool { return len(logs.Entries("session ended")) == 30 }, "a log entry for each session")
			for _, e := range logs.Entries("") {
				require.LessOrEqual(t, e.Level, slog.LevelInfo, e.Text)
			}
		})
	}
}
