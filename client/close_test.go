package client_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

var errCloseWhy = errors.New("why it was stopped")

// closeAt is when everything is stopped, from a bubble's start.
const closeAt = 10 * time.Second

// closeStops are the ways to stop a session at closeAt, from elsewhere.
var closeStops = map[string]struct {
	ctx  func(context.Context) (context.Context, context.CancelFunc)
	stop func(*client.Session) // or nil
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

// closeProtocols are those that a bubble can have.
func closeProtocols() map[string]*http.Protocols {
	http1, http2 := new(http.Protocols), new(http.Protocols)
	http1.SetHTTP1(true)
	http2.SetUnencryptedHTTP2(true)
	return map[string]*http.Protocols{"HTTP/1.1": http1, "h2c": http2}
}

// closePhase is something that a session can be at when it is stopped.
type closePhase struct {
	step     reconnectStep // that it hangs in, if it has come to the server
	dialing  bool
	refused  bool // it waits for the next attempt
	unopened bool // it can be the first connection's as well
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
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, unopened: true},
		"during the dial":        {dialing: true, unopened: true},
		"while waiting to retry": {refused: true, unopened: true},
	}
}

// closeLab returns a lab whose session comes to the phase, after an event if it is
// to open before, and what says when the server was left. (A dial is net/http's,
// which goes on with it for the benefit of later requests.)
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

// requireStopped checks an error that has ended a session.
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
	require.False(t, ok, "no fault of the connection's: %v", own)
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
							require.Equal(t, ended, again, "the same again")
							return ended
						})
						require.Equal(t, 1, errs)
						require.Equal(t, ended, err)
						requireStopped(t, err, stop.is, stop.not)
						require.Equal(t, closeAt, gone())
						before := l.requests()
						time.Sleep(24 * time.Hour)
						require.Equal(t, before, l.requests())
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
							t.Error("the block must not run")
							return nil
						})
						require.Equal(t, closeAt, time.Since(l.start))
						requireStopped(t, err, stop.is, stop.not)
						require.Equal(t, closeAt, gone())
						before := l.requests()
						time.Sleep(24 * time.Hour)
						require.Equal(t, before, l.requests())
					})
				})
			}
		}
	}
}

// Nobody reads when it happens: not yet, or because the loop's body takes its time.
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
							require.Len(t, events, 1, "the second is not handed out")
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

// closeWays are what a caller can do with a session that is open, and has an event.
var closeWays = map[string]func(s *client.Session, cancel context.CancelFunc) error{
	"break": func(s *client.Session, _ context.CancelFunc) error {
		for _, err := range s.Incoming() {
			return err
		}
		return nil
	},
	"an error of the block": func(s *client.Session, _ context.CancelFunc) error {
		for _, err := range s.Incoming() {
			return errors.Join(err, errCloseWhy)
		}
		return nil
	},
	"a return without reading": func(*client.Session, context.CancelFunc) error { return nil },
	"Close in the loop": func(s *client.Session, _ context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // the end is what it is
			s.Close()
		}
		return nil
	},
	"Close without reading": func(s *client.Session, _ context.CancelFunc) error { return s.Close() },
	"Close while reading": func(s *client.Session, _ context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // the end is what it is
			go s.Close()
		}
		return nil
	},
	"cancel in the loop": func(s *client.Session, cancel context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // the end is what it is
			cancel()
		}
		return nil
	},
	"cancel without reading": func(_ *client.Session, cancel context.CancelFunc) error {
		cancel()
		return nil
	},
	"cancel while reading": func(s *client.Session, cancel context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // the end is what it is
			go cancel()
		}
		return nil
	},
	"a panic in the loop": func(s *client.Session, _ context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // the end is what it is
			panic(errCloseWhy)
		}
		return nil
	},
	"a panic in the block": func(*client.Session, context.CancelFunc) error { panic(errCloseWhy) },
	"the goroutine's end": func(s *client.Session, _ context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // the end is what it is
			runtime.Goexit()
		}
		return nil
	},
}

// closeRun runs way in a session, in a goroutine of its own, to its end. What way
// leaves to be done is SSE's to do: the context lives for as long as the test.
func closeRun(t *testing.T, c *client.Client, url string, way func(*client.Session, context.CancelFunc) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		_ = c.SSE(ctx, url, func(s *client.Session) error { return way(s, cancel) })
	}()
	<-done
}

