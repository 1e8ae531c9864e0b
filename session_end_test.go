package sse_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

var errOwn = errors.New("an error of the handler")

// brokenEnds are the ways to end an open session that must not look like an end.
var brokenEnds = map[string]struct {
	end    func(s *sse.ServerSession) error
	reason sse.EndReason
}{
	"error":          {func(*sse.ServerSession) error { return errOwn }, sse.EndHandlerError},
	"late status":    {func(*sse.ServerSession) error { return sse.Error(403, errOwn) }, sse.EndHandlerError},
	"panic":          {func(*sse.ServerSession) error { panic(errOwn) }, sse.EndPanic},
	"abort":          {func(*sse.ServerSession) error { panic(http.ErrAbortHandler) }, sse.EndPanic},
	"Goexit":         {func(*sse.ServerSession) error { runtime.Goexit(); return nil }, sse.EndPanic},
	"error at Close": {func(s *sse.ServerSession) error { return errors.Join(s.Close(), errOwn) }, sse.EndHandlerError},
}

func TestSessionBrokenEndLooksBroken(t *testing.T) {
	t.Parallel()
	// recoverAll takes a panic for a request that went wrong, and answers.
	recoverAll := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if v := recover(); v != nil {
					w.WriteHeader(http.StatusInternalServerError)
					io.WriteString(w, "data: sorry\n\n")
				}
			}()
			next.ServeHTTP(w, r)
		})
	}
	for wrapped, use := range map[string]func(*sse.Router){
		"bare":                       func(*sse.Router) {},
		"behind chi's Recoverer":     func(r *sse.Router) { r.Use(middleware.Recoverer) },
		"behind one that takes all":  func(r *sse.Router) { r.Use(recoverAll) },
		"behind chi's Timeout, too":  func(r *sse.Router) { r.Use(recoverAll, middleware.Timeout(time.Nanosecond)) },
		"behind a buffer of a Write": func(r *sse.Router) { r.Use(middleware.Compress(5)) },
	} {
		for name, tt := range brokenEnds {
			for _, proto := range protocols {
				t.Run(fmt.Sprint(name, " ", wrapped, " over ", proto.name), func(t *testing.T) {
					t.Parallel()
					var cfg sse.Config
					ends := endsOf(&cfg)
					r := newRouter(cfg)
					use(r)
					r.SSE("/", func(s *sse.ServerSession) error {
						noError(t, s.SendData("before"))
						return tt.end(s)
					})
					a := get(t, serve(t, r, proto.setup), "/")
					require.Equal(t, http.StatusOK, a.Status)
					require.Equal(t, "data: before\n\n", a.Body)
					require.Error(t, a.Err, "the client must not take this for the end")
					if proto.proto == "HTTP/1.1" {
						require.Equal(t, io.ErrUnexpectedEOF, a.Err)
					}
					e := receive(t, ends)
					require.Equal(t, tt.reason, e.Reason)
					require.True(t, e.Opened)
					require.Zero(t, r.Plugin().Len())
				})
			}
		}
	}
}

func TestSessionWholeEndLooksWhole(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *sse.ServerSession) error{
		"nil":                      func(*sse.ServerSession) error { return nil },
		"Close":                    func(s *sse.ServerSession) error { return s.Close() },
		"ErrClosed after Close":    func(s *sse.ServerSession) error { s.Close(); return s.SendData("x") },
		"a wrapped one":            func(s *sse.ServerSession) error { s.Close(); return fmt.Errorf("send: %w", s.SendData("x")) },
		"nil behind late writes":   func(s *sse.ServerSession) error { return nil },
		"Close by another routine": func(s *sse.ServerSession) error { go s.Close(); <-s.Done(); return nil },
	} {
		for _, proto := range protocols {
			t.Run(name+" over "+proto.name, func(t *testing.T) {
				t.Parallel()
				var complaints syncBuffer
				r := newRouter(sse.Config{})
				r.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						next.ServeHTTP(w, r)
						w.WriteHeader(http.StatusGatewayTimeout)
						io.WriteString(w, "data: of a middleware\n\n")
						_ = http.NewResponseController(w).Flush()
					})
				})
				r.SSE("/", func(s *sse.ServerSession) error {
					noError(t, s.SendData("before"))
					return end(s)
				})
				srv := serve(t, r, proto.setup, func(srv *httptest.Server) { srv.Config.ErrorLog = log.New(&complaints, "", 0) })
				a := get(t, srv, "/")
				require.NoError(t, a.Err)
				require.Equal(t, "data: before\n\n", a.Body)
				require.Empty(t, complaints.String(), "of net/http, on a second head")
			})
		}
	}
}

