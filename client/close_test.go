// Stopping a session by its context or by Close, whatever it is doing.

package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

var errCloseWhy = errors.New("why it was stopped")

// closeAt is when a test stops its session, since the start of the bubble.
const closeAt = 10 * time.Second

// closeStops lists the ways to stop a session at closeAt from another goroutine.
var closeStops = map[string]struct {
	ctx  func(context.Context) (context.Context, context.CancelFunc)
	stop func(*client.Session) // nil if ctx stops it
	is   []error
	not  []error
}{
	"cancel": {ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(closeAt, cancel)
		return ctx, cancel
	}, is: []error{context.Canceled}, not: []error{client.ErrClosed}},
	"cancel with a cause": {ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancelCause(ctx)
		time.AfterFunc(closeAt, func() { cancel(errCloseWhy) })
		return ctx, func() { cancel(nil) }
	}, is: []error{context.Canceled, errCloseWhy}, not: []error{client.ErrClosed}},
	"deadline": {ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, closeAt)
	}, is: []error{context.DeadlineExceeded}, not: []error{client.ErrClosed, context.Canceled}},
	"deadline with a cause": {ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeoutCause(ctx, closeAt, errCloseWhy)
	}, is: []error{context.DeadlineExceeded, errCloseWhy}, not: []error{client.ErrClosed, context.Canceled}},
	"Close": {ctx: context.WithCancel, stop: func(s *client.Session) {
		s.Close()
	}, is: []error{client.ErrClosed}, not: []error{context.Canceled}},
	"Close twice": {ctx: context.WithCancel, stop: func(s *client.Session) {
		s.Close()
		s.Close()
	}, is: []error{client.ErrClosed}, not: []error{context.Canceled}},
	"Close from many": {ctx: context.WithCancel, stop: func(s *client.Session) {
		for range 10 {
			go s.Close()
		}
	}, is: []error{client.ErrClosed}, not: []error{context.Canceled}},
}

// closeProtocols lists the protocols that work over the pipes of a bubble.
func closeProtocols() map[string]*http.Protocols {
	return map[string]*http.Protocols{"HTTP/1.1": testkit.HTTP1.Protocols(), "h2c": testkit.H2C.Protocols()}
}

// closePhase describes what a session is doing when it is stopped.
type closePhase struct {
	step     reconnectStep // the step in which the server hangs; nil if the request does not reach it
	dialing  bool
	refused  bool // the connection is refused, and the session waits for the next attempt
	unopened bool // this can also happen before the session opens
}

