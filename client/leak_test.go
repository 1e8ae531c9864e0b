// What a session leaves when it ends: no connection and no goroutine.

package client_test

import (
	"compress/gzip"
	"context"
	"errors"
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
	"github.com/chi-sse/sse/internal/testkit"
)

// closeWays lists what a caller can do with an open session that has an event.
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
		for range s.Incoming() { //nolint:errcheck // any error will do
			s.Close()
		}
		return nil
	},
	"Close without reading": func(s *client.Session, _ context.CancelFunc) error { return s.Close() },
	"Close while reading": func(s *client.Session, _ context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // any error will do
			go s.Close()
		}
		return nil
	},
	"cancel in the loop": func(s *client.Session, cancel context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // any error will do
			cancel()
		}
		return nil
	},
	"cancel without reading": func(_ *client.Session, cancel context.CancelFunc) error {
		cancel()
		return nil
	},
	"cancel while reading": func(s *client.Session, cancel context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // any error will do
			go cancel()
		}
		return nil
	},
	"a panic in the loop": func(s *client.Session, _ context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // any error will do
			panic(errCloseWhy)
		}
		return nil
	},
	"a panic in the block": func(*client.Session, context.CancelFunc) error { panic(errCloseWhy) },
	"the goroutine's end": func(s *client.Session, _ context.CancelFunc) error {
		for range s.Incoming() { //nolint:errcheck // any error will do
			runtime.Goexit()
		}
		return nil
	},
}

// closeRun calls SSE with way as its block, in a new goroutine, and waits for the end. It
// does not cancel the context before the test ends, so SSE must free everything itself.
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
	testkit.NoLeak(t)
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
				// A busy machine may pause for a second, but not three times in a row.
				fastest := time.Hour
				for range 3 {
					var begin time.Time
					closeRun(t, c, srv.URL, func(s *client.Session, cancel context.CancelFunc) error {
						begin = time.Now()
						return way(s, cancel)
					})
					fastest = min(fastest, testkit.Receive(t, gone).Sub(begin))
				}
				require.Less(t, fastest, time.Second)
			})
		}
	})
}

// closeEncoded sends a stream that the Transport decompresses.
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

// Several goroutines stop a session at random moments. The session must end with one of
// the errors that they asked for. The race detector finds what they share.
func TestStopsAtAnyMoment(t *testing.T) {
	testkit.NoLeak(t)
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
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
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
	testkit.NoLeak(t)
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
		c := install(srv.Client(), client.Config{IdleTimeout: testkit.Patience, MaxEventSize: 1 << 10})
		for range 10 {
			for name, way := range closeWays {
				ended := false
				closeRun(t, c, srv.URL, func(s *client.Session, cancel context.CancelFunc) error {
					ended = true
					return way(s, cancel)
				})
				require.True(t, ended, "the connection before this one is still open, %s", name)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_, err := c.Session(ctx, srv.URL+"/head")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), testkit.Patience)
			for _, path := range []string{"/404", "/plain", "/cut", "/204", "/redirect", "/end", "/large"} {
				err := c.SSE(ctx, srv.URL+path, func(s *client.Session) error { _, err := collect(s); return err })
				require.NotErrorIs(t, err, context.DeadlineExceeded, "the connection of %s, or of the path before it, is still in use", path)
			}
			// When Session fails, the caller has nothing to close.
			_, err = c.Session(ctx, srv.URL+"/404")
			require.ErrorContains(t, err, "404")
			cancel()
		}
	})
}

func TestNormalEndPutsTheConnectionBack(t *testing.T) {
	testkit.NoLeak(t)
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

// If a hook of the caller panics, the client still closes the connection.
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

// closeContext is a context that package context does not know. Each context that is
// derived from it costs a goroutine until it is canceled.
type closeContext struct {
	context.Context
	done chan struct{}
}

func (c closeContext) Done() <-chan struct{} { return c.done }

func (c closeContext) Value(any) any { return nil }

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
			testkit.NoLeak(t)
			t.Cleanup(srv.Client().CloseIdleConnections)
			for range 10 {
				_, err := c.Session(ctx, tt.url, tt.options...)
				require.Error(t, err)
			}
		})
	}
}

// closeGoroutines waits until all goroutines of the bubble wait, and returns how many
// goroutines all bubbles have.
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
			" with an EventTimeout": {EventTimeout: time.Hour},
			" with reconnections":   {MaxReconnectionAttempts: client.Unlimited},
			" with a larger buffer": {BufferPolicy: client.All},
		} {
			ownIdle, ownReading := count(t, protocols, func(ctx context.Context, hc *http.Client) func() {
				cfg.Logger = nil
				s, err := install(hc, cfg).Session(ctx, "http://lab/")
				require.NoError(t, err)
				return func() { _, _ = collect(s) }
			})
			require.Equal(t, idle, ownIdle, "goroutines of %s%s, not read", protocol, name)
			require.Equal(t, reading, ownReading, "goroutines of %s%s, read", protocol, name)
		}
	}
}