func TestServerSeesTheConnectionGoWithinASecond(t *testing.T) {
	noLeak(t)
	gone := make(chan time.Time)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: x\n\n")
		<-r.Context().Done()
		gone <- time.Now()
	})
	overEach(t, handler, func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		c := install(srv.Client(), client.Config{})
		for name, way := range closeWays {
			t.Run(name, func(t *testing.T) {
				// Such a machine may stop for a second at any time, but not each time.
				fastest := time.Hour
				for range 3 {
					var begin time.Time
					closeRun(t, c, srv.URL, func(s *client.Session, cancel context.CancelFunc) error {
						begin = time.Now()
						return way(s, cancel)
					})
					select {
					case at := <-gone:
						fastest = min(fastest, at.Sub(begin))
					case <-time.After(patience):
						require.FailNow(t, "the server still waits for a client that has left")
					}
				}
				require.Less(t, fastest, time.Second)
			})
		}
	})
}

// closeEncoded is a stream that a Transport decompresses.
func closeEncoded(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	for r.Context().Err() == nil {
		io.WriteString(z, "data: x\n\n")
		_ = z.Flush()
		_ = http.NewResponseController(w).Flush()
	}
}

// A session is stopped from everywhere at once, at any moment, and each end is one
// of those that were asked for. The race detector watches.
func TestStopsAtAnyMoment(t *testing.T) {
	noLeak(t)
	var n atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) % 6 {
		case 0:
			closeEncoded(w, r)
		case 1:
			for r.Context().Err() == nil {
				send(w, "data: x\n\n")
			}
		case 2:
			send(w, "data: x\n\n")
		case 3:
			send(w, "data: x\n")
			panic(http.ErrAbortHandler)
		case 4:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 5:
			<-r.Context().Done()
		}
	})
	overEach(t, handler, func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		cfg := resumeConfig()
		cfg.IdleTimeout = time.Millisecond
		c := install(srv.Client(), cfg)
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			var stops sync.WaitGroup
			stops.Go(func() {
				time.Sleep(rand.N(5 * time.Millisecond))
				cancel()
			})
			err := c.SSE(ctx, srv.URL, func(s *client.Session) error {
				for range 3 {
					stops.Go(func() {
						time.Sleep(rand.N(3 * time.Millisecond))
						s.Close()
						s.Call()
					})
				}
				var err error
				for _, err = range s.Incoming() {
				}
				return err
			})
			stops.Wait()
			cancel()
			require.True(t, errors.Is(err, client.ErrClosed) || errors.Is(err, context.Canceled), "%v", err)
		}
	})
}

func TestRoundsDoNotExhaustThePool(t *testing.T) {
	noLeak(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/head":
			<-r.Context().Done()
		case "/404":
			http.Error(w, strings.Repeat("x", 1<<20), http.StatusNotFound)
		case "/plain":
			io.WriteString(w, strings.Repeat("x", 1<<20))
		case "/cut":
			send(w, "data: x\n\n")
			panic(http.ErrAbortHandler)
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/redirect":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/large":
			send(w, "data: %s\n\n", strings.Repeat("x", 1<<20))
			<-r.Context().Done()
		case "/end":
			send(w, "data: x\n\n")
		default:
			send(w, "data: x\n\n")
			<-r.Context().Done()
		}
	})
	overEach(t, handler, func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		srv.Client().Transport.(*http.Transport).MaxConnsPerHost = 1
		c := install(srv.Client(), client.Config{IdleTimeout: patience, MaxEventSize: 1 << 10})
		for range 10 {
			for name, way := range closeWays {
				ended := false
				closeRun(t, c, srv.URL, func(s *client.Session, cancel context.CancelFunc) error {
					ended = true
					return way(s, cancel)
				})
				require.True(t, ended, "after one of the others, %s", name)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, err := c.Session(ctx, srv.URL+"/head")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), patience)
			for _, path := range []string{"/404", "/plain", "/cut", "/204", "/redirect", "/end", "/large"} {
				err := c.SSE(ctx, srv.URL+path, func(s *client.Session) error { _, err := collect(s); return err })
				require.NotErrorIs(t, err, context.DeadlineExceeded, "the connection of %s, or the one before it", path)
			}
			// Session leaves nothing to close when it fails.
			_, err = c.Session(ctx, srv.URL+"/404")
			require.ErrorContains(t, err, "404")
			cancel()
		}
	})
}

