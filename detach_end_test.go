package sse_test

// How a detached session ends: reasons, last bytes, and races with the return of its handler.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httputil"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestDetachEnds(t *testing.T) {
	t.Parallel()
	kicked := fmt.Errorf("kicked: %w", sse.ErrClosed)
	revoked := fmt.Errorf("%w: %w", hub.ErrKicked, sse.ErrClosed)
	behind := fmt.Errorf("behind: %w", sse.ErrSlow)
	panicked := &sse.PanicError{Value: "of a filter", Stack: []byte("somewhere")}
	quit := &sse.PanicError{Value: http.ErrAbortHandler}
	canceled := fmt.Errorf("%w: %w", sse.ErrCanceled, errOwn)
	moved := fmt.Errorf("moved: %w", sse.ErrShutdown)
	for name, tt := range map[string]struct {
		cause  error // nil means Close
		reason sse.EndReason
		err    error
		level  slog.Level
		whole  bool
	}{
		"Close":              {nil, sse.EndClosed, nil, slog.LevelDebug, true},
		"ErrClosed":          {sse.ErrClosed, sse.EndClosed, nil, slog.LevelDebug, true},
		"a wrapped closed":   {kicked, sse.EndClosed, kicked, slog.LevelInfo, true},
		"a kick":             {revoked, sse.EndKicked, revoked, slog.LevelDebug, true},
		"ErrSlow":            {sse.ErrSlow, sse.EndSlow, sse.ErrSlow, slog.LevelWarn, true},
		"a wrapped slow":     {behind, sse.EndSlow, behind, slog.LevelWarn, true},
		"ErrShutdown":        {sse.ErrShutdown, sse.EndShutdown, nil, slog.LevelDebug, true},
		"a wrapped shutdown": {moved, sse.EndShutdown, moved, slog.LevelInfo, true},
		"ErrClientGone":      {sse.ErrClientGone, sse.EndClientGone, nil, slog.LevelDebug, true},
		"canceled":           {canceled, sse.EndCanceled, canceled, slog.LevelDebug, false},
		"an error":           {errOwn, sse.EndWriteError, errOwn, slog.LevelInfo, false},
		"a panic":            {panicked, sse.EndPanic, panicked, slog.LevelError, false},
		"a quiet panic":      {quit, sse.EndPanic, quit, slog.LevelDebug, false},
	} {
		for _, tr := range transports {
			t.Run(name+" over "+tr.name, func(t *testing.T) {
				t.Parallel()
				d := newDetachServer(t, tr, sse.Config{})
				s, w := d.connectReturned()
				require.NoError(t, s.SendData("x"))
				if tt.cause == nil {
					require.NoError(t, s.Close())
				} else {
					s.hub.End(tt.cause)
				}
				testkit.Receive(t, s.Done())
				s.hub.End(errors.New("too late")) // the first cause stays
				require.NoError(t, s.Close())
				w.expect(chunk("data: x\n\n"))
				rest := w.rest()
				switch {
				case !tt.whole:
					require.Empty(t, rest)
				case tt.reason == sse.EndShutdown:
					require.Regexp(t, `^d\r\nretry: \d{4}\n\n\r\n0\r\n\r\n$`, rest)
				default:
					require.Equal(t, lastChunk, rest)
				}
				e := d.ended(s)
				require.Equal(t, tt.reason, e.Reason)
				require.Equal(t, tt.err, e.Err)
				require.True(t, e.Opened)
				require.EqualValues(t, 2, e.Events)
				require.Positive(t, e.Duration)
				logged := d.logs.Entries("session ended")
				require.Len(t, logged, 1)
				require.Equal(t, tt.level, logged[0].Level)
				require.Equal(t, name == "a panic", logged[0].Attrs["stack"].String() == "somewhere")
				err := s.SendData("late")
				require.ErrorIs(t, err, sse.ErrClosed)
				require.ErrorIs(t, err, cmp.Or(tt.cause, sse.ErrClosed))
				require.Equal(t, err, s.Comment("late"))
				require.ErrorIs(t, s.Heartbeat(sse.Heartbeat{Period: time.Hour}), sse.ErrClosed)
				require.ErrorIs(t, s.Open(), sse.ErrClosed)
			})
		}
	}
}

// A net/http client can tell a complete stream from one that was broken off, too.
func TestDetachEndsAsAClientSeesThem(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]error{sse.ErrClosed: nil, sse.ErrSlow: nil, errOwn: io.ErrUnexpectedEOF} {
		d := newDetachServer(t, overTCP, sse.Config{})
		c := connect(t, d.srv, "/")
		s := testkit.Receive(t, d.sessions)
		s.hub.End(cause)
		body, err := c.rest()
		require.Equal(t, openFrame, body)
		require.Equal(t, want, err)
	}
}

