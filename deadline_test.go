package sse_test

// Deadlines that are not the session's: those of middleware, of writers around the plugin's,
// and of contexts. None of them may speak in the client's name.

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// deadlineOn is a middleware that sets a deadline at each write; with read, both deadlines.
func deadlineOn(t testing.TB, d time.Duration, read bool) func(http.Handler) http.Handler {
	t.Helper()
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(&deadlineWriter{w, t, d, read}, r)
		})
	}
}

type deadlineWriter struct {
	http.ResponseWriter
	t    testing.TB
	d    time.Duration
	read bool
}

func (w *deadlineWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *deadlineWriter) Write(p []byte) (int, error) {
	c := http.NewResponseController(w.ResponseWriter)
	testkit.NoError(w.t, c.SetWriteDeadline(time.Now().Add(w.d)))
	if w.read {
		testkit.NoError(w.t, c.SetReadDeadline(time.Now().Add(w.d)))
	}
	return w.ResponseWriter.Write(p)
}

// The deadline of a middleware's writer does not end a stream that is silent for longer.
func TestDeadlineOfAWriterDoesNotEndTheStream(t *testing.T) {
	t.Parallel()
	for _, proto := range []testkit.Protocol{testkit.HTTP1, testkit.HTTP1TLS, testkit.HTTP2, testkit.H2C} {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.Use(deadlineOn(t, 50*time.Millisecond, true))
			r.SSE("/", func(s *sse.ServerSession) error {
				for range 3 {
					if err := s.SendData("x"); err != nil {
						return err
					}
					select {
					case <-s.Done():
						return context.Cause(s.Context())
					case <-time.After(200 * time.Millisecond):
					}
				}
				return nil
			})
			a := get(t, serve(t, r, proto.Setup), "/")
			require.NoError(t, a.Err)
			require.Equal(t, strings.Repeat("data: x\n\n", 3), a.Body)
			e := testkit.Receive(t, ends)
			require.Equal(t, sse.EndReturned, e.Reason, "%v", e.Err)
		})
	}
}

// Nor does such a deadline change how long a client has that takes nothing, or what its end is
// called.
func TestDeadlineOfAWriterIsNotTheWriteTimeout(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]time.Duration{"shorter": 50 * time.Millisecond, "longer": time.Hour} {
		for _, proto := range protocols {
			t.Run(name+" over "+proto.Name, func(t *testing.T) {
				t.Parallel()
				const timeout = time.Second
				cfg := sse.Config{WriteTimeout: timeout}
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				r.Use(deadlineOn(t, d, true))
				r.SSE("/", func(s *sse.ServerSession) error {
					for {
						if err := s.SendData(strings.Repeat("x", 1<<16)); err != nil {
							return err
						}
					}
				})
				began := time.Now()
				dial(t, serve(t, r, proto.Setup, smallSendBuffer), "/") // and never reads
				e := testkit.Receive(t, ends)
				require.Equal(t, sse.EndWriteTimeout, e.Reason, "%v", e.Err)
				require.GreaterOrEqual(t, time.Since(began), timeout-timeout/16)
			})
		}
	}
}

// A writer around the plugin sets deadlines that the plugin cannot keep from the connection.
// What fails because of one has not failed because the client left.
func TestDeadlineOfAWriterAroundThePlugin(t *testing.T) {
	t.Parallel()
	cfg := sse.Config{WriteTimeout: time.Hour}
	ends := endsOf(&cfg)
	r := newRouter(cfg)
	failed := make(chan error, 1)
	r.SSE("/", func(s *sse.ServerSession) error {
		for {
			if err := s.SendData(strings.Repeat("x", 1<<16)); err != nil {
				failed <- err
				return err
			}
		}
	})
	dial(t, serve(t, deadlineOn(t, 100*time.Millisecond, false)(r), smallSendBuffer), "/") // and never reads
	err := testkit.Receive(t, failed)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NotErrorIs(t, err, sse.ErrClientGone)
	e := testkit.Receive(t, ends)
	require.Equal(t, sse.EndWriteError, e.Reason)
	require.ErrorIs(t, e.Err, os.ErrDeadlineExceeded)
}