// halfWriter writes half of what it is to write, closes the session, and fails.
type halfWriter struct {
	http.ResponseWriter
	session *atomic.Pointer[sse.ServerSession]
}

func (w *halfWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *halfWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

func (w *halfWriter) Write(p []byte) (int, error) {
	if !strings.Contains(string(p), "torn") {
		return w.ResponseWriter.Write(p)
	}
	w.session.Load().Close()
	n, _ := w.ResponseWriter.Write(p[:len(p)/2])
	return n, errOwn
}

// However well a session ends, the half of an event must not pass for its whole.
func TestSessionHalfAnEventIsNoEnd(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.name, func(t *testing.T) {
			t.Parallel()
			var session atomic.Pointer[sse.ServerSession]
			r := newRouter(sse.Config{})
			r.Use(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(&halfWriter{w, &session}, r) })
			})
			r.SSE("/", func(s *sse.ServerSession) error {
				session.Store(s)
				noError(t, s.SendData("whole"))
				matches(t, s.SendData("torn in two"), errOwn)
				return nil
			})
			a := get(t, serve(t, r, proto.setup), "/")
			require.Contains(t, a.Body, "data: whole\n\n")
			require.Error(t, a.Err)
		})
	}
}

// A middleware that takes all panics cannot make a broken end a whole one, where
// there is no connection to break as well.
func TestSessionBrokenEndIsThePanicOfTheServer(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { _ = recover() }()
			next.ServeHTTP(w, r)
		})
	})
	r.SSE("/", func(s *sse.ServerSession) error {
		noError(t, s.SendData("x"))
		return errOwn
	})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { record(r, http.MethodGet, "/") })
}

func TestSessionPanicBeforeItOpensReachesARecoverer(t *testing.T) {
	t.Parallel()
	t.Run("its own", func(t *testing.T) {
		t.Parallel()
		panics := make(chan any, 1)
		var cfg sse.Config
		ends := endsOf(&cfg)
		r := newRouter(cfg)
		r.Use(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					panics <- recover()
					w.WriteHeader(http.StatusTeapot)
					io.WriteString(w, "recovered")
				}()
				next.ServeHTTP(w, r)
			})
		})
		r.SSE("/", func(*sse.ServerSession) error { panic(errOwn) })
		a := get(t, serve(t, r), "/")
		require.Equal(t, http.StatusTeapot, a.Status)
		require.Equal(t, "recovered", a.Body)
		require.Equal(t, errOwn, <-panics)
		e := receive(t, ends)
		require.Equal(t, sse.EndPanic, e.Reason)
		require.False(t, e.Opened)
		var p *sse.PanicError
		require.ErrorAs(t, e.Err, &p)
		require.Equal(t, errOwn, p.Value)
		require.Contains(t, string(p.Stack), "TestSessionPanicBeforeItOpensReachesARecoverer")
		require.EqualError(t, p, "sse: handler panicked: an error of the handler")
	})
	t.Run("chi's", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{})
		r.Use(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				middleware.Recoverer(next).ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), middleware.LogEntryCtxKey, silentEntry{})))
			})
		})
		r.SSE("/", func(*sse.ServerSession) error { panic(errOwn) })
		require.Equal(t, http.StatusInternalServerError, get(t, serve(t, r), "/").Status)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{})
		r.SSE("/", func(*sse.ServerSession) error { panic(errOwn) })
		srv := serve(t, r)
		resp, err := srv.Client().Do(newRequest(t, "GET", srv.URL))
		if err == nil {
			resp.Body.Close()
		}
		require.Error(t, err)
		eventually(t, func() bool { return r.Plugin().Len() == 0 }, "the end")
	})
}

// silentEntry keeps chi's Recoverer from printing.
type silentEntry struct{}