func TestDetachHandlerThatFails(t *testing.T) {
	t.Parallel()
	ends := map[string]struct {
		end    func(s *sse.ServerSession) error
		reason sse.EndReason
	}{
		"another's cancellation": {func(*sse.ServerSession) error { return context.Canceled }, sse.EndHandlerError},
		"another's close":        {func(*sse.ServerSession) error { return fmt.Errorf("pool: %w", sse.ErrClosed) }, sse.EndHandlerError},
	}
	maps.Copy(ends, brokenEnds)
	for name, tt := range ends {
		for _, detach := range []bool{false, true} { // both end in the same way
			t.Run(fmt.Sprint(name, " detached ", detach), func(t *testing.T) {
				t.Parallel()
				tr := overTCP
				var panics atomic.Int64
				d := newDetachServer(t, tr, sse.Config{}, func(d *detachServer) {
					d.Use(func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							defer func() {
								if recover() != nil {
									panics.Add(1)
									w.WriteHeader(http.StatusInternalServerError)
									io.WriteString(w, "sorry")
								}
							}()
							next.ServeHTTP(w, r)
						})
					})
					d.after = func(s *detached) error { return tt.end(s.ServerSession) }
					d.SSE("/ordinary", func(s *sse.ServerSession) error {
						testkit.NoError(t, s.SendData("open"))
						return tt.end(s)
					})
				})
				path := "/ordinary"
				if detach {
					path = "/"
				}
				w := tr.ask(t, d.srv, "GET "+path+" HTTP/1.1\r\nHost: test\r\n\r\n")
				w.head()
				w.expect(chunk(openFrame))
				require.Empty(t, w.rest(), "a stream that is broken off has no last chunk, and nothing is sent in its place")
				e := testkit.Receive(t, d.ends)
				require.Equal(t, tt.reason, e.Reason)
				require.Error(t, e.Err)
				logged := d.logs.Entries("session ended")
				require.Len(t, logged, 1)
				if name != "abort" {
					require.Equal(t, slog.LevelError, logged[0].Level)
				}
				if detach {
					s := testkit.Receive(t, d.sessions)
					testkit.Receive(t, s.returned)
					testkit.ErrorIs(t, testkit.Receive(t, s.owner.ended), context.Cause(s.Context()))
					require.Zero(t, panics.Load())
				}
				require.Empty(t, d.ends, "OnClose was called twice")
				require.Empty(t, d.complaints.String())
			})
		}
	}
}

// Close ends the session at once. The response ends only when the handler returns.
func TestDetachSessionEndsBeforeTheHandlerReturns(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		returns func(s *detached) error
		reason  sse.EndReason
		rest    string
	}{
		"nil":           {func(*detached) error { return nil }, sse.EndClosed, lastChunk},
		"what it knows": {func(s *detached) error { return s.SendData("x") }, sse.EndClosed, lastChunk},
		"an error":      {func(*detached) error { return errOwn }, sse.EndHandlerError, ""},
		"a panic":       {func(*detached) error { panic(errOwn) }, sse.EndPanic, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			goOn := make(chan struct{})
			d := newDetachServer(t, overTCP, sse.Config{}, func(d *detachServer) {
				d.after = func(s *detached) error {
					testkit.NoError(t, s.Close())
					<-goOn
					return tt.returns(s)
				}
			})
			s, w := d.connect()
			testkit.Receive(t, s.Done())
			require.Equal(t, 1, d.Plugin().Len())
			require.Equal(t, []*sse.ServerSession{s.ServerSession}, slices.Collect(d.Plugin().Sessions()))
			require.NoError(t, w.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
			_, err := w.r.ReadByte()
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the response must not end before the handler returns")
			require.NoError(t, w.SetReadDeadline(time.Now().Add(testkit.Patience)))
			require.Empty(t, d.ends)
			require.Empty(t, s.owner.ended)
			close(goOn)
			require.Equal(t, tt.rest, w.rest())
			require.Equal(t, tt.reason, d.ended(s).Reason)
		})
	}
}