func TestNormalEndPutsTheConnectionBack(t *testing.T) {
	noLeak(t)
	var mu sync.Mutex
	var from []string
	n := 0
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from = append(from, r.RemoteAddr)
		n++
		end := n%4 == 0
		mu.Unlock()
		if end {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		send(w, "data: x\n\n")
	})
	overEach(t, handler, func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		from = nil
		c := install(srv.Client(), resumeConfig())
		for range 3 {
			events, err := collect(session(t, c, srv.URL))
			require.NoError(t, err)
			require.Len(t, events, 3)
		}
		once := install(srv.Client(), client.Config{})
		for range 3 {
			events, err := collect(session(t, once, srv.URL))
			require.NoError(t, err)
			require.Len(t, events, 1)
		}
		require.Len(t, from, 15)
		for _, addr := range from {
			require.Equal(t, from[0], addr)
		}
		n = 0
	})
}

func TestIncomingTwice(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/end":
			send(w, "data: 1\n\ndata: 2\n\n")
		case "/cut":
			send(w, "data: 1\n\ndata: 2\n\n")
			panic(http.ErrAbortHandler)
		}
	})
	c := install(srv.Client(), client.Config{})
	again := func(t *testing.T, s *client.Session) error {
		t.Helper()
		var errs []error
		for range 3 {
			events, err := collect(s)
			require.Empty(t, events)
			errs = append(errs, err)
		}
		require.Equal(t, errs[0], errs[1])
		require.Equal(t, errs[0], errs[2])
		return errs[0]
	}
	t.Run("after the end", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		events, err := collect(s)
		require.NoError(t, err)
		require.Len(t, events, 2)
		require.NoError(t, again(t, s))
		s.Close()
		require.NoError(t, again(t, s), "it has ended before it was closed")
	})
	t.Run("after 204", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/204")
		require.NoError(t, again(t, s))
	})
	t.Run("after the terminal event", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end", client.WithConfig(func(cfg *client.Config) {
			cfg.Terminal = func(ev client.Event) bool { return ev.Data == "1" }
		}))
		events, err := collect(s)
		require.NoError(t, err)
		require.Len(t, events, 1)
		require.NoError(t, again(t, s))
	})
	t.Run("after an error", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/cut")
		events, err := collect(s)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Len(t, events, 2)
		require.Same(t, err, again(t, s))
		s.Close()
		require.Same(t, err, again(t, s))
	})
	t.Run("after a break", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		for _, err := range s.Incoming() {
			require.NoError(t, err)
			break
		}
		require.Equal(t, client.ErrClosed, again(t, s))
	})
	t.Run("after a panic", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		require.Panics(t, func() {
			for range s.Incoming() { //nolint:errcheck // the end is what it is
				panic(errCloseWhy)
			}
		})
		require.Equal(t, client.ErrClosed, again(t, s))
	})
	t.Run("after Close", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		require.Equal(t, client.ErrClosed, again(t, s))
	})
	t.Run("while it runs", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		var events []client.Event
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			events = append(events, ev)
			require.ErrorContains(t, again(t, s), "running already")
		}
		require.Equal(t, []string{"1", "2"}, dataOf(events), "nothing is lost by it")
		require.NoError(t, again(t, s))
	})
	t.Run("an iterator that is used twice", func(t *testing.T) {
		t.Parallel()
		s := session(t, c, srv.URL+"/end")
		incoming := s.Incoming()
		n := 0
		for range 2 {
			for _, err := range incoming {
				require.NoError(t, err)
				n++
			}
		}
		require.Equal(t, 2, n)
	})
}