func (silentEntry) Write(int, int, http.Header, time.Duration, any) {}
func (silentEntry) Panic(any, []byte)                               {}

func TestSessionGoexitBeforeItOpens(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.name, func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.SSE("/", func(*sse.ServerSession) error { runtime.Goexit(); return nil })
			srv := serve(t, r, proto.setup)
			resp, err := srv.Client().Do(newRequest(t, "GET", srv.URL))
			if err == nil {
				a := readAnswer(resp)
				require.True(t, a.Err != nil || a.Status == http.StatusInternalServerError, "%+v", a)
			}
			e := receive(t, ends)
			require.Equal(t, sse.EndPanic, e.Reason)
			var p *sse.PanicError
			require.ErrorAs(t, e.Err, &p)
			require.Nil(t, p.Value)
			require.Zero(t, r.Plugin().Len())
		})
	}
}

// The pipe holds nothing: a client that does not read stalls the write at once.
func TestSessionWriteTimeout(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg     sse.Config
		options []sse.RouteOption
		want    time.Duration
	}{
		"default":       {sse.Config{}, nil, 10 * time.Second},
		"of the plugin": {sse.Config{WriteTimeout: time.Second}, nil, time.Second},
		"of the route":  {sse.Config{WriteTimeout: time.Second}, []sse.RouteOption{sse.WithWriteTimeout(time.Minute)}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				book := newLogbook()
				tt.cfg.Logger = book.logger()
				// In a bubble no one may wait for a lock while time is to pass.
				tt.cfg.OpenDelay, tt.cfg.Heartbeat.Period = -1, -1
				ends := endsOf(&tt.cfg)
				var sent []sse.Sent
				tt.cfg.OnSend = func(_ *sse.ServerSession, s sse.Sent) { sent = append(sent, s) }
				r := newRouter(tt.cfg)
				r.SSE("/", func(s *sse.ServerSession) error {
					noError(t, s.SendData("read"))
					time.Sleep(tt.want / 50)
					began := time.Now()
					err := s.SendData("not read")
					took := time.Since(began)
					assert.LessOrEqual(t, took, tt.want)
					assert.Greater(t, took, tt.want*9/10)
					matches(t, err, sse.ErrWriteTimeout)
					assert.True(t, strings.HasPrefix(err.Error(), "sse: write timeout after "+tt.want.String()), err)
					<-s.Done()
					matches(t, context.Cause(s.Context()), sse.ErrWriteTimeout)
					again := s.SendData("more")
					matches(t, again, sse.ErrClosed)
					assert.ErrorIs(t, again, sse.ErrWriteTimeout)
					return err
				}, tt.options...)
				s := servePipe(t, r).connect("/")
				require.Equal(t, "read", s.next().Data)
				e := <-ends
				require.Equal(t, sse.EndWriteTimeout, e.Reason)
				require.ErrorIs(t, e.Err, sse.ErrWriteTimeout)
				require.EqualValues(t, 1, e.Events)
				require.EqualValues(t, len("data: read\n\n"), e.Bytes)
				require.Len(t, sent, 2)
				require.NoError(t, sent[0].Err)
				require.ErrorIs(t, sent[1].Err, sse.ErrWriteTimeout)
				require.Greater(t, sent[1].Duration, tt.want*9/10)
				logged := book.entries("session ended")
				require.Len(t, logged, 1)
				require.Equal(t, slog.LevelWarn, logged[0].Level)
				_, err := s.rest()
				require.Error(t, err)
			})
		})
	}
}

// A write may come at any time after the one before, and has its whole time each.
func TestSessionWriteTimeoutIsOfEachWrite(t *testing.T) {
	t.Parallel()
	for _, pause := range []time.Duration{0, time.Millisecond, 300 * time.Millisecond, 9 * time.Second, time.Hour} {
		t.Run(pause.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(sse.Config{OpenDelay: -1, Heartbeat: sse.Heartbeat{Period: -1}}) // as above
				r.SSE("/", func(s *sse.ServerSession) error {
					for i := range 40 {
						if err := s.SendData(i); !assert.NoError(t, err) {
							return err
						}
						time.Sleep(pause)
					}
					return nil
				})
				s := servePipe(t, r).connect("/")
				for i := range 40 {
					require.Equal(t, fmt.Sprint(i), s.nextData())
					time.Sleep(9 * time.Second) // slow, but in time
				}
				s.end()
			})
		})
	}
}