func TestDetachEndRacesWithTheReturn(t *testing.T) {
	t.Parallel()
	const rounds = 120
	var closed atomic.Int64
	var cfg sse.Config
	cfg.OnClose = func(*sse.ServerSession, sse.End) { closed.Add(1) }
	var w atomic.Pointer[rawClient]
	enders := []struct {
		end    func(s *detached)
		reason []sse.EndReason
	}{
		{func(s *detached) { s.Close() }, []sse.EndReason{sse.EndClosed}},
		{func(s *detached) { s.hub.End(errOwn) }, []sse.EndReason{sse.EndWriteError}},
		{func(*detached) { w.Load().tcp.Close() }, []sse.EndReason{sse.EndClientGone}},
		{func(s *detached) { s.hub.End(errOwn); s.hub.Interrupt(); s.hub.End(sse.ErrSlow) }, []sse.EndReason{sse.EndWriteError}},
		{func(s *detached) { go s.Close(); s.hub.End(errOwn) }, []sse.EndReason{sse.EndClosed, sse.EndWriteError}},
	}
	ready := make(chan struct{})
	d := newDetachServer(t, overTCP, cfg, func(d *detachServer) {
		d.after = func(*detached) error {
			<-ready
			return nil
		}
	})
	for i := range rounds {
		for _, e := range enders {
			s, c := d.connect()
			w.Store(c)
			var writers sync.WaitGroup
			writers.Go(func() {
				for range i % 3 {
					_ = s.SendData("x")
				}
			})
			writers.Go(func() { e.end(s) })
			ready <- struct{}{}
			writers.Wait()
			require.Contains(t, e.reason, d.ended(s).Reason)
			testkit.Receive(t, s.returned)
			c.Close()
		}
	}
	require.EqualValues(t, rounds*len(enders), closed.Load())
	require.Zero(t, d.Plugin().Len())
}

// As long as the handler runs, a cancellation of the request's context ends the session,
// detached or not. A deadline does not.
func TestDetachHandlerThatIsCanceled(t *testing.T) {
	t.Parallel()
	for name, deadline := range map[string]bool{"by a middleware": false, "by a deadline": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			goOn := make(chan struct{})
			d := newDetachServer(t, overTCP, sse.Config{}, func(d *detachServer) {
				d.Use(func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						ctx, cancel := context.WithCancelCause(r.Context())
						if deadline {
							var stop func()
							ctx, stop = context.WithTimeout(ctx, time.Millisecond)
							defer stop()
						} else {
							go func() { <-goOn; cancel(errOwn) }()
						}
						next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, tenantKey{}, ctx)))
						cancel(errOwn)
					})
				})
				d.after = func(s *detached) error {
					<-s.Context().Value(tenantKey{}).(context.Context).Done()
					if !deadline {
						<-s.Done()
					}
					return nil
				}
			})
			s, w := d.connect()
			close(goOn)
			testkit.Receive(t, s.returned)
			if deadline {
				require.NoError(t, s.SendData("x"))
				w.expect(chunk("data: x\n\n"))
				return
			}
			require.Empty(t, w.rest(), "the stream is broken off, without a last chunk")
			e := d.ended(s)
			require.Equal(t, sse.EndCanceled, e.Reason)
			require.ErrorIs(t, e.Err, errOwn)
		})
	}
}

// A session that is going to be detached has its own socket as soon as it is open. Until it is
// detached, it ends with its handler in the same way as an ordinary session.
func TestWillDetachEndsAsAnOrdinarySession(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("large ", 50_000)
	for name, handler := range map[string]sse.Handler{
		"returns":          func(s *sse.ServerSession) error { return s.SendData("x") },
		"returns at once":  func(*sse.ServerSession) error { return nil },
		"fails":            func(s *sse.ServerSession) error { return errors.Join(s.SendData("x"), errOwn) },
		"fails at once":    func(*sse.ServerSession) error { return sse.Error(http.StatusTeapot, nil) },
		"panics":           func(s *sse.ServerSession) error { testkit.NoError(t, s.SendData("x")); panic(errOwn) },
		"closes":           func(s *sse.ServerSession) error { testkit.NoError(t, s.SendData("x")); return s.Close() },
		"sends much":       func(s *sse.ServerSession) error { return errors.Join(s.Send(sse.Event{Data: large}), s.SendData("x")) },
		"sends much later": func(s *sse.ServerSession) error { return errors.Join(s.SendData("x"), s.Send(sse.Event{Data: large})) },
	} {
		for _, version := range []string{"1.0", "1.1"} {
			t.Run(name+" over HTTP/"+version, func(t *testing.T) {
				t.Parallel()
				type outcome struct {
					status   int
					body     string
					broken   bool
					end      sse.End
					panicked any
				}
				run := func(t *testing.T, announced bool) (o outcome) {
					t.Helper()
					var cfg sse.Config
					ends := endsOf(&cfg)
					cfg.Retry, cfg.Logger = time.Second, testkit.NewLog().Logger()
					r := newRouter(cfg)
					panics := make(chan any, 1)
					r.Use(func(next http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							defer func() { panics <- recover() }()
							next.ServeHTTP(w, r)
						})
					})
					r.SSE("/", func(s *sse.ServerSession) error {
						if announced {
							engine.Of(s).WillDetach()
							defer func() { assert.False(t, ofNetHTTP(s)) }()
						}
						return handler(s)
					})
					w := overTCP.ask(t, serve(t, r), "GET / HTTP/"+version+"\r\nHost: test\r\nConnection: close\r\n\r\n")
					resp, err := http.ReadResponse(w.r, nil)
					require.NoError(t, err)
					defer resp.Body.Close()
					body, err := io.ReadAll(resp.Body)
					e := testkit.Receive(t, ends)
					e.Duration = 0
					if p, ok := errors.AsType[*sse.PanicError](e.Err); ok {
						p.Stack = nil
					}
					return outcome{resp.StatusCode, string(body), err != nil, e, testkit.Receive(t, panics)}
				}
				ordinary, announced := run(t, false), run(t, true)
				require.Equal(t, ordinary, announced)
			})
		}
	}
}