func closePhases() map[string]closePhase {
	return map[string]closePhase{
		"in the stream": {step: func(w http.ResponseWriter, r *http.Request) {
			send(w, ": open\n\n")
			<-r.Context().Done()
		}},
		"inside of an event": {step: func(w http.ResponseWriter, r *http.Request) {
			send(w, "data: half\n")
			<-r.Context().Done()
		}},
		"before the head": {step: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, unopened: true},
		"in the body of a refusal": {step: func(w http.ResponseWriter, r *http.Request) {
			bubbleStart := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
			time.Sleep(time.Until(bubbleStart.Add(closeAt - 250*time.Millisecond))) // the client reads the body for 500 ms
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, unopened: true},
		"during the dial":        {dialing: true, unopened: true},
		"while waiting to retry": {refused: true, unopened: true},
	}
}

// closeLab returns a lab whose session reaches phase: after an event if opens is true,
// with its first connection otherwise. gone returns when the server noticed that the
// client left. It returns closeAt for the phases in which the server has no connection.
// (net/http goes on with a dial, because a later request may use the connection.)
func closeLab(t *testing.T, protocols *http.Protocols, phase closePhase, opens bool) (l *reconnectLab, gone func() time.Duration) {
	t.Helper()
	var left atomic.Int64
	note := func() { left.Store(int64(time.Since(l.start))) }
	var steps reconnectSteps
	if opens {
		steps = reconnectSteps{reconnectText("data: x\n\n")}
	}
	hang := reconnectText("")
	switch {
	case phase.refused:
		hang = nil
	case phase.step != nil:
		hang = func(w http.ResponseWriter, r *http.Request) {
			defer note()
			phase.step(w, r)
		}
	}
	l = newReconnectLabOf(t, protocols, append(steps, hang))
	if phase.dialing {
		stall := func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		if !opens {
			l.dial.Store(&stall)
		} else {
			time.AfterFunc(time.Second, func() { l.dial.Store(&stall) })
		}
	}
	return l, func() time.Duration {
		synctest.Wait()
		if phase.refused || phase.dialing {
			return closeAt
		}
		return time.Duration(left.Load())
	}
}

func closeConfig(phase closePhase) client.Config {
	cfg := client.Config{MaxReconnectionAttempts: client.Unlimited, ReconnectionTime: 3 * time.Second, OpenTimeout: -1}
	if phase.refused {
		cfg.ReconnectionTime = time.Hour
	}
	return cfg
}

// requireStopped asserts that err reports that the session was stopped: it matches every
// error in is and none in not.
func requireStopped(t *testing.T, err error, is, not []error) {
	t.Helper()
	require.Error(t, err)
	for _, target := range is {
		require.ErrorIs(t, err, target)
	}
	for _, target := range not {
		require.NotErrorIs(t, err, target)
	}
	own, ok := errors.AsType[*client.Error](err)
	require.False(t, ok, "it is an *Error, as if the connection had failed: %v", own)
	require.True(t, strings.HasPrefix(err.Error(), "client: "), "%v", err)
}

func TestStopEndsAnOpenSessionAtOnce(t *testing.T) {
	t.Parallel()
	for protocol, protocols := range closeProtocols() {
		for name, phase := range closePhases() {
			for how, stop := range closeStops {
				t.Run(protocol+", "+name+", "+how, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						l, gone := closeLab(t, protocols, phase, true)
						ctx, cancel := stop.ctx(t.Context())
						defer cancel()
						var ended error
						errs := 0
						err := client.Install(l.http, l.config(closeConfig(phase))).SSE(ctx, "http://lab/", func(s *client.Session) error {
							if stop.stop != nil {
								time.AfterFunc(closeAt, func() { stop.stop(s) })
							}
							for ev, err := range s.Incoming() {
								if err != nil {
									require.Zero(t, ev)
									ended = err
									errs++
								}
							}
							require.Equal(t, closeAt, time.Since(l.start))
							_, again := collect(s)
							require.Equal(t, ended, again, "a second loop ended differently")
							return ended
						})
						require.Equal(t, 1, errs)
						require.Equal(t, ended, err)
						requireStopped(t, err, stop.is, stop.not)
						require.Equal(t, closeAt, gone())
						l.requireNoMoreRequests()
					})
				})
			}
		}
	}
}

func TestStopEndsTheOpeningAtOnce(t *testing.T) {
	t.Parallel()
	for protocol, protocols := range closeProtocols() {
		for name, phase := range closePhases() {
			for how, stop := range closeStops {
				if !phase.unopened || stop.stop != nil {
					continue
				}
				t.Run(protocol+", "+name+", "+how, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						l, gone := closeLab(t, protocols, phase, false)
						ctx, cancel := stop.ctx(t.Context())
						defer cancel()
						err := client.Install(l.http, l.config(closeConfig(phase))).SSE(ctx, "http://lab/", func(*client.Session) error {
							t.Error("SSE called the block")
							return nil
						})
						require.Equal(t, closeAt, time.Since(l.start))
						requireStopped(t, err, stop.is, stop.not)
						require.Equal(t, closeAt, gone())
						l.requireNoMoreRequests()
					})
				})
			}
		}
	}
}