func TestSessionClientThatStopsReadingIsCutOff(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.name, func(t *testing.T) {
			t.Parallel()
			const timeout = 500 * time.Millisecond
			var cfg sse.Config
			cfg.WriteTimeout = timeout
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			data := strings.Repeat("x", 64<<10)
			r.SSE("/flood", func(s *sse.ServerSession) error {
				for {
					began := time.Now()
					if err := s.SendData(data); err != nil {
						assert.Less(t, time.Since(began), timeout+5*time.Second)
						assert.ErrorIs(t, err, sse.ErrWriteTimeout)
						return err
					}
				}
			})
			r.SSE("/clock", func(s *sse.ServerSession) error {
				for {
					if err := s.SendData("tick"); err != nil {
						return err
					}
					select {
					case <-s.Done():
						return nil
					case <-time.After(10 * time.Millisecond):
					}
				}
			})
			srv := serve(t, r, smallSendBuffer, proto.setup)
			other := connect(t, srv, "/clock")
			var stop sync.WaitGroup
			defer stop.Wait()
			defer other.leave()
			slowest := make(chan time.Duration, 1)
			cut := make(chan struct{})
			stop.Go(func() {
				var gap time.Duration
				for last := time.Now(); ; last = time.Now() {
					if _, err := other.dec.Decode(); !assert.NoError(t, err) {
						return
					}
					gap = max(gap, time.Since(last))
					select {
					case <-cut:
						slowest <- gap
						return
					default:
					}
				}
			})

			if proto.proto == "HTTP/1.1" {
				rawClient(t, srv, "/flood")
			} else {
				tr := srv.Client().Transport.(*http.Transport)
				tr.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
				connect(t, srv, "/flood") // on the other's connection, perhaps
			}
			began := time.Now()
			e := receive(t, ends)
			require.Equal(t, sse.EndWriteTimeout, e.Reason)
			require.GreaterOrEqual(t, time.Since(began), timeout*9/10-50*time.Millisecond)
			close(cut)
			require.Less(t, receive(t, slowest), timeout, "the other client had to wait")
		})
	}
}

func TestSessionClientThatVanishes(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("all", func(t *testing.T) {
		for how, vanish := range map[string]func(*net.TCPConn) error{
			"RST":       func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
			"FIN":       func(c *net.TCPConn) error { return c.Close() },
			"half-FIN":  func(c *net.TCPConn) error { return c.CloseWrite() },
			"after all": nil, // the server is closed
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
					conn := rawClient(t, srv, "/")
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
					e := receive(t, ends)
					require.Equal(t, sse.EndClientGone, e.Reason, "%v", e.Err)
					require.Zero(t, r.Plugin().Len())
				})
			}
		}
	})
	goroutinesBackTo(t, before)
}

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

// failingWrites lets no write pass.
func failingWrites(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&failingWriter{w}, r)
	})
}

type failingWriter struct{ http.ResponseWriter }

func (w *failingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
func (w *failingWriter) Flush()                      {}

func (w *failingWriter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "data: fail") || strings.Contains(string(p), "data: x") {
		return 0, errOwn
	}
	n, err := w.ResponseWriter.Write(p)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	return n, err
}

// Every reason for an end, and all that is told of it.
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
			func(s *sse.ServerSession) error { _ = twice(s); panic("at the disco") }, nil,
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
				book := newLogbook()
				r := newRouter(sse.Config{
					Logger:         book.logger(),
					ShutdownSpread: -1, // no farewell, which would count
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
						assert.ErrorIs(t, s.SendData("y"), sse.ErrClosed, "the session cannot send anymore")
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
					go io.Copy(io.Discard, conn) //nolint:errcheck // reads what there is
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
				require.Equal(t, e.Bytes, sent, "what OnSend was told")
				switch {
				case tt.reason == sse.EndPanic:
					var p *sse.PanicError
					require.ErrorAs(t, e.Err, &p)
					require.Equal(t, "at the disco", p.Value)
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
				require.Empty(t, ends, "once")

				logged := book.entries("session ended")
				require.Len(t, logged, 1)
				require.Equal(t, tt.level, logged[0].Level)
				require.Equal(t, "pipe", logged[0].Attrs["remote"].String())
				require.Equal(t, e.LogValue().Group(), logged[0].Attrs["end"].Group())
				if stack, ok := logged[0].Attrs["stack"]; tt.reason == sse.EndPanic {
					require.Contains(t, stack.String(), "TestSessionEnds")
				} else {
					require.False(t, ok)
				}
				require.Len(t, book.entries(""), 1, "nothing else is logged")
			})
		})
	}
}