func TestWhatSSEReturns(t *testing.T) {
	t.Parallel()
	type block = func(s *client.Session, cancel context.CancelFunc) error
	read := func(s *client.Session) error { _, err := collect(s); return err }
	for name, tt := range map[string]struct {
		block block
		is    []error
		own   bool // an *Error
	}{
		"nothing after nothing": {func(*client.Session, context.CancelFunc) error { return nil }, nil, false},
		"nothing after cancel, if the block says so": {func(s *client.Session, cancel context.CancelFunc) error {
			cancel()
			_ = read(s)
			return nil
		}, nil, false},
		"what Incoming says after cancel": {func(s *client.Session, cancel context.CancelFunc) error {
			cancel()
			return read(s)
		}, []error{context.Canceled}, false},
		"what Incoming says, wrapped": {func(s *client.Session, cancel context.CancelFunc) error {
			cancel()
			return fmt.Errorf("my words: %w", read(s))
		}, []error{context.Canceled}, false},
		"the context's error": {func(_ *client.Session, cancel context.CancelFunc) error {
			cancel()
			return context.Canceled
		}, []error{context.Canceled}, false},
		"another's cancellation": {func(*client.Session, context.CancelFunc) error { return context.Canceled }, []error{context.Canceled}, true},
		"an error of its own, after cancel": {func(_ *client.Session, cancel context.CancelFunc) error {
			cancel()
			return errCloseWhy
		}, []error{errCloseWhy}, true},
		"an error of its own": {func(*client.Session, context.CancelFunc) error { return errCloseWhy }, []error{errCloseWhy}, true},
		"ErrClosed": {func(s *client.Session, _ context.CancelFunc) error {
			s.Close()
			return read(s)
		}, []error{client.ErrClosed}, false},
		"an error of its own, after Close": {func(s *client.Session, _ context.CancelFunc) error {
			s.Close()
			return errCloseWhy
		}, []error{errCloseWhy}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				send(w, "data: x\n\n")
				<-r.Context().Done()
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := install(srv.Client(), client.Config{}).SSE(ctx, srv.URL, func(s *client.Session) error { return tt.block(s, cancel) })
			if tt.is == nil {
				require.NoError(t, err)
			}
			for _, target := range tt.is {
				require.ErrorIs(t, err, target)
			}
			own, ok := errors.AsType[*client.Error](err)
			require.Equal(t, tt.own, ok, "%v", err)
			if ok {
				require.Equal(t, http.StatusOK, own.Response.StatusCode)
			}
		})
	}
}

func TestSSEReturnsAnErrorOfTheSessionAsItIs(t *testing.T) {
	t.Parallel()
	srv := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		send(w, "data: x\n\n")
		panic(http.ErrAbortHandler)
	})
	c := install(srv.Client(), client.Config{})
	for name, word := range map[string]func(error) error{
		"bare":    func(err error) error { return err },
		"wrapped": func(err error) error { return fmt.Errorf("my words: %w", err) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var own, said error
			err := c.SSE(t.Context(), srv.URL, func(s *client.Session) error {
				_, own = collect(s)
				said = word(own)
				return said
			})
			require.ErrorIs(t, own, io.ErrUnexpectedEOF)
			require.Same(t, said, err)
		})
	}
}

// A hook that panics is the caller's fault, but the connection is not the caller's
// to close.
func TestPanicOfAHookFreesTheConnection(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*client.Config){
		"OnOpen":   func(cfg *client.Config) { cfg.OnOpen = func(*http.Response) { panic(errCloseWhy) } },
		"Terminal": func(cfg *client.Config) { cfg.Terminal = func(client.Event) bool { panic(errCloseWhy) } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				left := false
				l := newReconnectLab(t, reconnectSteps{func(w http.ResponseWriter, r *http.Request) {
					send(w, "data: x\n\n")
					<-r.Context().Done()
					left = true
				}})
				cfg := l.config(client.Config{})
				edit(&cfg)
				require.PanicsWithValue(t, errCloseWhy, func() {
					_ = client.Install(l.http, cfg).SSE(t.Context(), "http://lab/", func(s *client.Session) error { _, err := collect(s); return err })
				})
				synctest.Wait()
				require.True(t, left)
			})
		})
	}
}

// closeContext is a context of which package context knows nothing, so that each
// that is derived from it and not canceled costs a goroutine.
type closeContext struct {
	context.Context
	done chan struct{}
}

func (c closeContext) Done() <-chan struct{} { return c.done }
func (c closeContext) Value(any) any         { return nil }