var errTooLong = errors.New("the request takes too long")

// The deadline of a context with a cause of its own is a deadline still: the session goes on,
// and a client that leaves afterwards is the reason for the end.
func TestDeadlineWithACause(t *testing.T) {
	t.Parallel()
	deadline := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeoutCause(r.Context(), 50*time.Millisecond, errTooLong)
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
	for _, where := range []string{"inside", "outside"} {
		for _, proto := range protocols {
			t.Run(where+" over "+proto.Name, func(t *testing.T) {
				t.Parallel()
				var cfg sse.Config
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				var h http.Handler = r
				if where == "inside" {
					r.Use(deadline)
				} else {
					h = deadline(r)
				}
				left := make(chan struct{})
				r.SSE("/", func(s *sse.ServerSession) error {
					if err := s.Open(); err != nil {
						return err
					}
					time.Sleep(150 * time.Millisecond)
					if err := s.SendData("late"); err != nil {
						return err
					}
					<-left
					for {
						if err := s.SendData("x"); err != nil {
							assert.NotErrorIs(t, err, errTooLong)
							return err
						}
						time.Sleep(time.Millisecond)
					}
				})
				c := connect(t, serve(t, h, proto.Setup), "/")
				require.Equal(t, "late", c.nextData())
				c.leave()
				close(left)
				e := testkit.Receive(t, ends)
				require.Equal(t, sse.EndClientGone, e.Reason, "%v", e.Err)
			})
		}
	}
}

// After the deadline of a context around the plugin, a shutdown that interrupts a write is not
// the client's doing either.
func TestShutdownInterruptsAWriteAfterADeadlineOutside(t *testing.T) {
	t.Parallel()
	cfg := sse.Config{WriteTimeout: time.Hour}
	ends := endsOf(&cfg)
	r := newRouter(cfg)
	failed := make(chan error, 1)
	passed := make(chan struct{})
	r.SSE("/", func(s *sse.ServerSession) error {
		err := s.SendData(strings.Repeat("x", 8<<20))
		failed <- err
		return err
	})
	srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeoutCause(req.Context(), 20*time.Millisecond, errTooLong)
		defer cancel()
		context.AfterFunc(ctx, func() { close(passed) })
		r.ServeHTTP(w, req.WithContext(ctx))
	}), smallSendBuffer)
	dial(t, srv, "/") // and never reads
	testkit.Receive(t, passed)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_ = r.Plugin().Shutdown(ctx)
	err := testkit.Receive(t, failed)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NotErrorIs(t, err, sse.ErrClientGone)
	require.Equal(t, sse.EndShutdown, testkit.Receive(t, ends).Reason)
}

// waitingLog is a slog.Handler that calls wait at the first record.
type waitingLog struct {
	slog.Handler
	once *sync.Once
	wait func()
}

func (l *waitingLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (l *waitingLog) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *waitingLog) Handle(context.Context, slog.Record) error {
	first := false
	l.once.Do(func() { first = true })
	if first {
		l.wait()
	}
	return nil
}

// The warning of a writer that hides its deadlines holds up no other session, whatever the
// logger waits for.
func TestDeadlineWarningHoldsUpNobody(t *testing.T) {
	t.Parallel()
	goOn, warned := make(chan struct{}), make(chan struct{})
	r := newRouter(sse.Config{Logger: slog.New(&waitingLog{slog.DiscardHandler, new(sync.Once), func() {
		close(warned)
		<-goOn
	}})})
	r.SSE("/", untilDone)
	srv := serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.ServeHTTP(&noHijack{w, nil}, req) }))
	first := make(chan struct{})
	req := newRequest(t, http.MethodGet, srv.URL+"/")
	go func() {
		defer close(first)
		if resp, err := srv.Client().Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	testkit.Receive(t, warned)
	testkit.Within(t, func() { connect(t, srv, "/").next() })
	release()
	testkit.Receive(t, first)
}