// If the session is open already, it gets its socket at once, unless the head has told the
// client that the connection can be used again.
func TestWillDetachOfAnOpenSession(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		request string
		header  string
		opening func(s *sse.ServerSession) error
		socket  bool
	}{
		"after a Send":              {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", "", func(s *sse.ServerSession) error { return s.SendData("x") }, false},
		"after Open":                {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", "", (*sse.ServerSession).Open, false},
		"after a heartbeat":         {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", "", func(s *sse.ServerSession) error { return s.Heartbeat(sse.Heartbeat{}) }, false},
		"after the OpenDelay":       {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", "", waitOpen, false},
		"the handler's last":        {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", "Close", (*sse.ServerSession).Open, true},
		"another header":            {"GET / HTTP/1.1\r\nHost: test\r\n\r\n", "keep-alive", (*sse.ServerSession).Open, false},
		"the client's last":         {"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", "", (*sse.ServerSession).Open, true},
		"HTTP/1.0":                  {"GET / HTTP/1.0\r\nHost: test\r\n\r\n", "", (*sse.ServerSession).Open, true},
		"HTTP/1.0, to be kept":      {"GET / HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n", "", (*sse.ServerSession).Open, true},
		"HTTP/1.0, without a delay": {"GET / HTTP/1.0\r\nHost: test\r\n\r\n", "", waitOpen, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, tr := range transports {
				r := newRouter(sse.Config{OpenDelay: time.Millisecond})
				r.SSE("/", func(s *sse.ServerSession) error {
					if tt.header != "" {
						s.Header().Set("Connection", tt.header)
					}
					testkit.NoError(t, tt.opening(s))
					engine.Of(s).WillDetach()
					assert.Equal(t, tt.socket, !ofNetHTTP(s))
					assert.Equal(t, tt.socket, engine.Of(s).Detach())
					testkit.NoError(t, s.SendData("y"))
					return s.Close()
				})
				w := tr.ask(t, serve(t, r, tr.setup), tt.request)
				head := w.head()
				keeps := strings.HasPrefix(tt.request, "GET / HTTP/1.1") && !tt.socket
				require.Equal(t, keeps, strings.Contains(head, "\r\nConnection: keep-alive\r\n"), head)
				if !keeps {
					require.Contains(t, w.rest(), "data: y\n\n")
					continue
				}
				for again := range 3 { // as the head has promised
					body, err := io.ReadAll(httputil.NewChunkedReader(w.r))
					require.NoError(t, err)
					require.Contains(t, string(body), "data: y\n\n")
					w.expect("\r\n") // which the reader leaves
					if again < 2 {
						_, err = io.WriteString(w.Conn, tt.request)
						require.NoError(t, err)
						require.Contains(t, w.head(), "200 OK")
					}
				}
			}
		})
	}
}

// waitOpen waits until the OpenDelay has opened s.
func waitOpen(s *sse.ServerSession) error {
	for engine.Of(s).Progress() == 0 {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// ofNetHTTP reports whether s is open and its connection is net/http's: otherwise its header is
// empty.
func ofNetHTTP(s *sse.ServerSession) bool {
	return s.Header().Get("Content-Type") == "text/event-stream"
}
