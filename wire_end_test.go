package sse_test

// What the client reads at the end of a stream, over each kind of wire.

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// Over HTTP/1.0 a response ends with its connection. So a broken end has to be a reset, after
// everything that was sent before it.
func TestBrokenEndOverHTTP10(t *testing.T) {
	t.Parallel()
	const request = "GET / HTTP/1.0\r\nHost: test\r\n\r\n"
	data := strings.Repeat("x", 300_000) // more than the client takes at once
	for name, end := range map[string]func(s *sse.ServerSession) error{
		"an error": func(*sse.ServerSession) error { return errOwn },
		"a panic":  func(*sse.ServerSession) error { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(sse.Config{})
			r.Use(chimiddleware.Recoverer)
			r.SSE("/", func(s *sse.ServerSession) error {
				if err := s.SendData(data); err != nil {
					return err
				}
				return end(s)
			})
			srv := serve(t, r)
			w := overTCP.ask(t, srv, request)
			w.head()
			w.expect("data: " + data + "\n\n")
			_, err := io.ReadAll(w.r)
			require.ErrorIs(t, err, syscall.ECONNRESET)
		})
	}
	t.Run("detached", func(t *testing.T) {
		t.Parallel()
		d := newDetachServer(t, overTCP, sse.Config{})
		d.after = func(s *detached) error {
			if err := s.SendData(data); err != nil {
				return err
			}
			return errOwn
		}
		w := d.tr.ask(t, d.srv, request)
		w.head()
		w.expect(openFrame + "data: " + data + "\n\n")
		_, err := io.ReadAll(w.r)
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.Equal(t, sse.EndHandlerError, testkit.Receive(t, d.ends).Reason)
	})
	t.Run("in order", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error { return s.SendData(data) })
		w := overTCP.ask(t, serve(t, r), request)
		w.head()
		w.expect("data: " + data + "\n\n")
		_, err := io.ReadAll(w.r)
		require.NoError(t, err)
	})
}

// A client that stalls over HTTP/1.0 is cut off, and then reads on. It must not take that end
// for the end of the response. net/http closes the connection by itself if a write fails, but
// not if a flush does.
func TestStalledClientOverHTTP10(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"in a flush": 500, "in a write": 20_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ends := make(chan sse.End, 1)
			r := newRouter(sse.Config{WriteTimeout: 500 * time.Millisecond, OnClose: func(_ *sse.ServerSession, e sse.End) { ends <- e }})
			r.SSE("/", func(s *sse.ServerSession) error {
				for {
					if err := s.SendData(strings.Repeat("x", size)); err != nil {
						return err
					}
				}
			})
			conn := testkit.Dial(t, serve(t, r, testkit.SendBuffer(16<<10)))
			require.NoError(t, conn.SetReadBuffer(8<<10))
			_, err := io.WriteString(conn, "GET / HTTP/1.0\r\nHost: test\r\n\r\n")
			require.NoError(t, err)
			require.Equal(t, sse.EndWriteTimeout, testkit.Receive(t, ends).Reason)
			_, err = io.ReadAll(conn)
			require.ErrorIs(t, err, syscall.ECONNRESET)
		})
	}
}

// A client may send what nobody reads: the body of a POST, or the next request. That must not
// cost it the end of the stream, however slow it is to read that.
func TestDetachUnreadBytesDoNotResetTheStream(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetachServer(t, tr, sse.Config{})
		s, w := d.connectReturned()
		_, err := io.WriteString(w.Conn, strings.Repeat(plainRequest, 200))
		require.NoError(t, err)
		data := strings.Repeat("x", 60_000) // the kernels hold that much between them
		require.NoError(t, s.SendData(data))
		s.Close()
		time.Sleep(100 * time.Millisecond) // the server has written everything
		_, err = io.WriteString(w.Conn, plainRequest)
		require.NoError(t, err)
		w.expect(chunk("data: "+data+"\n\n") + lastChunk)
		_, err = io.ReadAll(w.r)
		require.NoError(t, err)
		require.Equal(t, sse.EndClosed, d.ended(s).Reason)
	})
}

// A client that goes on sending after the end does not hold the connection for long.
func TestDetachClientThatKeepsTheConnection(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetachServer(t, tr, sse.Config{})
		s, w := d.connectReturned()
		s.Close()
		w.expect(lastChunk)
		began := time.Now()
		for {
			if _, err := io.WriteString(w.Conn, plainRequest); err != nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
			require.Less(t, time.Since(began), testkit.Patience)
		}
		d.ended(s)
	})
}

// A middleware's Flush may have no error to return. The error of a slow client is found all
// the same.
func TestWriteTimeoutThroughAFlushWithoutAnError(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			cfg := sse.Config{WriteTimeout: 200 * time.Millisecond}
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.Use(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					next.ServeHTTP(chimiddleware.NewWrapResponseWriter(w, req.ProtoMajor), req)
				})
			})
			failed := make(chan error, 1)
			data := strings.Repeat("x", 1<<10)
			r.SSE("/", func(s *sse.ServerSession) error {
				for {
					if err := s.SendData(data); err != nil {
						failed <- err
						return err
					}
				}
			})
			connect(t, serve(t, r, proto.Setup, smallSendBuffer), "/") // and never reads
			require.ErrorIs(t, testkit.Receive(t, failed), sse.ErrWriteTimeout)
			require.Equal(t, sse.EndWriteTimeout, testkit.Receive(t, ends).Reason)
		})
	}
}
