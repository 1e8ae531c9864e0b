package sse_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

// Neither the deadline of one write nor a timeout of the http.Server may end a session that
// is silent for longer.
func TestSessionSilenceLongerThanAnyTimeout(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			const timeout, silence = 200 * time.Millisecond, 500 * time.Millisecond
			r := newRouter(sse.Config{WriteTimeout: timeout, OpenDelay: -1, Heartbeat: sse.Heartbeat{Period: -1}})
			r.SSE("/", func(s *sse.ServerSession) error {
				for i := range 3 {
					select {
					case <-s.Done():
						return errors.New("ended")
					case <-time.After(silence):
					}
					if err := s.SendData(i); err != nil {
						return err
					}
				}
				return nil
			})
			srv := serve(t, r, proto.Setup, func(srv *httptest.Server) {
				srv.Config.ReadTimeout, srv.Config.WriteTimeout, srv.Config.IdleTimeout = timeout, timeout, timeout
			})
			a := get(t, srv, "/")
			require.NoError(t, a.Err)
			require.Equal(t, "data: 0\n\ndata: 1\n\ndata: 2\n\n", a.Body)
		})
	}
}

func TestSessionServerTimeoutsDoNotEndIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(sse.Config{})
		r.SSE("/", func(s *sse.ServerSession) error {
			for i := range 3 {
				time.Sleep(50 * time.Second) // not a multiple of the heartbeat's period
				if err := s.SendData(i); err != nil {
					return err
				}
			}
			return nil
		})
		s := servePipe(t, r, func(srv *http.Server) {
			srv.ReadTimeout, srv.WriteTimeout, srv.IdleTimeout = time.Second, time.Second, time.Second
		}).connect("/")
		require.Equal(t, "0", s.nextData())
		require.Equal(t, "1", s.nextData())
		require.Equal(t, "2", s.nextData())
		s.end()
	})
}

// A writer that cannot stream is detected before the handler runs, or at the latest at the
// first write.
func TestSessionUnsupportedWriter(t *testing.T) {
	t.Parallel()
	t.Run("without Flush", func(t *testing.T) {
		t.Parallel()
		var end sse.End
		logs := testkit.NewLog()
		r := newRouter(sse.Config{Logger: logs.Logger(), OnClose: func(_ *sse.ServerSession, e sse.End) { end = e }})
		r.Use(func(next http.Handler) http.Handler { return http.TimeoutHandler(next, time.Minute, "") })
		r.SSE("/", func(*sse.ServerSession) error { assert.Fail(t, "the handler ran"); return nil })
		rec := record(r, http.MethodGet, "/")
		require.Equal(t, http.StatusInternalServerError, rec.Code)
		require.Contains(t, rec.Body.String(), "no Flush")
		require.Zero(t, end, "there was no session")
		logged := logs.Entries("timeoutWriter") // the entry names the type
		require.Len(t, logged, 1)
		require.Equal(t, slog.LevelError, logged[0].Level)
	})
	t.Run("that keeps all back", func(t *testing.T) {
		t.Parallel()
		var end sse.End
		sends := make(chan error, 1)
		r := newRouter(sse.Config{OnClose: func(_ *sse.ServerSession, e sse.End) { end = e }})
		r.Use(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(&bufferingWriter{ResponseWriter: w}, r) })
		})
		r.SSE("/", func(s *sse.ServerSession) error {
			err := s.SendData("x")
			sends <- err
			return err
		})
		require.PanicsWithValue(t, http.ErrAbortHandler, func() { record(r, "GET", "/") })
		err := <-sends
		require.ErrorIs(t, err, sse.ErrUnsupported)
		require.ErrorContains(t, err, "bufferingWriter")
		require.Equal(t, sse.EndWriteError, end.Reason)
	})
}

// bufferingWriter keeps the whole response back. Its Flush does nothing.
type bufferingWriter struct {
	http.ResponseWriter
	kept []byte
}

func (h *bufferingWriter) Flush() {}

func (h *bufferingWriter) Write(p []byte) (int, error) {
	h.kept = append(h.kept, p...)
	return len(p), nil
}

// After a handler has read the request body, it may take longer than ReadTimeout to open the
// session. A handler that waits for a language model does so.
func TestSessionOutlivesReadTimeoutBeforeItOpens(t *testing.T) {
	t.Parallel()
	const timeout = 100 * time.Millisecond
	r := sse.Install(chi.NewRouter(), sse.Config{OpenDelay: -1})
	r.Method(http.MethodPost, "/", r.SSEHandler(func(s *sse.ServerSession) error {
		question, err := io.ReadAll(s.Call().Body)
		if err != nil {
			return err
		}
		select {
		case <-s.Done():
			return sse.Error(http.StatusTeapot, s.Context().Err())
		case <-time.After(3 * timeout):
		}
		return s.SendData(question)
	}))
	srv := httptest.NewUnstartedServer(r)
	srv.Config.ReadTimeout = timeout
	srv.Start()
	defer srv.Close()

	resp, err := http.Post(srv.URL, "text/plain", strings.NewReader("why?"))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "data: why?\n\n", string(body))
}

// ReadTimeout still ends a request whose client is slow to send its body.
func TestSessionKeepsReadTimeoutForTheBody(t *testing.T) {
	t.Parallel()
	read := make(chan error, 1)
	r := sse.Install(chi.NewRouter(), sse.Config{OpenDelay: -1})
	r.Method(http.MethodPost, "/", r.SSEHandler(func(s *sse.ServerSession) error {
		_, err := io.ReadAll(s.Call().Body)
		read <- err
		return sse.Error(http.StatusRequestTimeout, nil)
	}))
	srv := httptest.NewUnstartedServer(r)
	srv.Config.ReadTimeout = 100 * time.Millisecond
	srv.Start()
	defer srv.Close()

	body, slow := io.Pipe()
	defer slow.Close()
	go func() {
		resp, err := http.Post(srv.URL, "text/plain", body)
		if err == nil {
			resp.Body.Close()
		}
	}()
	_, err := io.WriteString(slow, "wh")
	require.NoError(t, err)
	select {
	case err := <-read:
		require.Error(t, err)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the read of the body has no timeout")
	}
}