// The session is stopped while no goroutine reads it: before the loop begins, or while the
// body of the loop runs.
func TestStopFreesAConnectionThatIsNotRead(t *testing.T) {
	t.Parallel()
	for protocol, protocols := range closeProtocols() {
		for how, stop := range closeStops {
			for _, busy := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, in the loop: %v", protocol, how, busy), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						var left atomic.Int64
						var l *reconnectLab
						l = newReconnectLabOf(t, protocols, reconnectSteps{func(w http.ResponseWriter, r *http.Request) {
							send(w, "data: 1\n\ndata: 2\n\n")
							<-r.Context().Done()
							left.Store(int64(time.Since(l.start)))
						}})
						ctx, cancel := stop.ctx(t.Context())
						defer cancel()
						s, err := client.Install(l.http, l.config(closeConfig(closePhase{}))).Session(ctx, "http://lab/")
						require.NoError(t, err)
						if stop.stop != nil {
							time.AfterFunc(closeAt, func() { stop.stop(s) })
						}
						var events []client.Event
						if busy {
							for ev, err2 := range s.Incoming() {
								if err = err2; err2 == nil {
									events = append(events, ev)
									time.Sleep(2 * closeAt)
								}
							}
							require.Len(t, events, 1, "the second event was handed out")
						} else {
							time.Sleep(2 * closeAt)
							events, err = collect(s)
							require.Empty(t, events)
						}
						requireStopped(t, err, stop.is, stop.not)
						require.Equal(t, 2*closeAt, time.Since(l.start))
						require.Equal(t, int64(closeAt), left.Load())
						require.NoError(t, s.Close())
					})
				})
			}
		}
	}
}

func TestSessionOfAContextThatIsDoneAlready(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newReconnectLab(t, nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errCloseWhy)
		_, err := l.run(ctx, client.Config{MaxReconnectionAttempts: client.Unlimited})
		requireStopped(t, err, []error{context.Canceled, errCloseWhy}, nil)
		require.Empty(t, l.retries)
	})
}

func TestCloseOfRead(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*client.Session){
		"Close": func(s *client.Session) { s.Close() },
		"Close from many": func(s *client.Session) {
			for range 10 {
				go s.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				body, server := io.Pipe()
				s := client.Read(context.Background(), body)
				time.AfterFunc(closeAt, func() { stop(s) })
				begin := time.Now()
				_, err := collect(s)
				require.Equal(t, client.ErrClosed, err)
				require.Equal(t, closeAt, time.Since(begin))
				_, err = server.Write([]byte("x"))
				require.ErrorIs(t, err, io.ErrClosedPipe)
			})
		})
	}
	t.Run("break", func(t *testing.T) {
		t.Parallel()
		body, server := io.Pipe()
		go func() { _, _ = io.WriteString(server, "data: 1\n\ndata: 2\n\n") }()
		s := client.Read(context.Background(), body)
		for _, err := range s.Incoming() {
			require.NoError(t, err)
			break
		}
		_, err := server.Write([]byte("x"))
		require.ErrorIs(t, err, io.ErrClosedPipe)
		_, err = collect(s)
		require.Equal(t, client.ErrClosed, err)
	})
	t.Run("without reading", func(t *testing.T) {
		t.Parallel()
		body, server := io.Pipe()
		require.NoError(t, client.Read(context.Background(), body).Close())
		_, err := server.Write([]byte("x"))
		require.ErrorIs(t, err, io.ErrClosedPipe)
	})
	t.Run("the end", func(t *testing.T) {
		t.Parallel()
		body, server := io.Pipe()
		go func() {
			_, _ = io.WriteString(server, "data: 1\n\n")
			server.Close()
		}()
		s := client.Read(context.Background(), body)
		events, err := collect(s)
		require.NoError(t, err)
		require.Len(t, events, 1)
		_, err = body.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.ErrClosedPipe, "the body is not closed")
		require.NoError(t, s.Close())
	})
}