// A client that leaves is nothing to tell anyone, however it does it.
func TestSessionClientThatLeavesIsNotLoggedAboveInfo(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.name, func(t *testing.T) {
			t.Parallel()
			book := newLogbook()
			var cfg sse.Config
			cfg.Logger = book.logger()
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
				return errOwn // follows from the end
			})
			srv := serve(t, r, proto.setup)
			for range 10 {
				for _, path := range []string{"/idle", "/busy", "/own"} {
					s := connect(t, srv, path)
					s.next()
					s.leave()
				}
			}
			for range 30 {
				require.Equal(t, sse.EndClientGone, receive(t, ends).Reason)
			}
			eventually(t, func() bool { return len(book.entries("session ended")) == 30 }, "the log")
			for _, e := range book.entries("") {
				require.LessOrEqual(t, e.Level, slog.LevelInfo, e.Text)
			}
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

// What cannot stream is found out before, or at the first write at the latest.
func TestSessionUnsupportedWriter(t *testing.T) {
	t.Parallel()
	t.Run("without Flush", func(t *testing.T) {
		t.Parallel()
		var end sse.End
		book := newLogbook()
		r := newRouter(sse.Config{Logger: book.logger(), OnClose: func(_ *sse.ServerSession, e sse.End) { end = e }})
		r.Use(func(next http.Handler) http.Handler { return http.TimeoutHandler(next, time.Minute, "") })
		r.SSE("/", func(*sse.ServerSession) error { assert.Fail(t, "the handler ran"); return nil })
		rec := record(r, http.MethodGet, "/")
		require.Equal(t, http.StatusInternalServerError, rec.Code)
		require.Contains(t, rec.Body.String(), "no Flush")
		require.Zero(t, end, "there was no session")
		logged := book.entries("timeoutWriter") // names the type
		require.Len(t, logged, 1)
		require.Equal(t, slog.LevelError, logged[0].Level)
	})
	t.Run("that keeps all back", func(t *testing.T) {
		t.Parallel()
		var end sse.End
		sends := make(chan error, 1)
		r := newRouter(sse.Config{OnClose: func(_ *sse.ServerSession, e sse.End) { end = e }})
		r.Use(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(&hoarder{ResponseWriter: w}, r) })
		})
		r.SSE("/", func(s *sse.ServerSession) error {
			err := s.SendData("x")
			sends <- err
			return err
		})
		require.PanicsWithValue(t, http.ErrAbortHandler, func() { record(r, "GET", "/") })
		err := <-sends
		require.ErrorIs(t, err, sse.ErrUnsupported)
		require.ErrorContains(t, err, "hoarder")
		require.Equal(t, sse.EndWriteError, end.Reason)
	})
}

// hoarder buffers a response whole.
type hoarder struct {
	http.ResponseWriter
	kept []byte
}

func (h *hoarder) Flush() {}

func (h *hoarder) Write(p []byte) (int, error) {
	h.kept = append(h.kept, p...)
	return len(p), nil
}

// http.ErrAbortHandler is how a handler aborts without a word.
func TestSessionQuietAbort(t *testing.T) {
	t.Parallel()
	book := newLogbook()
	r := newRouter(sse.Config{Logger: book.logger()})
	r.SSE("/", func(s *sse.ServerSession) error {
		_ = s.SendData("x")
		panic(http.ErrAbortHandler)
	})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { record(r, http.MethodGet, "/") })
	logged := book.entries("session ended")
	require.Len(t, logged, 1)
	require.Equal(t, slog.LevelDebug, logged[0].Level)
	require.NotContains(t, logged[0].Text, "goroutine")
}