// A client that takes a part in a sixteenth of a second is given no larger one, whatever the
// write timeout: during a shutdown it must take each within a second.
func TestSessionPartsOfALargeEvent(t *testing.T) {
	t.Parallel()
	for takes, want := range map[time.Duration]int{time.Second / 16: 32 << 10, time.Millisecond: 128 << 10} {
		synctest.Test(t, func(t *testing.T) {
			largest := 0
			r := newRouter(sse.Config{WriteTimeout: time.Hour, OpenDelay: -1, Heartbeat: sse.Heartbeat{Period: -1}})
			r.SSE("/", func(s *sse.ServerSession) error { return s.SendData(strings.Repeat("x", 1<<20)) })
			record := &partRecorder{ResponseRecorder: httptest.NewRecorder(), onWrite: func(n int) {
				time.Sleep(takes)
				largest = max(largest, n)
			}}
			r.ServeHTTP(record, newRequest(t, http.MethodGet, "/"))
			require.Equal(t, want, largest)
		})
	}
}

type partRecorder struct {
	*httptest.ResponseRecorder
	onWrite func(n int)
}

func (r *partRecorder) Write(p []byte) (int, error) {
	r.onWrite(len(p))
	return r.ResponseRecorder.Write(p)
}

// A compressor that has engaged before the session begins would hold back what is flushed.
func TestSessionBehindAContentEncoding(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.SSE("/", func(*sse.ServerSession) error { assert.Fail(t, "the handler ran"); return nil })
	rec := httptest.NewRecorder()
	rec.Header().Set("Content-Encoding", "gzip")
	r.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	require.Equal(t, http.StatusInternalServerError, rec.Code)
	require.Contains(t, rec.Body.String(), "Content-Encoding")
}

// swallowingWriter has a Flush method without an error, and a FlushError that tells none.
type swallowingWriter struct {
	http.ResponseWriter
	wrote bool
}

func (w *swallowingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *swallowingWriter) Flush()                      { _ = http.NewResponseController(w.ResponseWriter).Flush() }
func (w *swallowingWriter) FlushError() error           { w.Flush(); return nil }

func (w *swallowingWriter) Write(p []byte) (int, error) {
	w.wrote = true
	return w.ResponseWriter.Write(p)
}

// Hijack refuses a response that has begun, as gin's does.
func (w *swallowingWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.wrote {
		return nil, nil, errors.New("the response has begun")
	}
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// silentWriter has Flush alone.
type silentWriter struct{ http.ResponseWriter }

func (w *silentWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *silentWriter) Flush()                      { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// A writer outside the plugin may swallow the error of a flush. The session finds it out at that
// flush, and says that its client was too slow. Without a guard it does so as well.
func TestSessionFindsErrorsThatWritersSwallow(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(w http.ResponseWriter) http.ResponseWriter{
		"Flush":      func(w http.ResponseWriter) http.ResponseWriter { return &silentWriter{ResponseWriter: w} },
		"FlushError": func(w http.ResponseWriter) http.ResponseWriter { return &swallowingWriter{ResponseWriter: w} },
		"one in another": func(w http.ResponseWriter) http.ResponseWriter {
			return &silentWriter{ResponseWriter: &swallowingWriter{ResponseWriter: w}}
		},
	} {
		for _, guarded := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, guard: %v", name, guarded), func(t *testing.T) {
				t.Parallel()
				var cfg sse.Config
				cfg.WriteTimeout = 500 * time.Millisecond
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				h := func(s *sse.ServerSession) error {
					for {
						if err := s.Send(sse.Event{Data: strings.Repeat("x", 1000)}); err != nil { // less than any buffer
							return err
						}
					}
				}
				r.SSE("/", h)
				var inner http.Handler = r
				if !guarded {
					inner = newRouter(cfg).SSEHandler(h)
				}
				srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { inner.ServeHTTP(wrap(w), r) }), smallSendBuffer)
				dialRaw(t, srv, "/") // and reads nothing
				e := testkit.Receive(t, ends)
				require.Equal(t, sse.EndWriteTimeout, e.Reason, "%v", e.Err)
				require.ErrorIs(t, e.Err, sse.ErrWriteTimeout)
			})
		}
	}
}

// A writer that refuses to be hijacked once the response has begun does not keep an end over
// HTTP/1.0 from looking broken, nor a hub from taking the connection.
func TestSessionIsHijackedPastAWriterThatRefuses(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.SSE("/broken", func(s *sse.ServerSession) error {
		testkit.NoError(t, s.SendData("x"))
		return errOwn
	})
	detached := make(chan bool, 1)
	r.SSE("/detach", func(s *sse.ServerSession) error {
		engine.Of(s).WillDetach()
		testkit.NoError(t, s.SendData("x"))
		detached <- engine.Of(s).Detach()
		return s.Close()
	})
	srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.ServeHTTP(&swallowingWriter{ResponseWriter: w}, req)
	}))
	w := overTCP.ask(t, srv, "GET /broken HTTP/1.0\r\nHost: test\r\n\r\n")
	_, err := io.ReadAll(w.r)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Equal(t, "data: x\n\n", get(t, srv, "/detach").Body)
	require.True(t, testkit.Receive(t, detached))
}