func TestSessionThatDoesNotOpenLeavesNothing(t *testing.T) {
	ctx := closeContext{t.Context(), make(chan struct{})}
	defer close(ctx.done)
	srv := serve(t, http.NotFound)
	c := install(srv.Client(), client.Config{})
	for name, tt := range map[string]struct {
		url     string
		options []client.Option
	}{
		"a method that is none":     {srv.URL, []client.Option{client.WithMethod("NO METHOD")}},
		"a URL that is none":        {"://", nil},
		"an option without a sense": {srv.URL, []client.Option{client.WithConfig(func(cfg *client.Config) { cfg.IdleTimeout = -1 })}},
		"a refusal":                 {srv.URL, nil},
		"a refused OnRequest": {srv.URL, []client.Option{client.WithConfig(func(cfg *client.Config) {
			cfg.OnRequest = func(*http.Request) error { return errCloseWhy }
		})}},
	} {
		t.Run(name, func(t *testing.T) {
			srv.Client().CloseIdleConnections()
			noLeak(t)
			t.Cleanup(srv.Client().CloseIdleConnections)
			for range 10 {
				_, err := c.Session(ctx, tt.url, tt.options...)
				require.Error(t, err)
			}
		})
	}
}

// closeGoroutines counts those of all bubbles, when they have come to rest.
func closeGoroutines() int {
	synctest.Wait()
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "synctest bubble")
}

func TestOpenSessionHasNoGoroutineOfItsOwn(t *testing.T) {
	stream := func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: x\n\n")
		<-r.Context().Done()
	}
	count := func(t *testing.T, protocols *http.Protocols, open func(ctx context.Context, hc *http.Client) (read func())) (idle, reading int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			l := newReconnectLabOf(t, protocols, reconnectSteps{stream})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			read := open(ctx, l.http)
			idle = closeGoroutines()
			go read()
			reading = closeGoroutines()
		})
		return idle, reading
	}
	for protocol, protocols := range closeProtocols() {
		idle, reading := count(t, protocols, func(ctx context.Context, hc *http.Client) func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://lab/", http.NoBody)
			require.NoError(t, err)
			resp, err := hc.Do(req)
			require.NoError(t, err)
			return func() {
				defer resp.Body.Close()
				_, _ = io.Copy(io.Discard, resp.Body)
			}
		})
		require.Equal(t, idle+1, reading)
		for name, cfg := range map[string]client.Config{
			"":                      {OpenTimeout: -1},
			" with an OpenTimeout":  {},
			" with an IdleTimeout":  {IdleTimeout: time.Hour},
			" with reconnections":   {MaxReconnectionAttempts: client.Unlimited},
			" with a larger buffer": {BufferPolicy: client.All},
		} {
			ownIdle, ownReading := count(t, protocols, func(ctx context.Context, hc *http.Client) func() {
				cfg.Logger = nil
				s, err := install(hc, cfg).Session(ctx, "http://lab/")
				require.NoError(t, err)
				return func() { _, _ = collect(s) }
			})
			require.Equal(t, idle, ownIdle, "%s%s, not read", protocol, name)
			require.Equal(t, reading, ownReading, "%s%s, read", protocol, name)
		}
	}
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
				s := client.Read(body)
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
		s := client.Read(body)
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
		require.NoError(t, client.Read(body).Close())
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
		s := client.Read(body)
		events, err := collect(s)
		require.NoError(t, err)
		require.Len(t, events, 1)
		_, err = body.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.ErrClosedPipe, "the body is closed")
		require.NoError(t, s.Close())
	})
}

// A request is made in a goroutine of its own, and nobody can tell.
func TestTransportPanicsAndExitsInTheCallersGoroutine(t *testing.T) {
	noLeak(t)
	open := func(trip func()) {
		c := install(&http.Client{Transport: closeTripper(trip)}, client.Config{MaxReconnectionAttempts: client.Unlimited})
		_, _ = c.Session(t.Context(), "http://lab/")
	}
	require.PanicsWithValue(t, errCloseWhy, func() { open(func() { panic(errCloseWhy) }) })
	exited, returned := make(chan struct{}), false
	go func() {
		defer close(exited)
		open(runtime.Goexit)
		returned = true
	}()
	<-exited
	require.False(t, returned)
}

// closeTripper calls itself in place of a request.
type closeTripper func()

func (f closeTripper) RoundTrip(*http.Request) (*http.Response, error) {
	f()
	return nil, errors.New("not reached")
}
