package sse_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestShutdownEndsOpenSessions(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.SSE("/", func(s *sse.ServerSession) error {
				if err := s.SendData("open"); err != nil {
					return err
				}
				<-s.Done()
				assert.Equal(t, sse.ErrShutdown, context.Cause(s.Context()))
				err := s.SendData("too late")
				testkit.ErrorIs(t, err, sse.ErrClosed)
				assert.ErrorIs(t, err, sse.ErrShutdown)
				return err
			})
			srv := serve(t, r, proto.Setup)
			streams := make([]*stream, 5)
			for i := range streams {
				streams[i] = connect(t, srv, "/")
				require.Equal(t, "open", streams[i].next().Data)
			}
			p := r.Plugin()
			require.Equal(t, 5, p.Len())
			require.NoError(t, p.Shutdown(t.Context()))
			require.Zero(t, p.Len())
			require.Empty(t, slices.Collect(p.Sessions()))
			for _, s := range streams {
				bye := s.next()
				require.Equal(t, sse.Event{Retry: bye.Retry}, bye)
				require.GreaterOrEqual(t, bye.Retry, 3*time.Second)
				require.Less(t, bye.Retry, 8*time.Second)
				s.end()
			}
			for range streams {
				e := testkit.Receive(t, ends)
				require.Equal(t, sse.EndShutdown, e.Reason)
				require.NoError(t, e.Err)
				require.EqualValues(t, 1, e.Events)
				require.EqualValues(t, len("data: open\n\nretry: 3000\n\n"), e.Bytes)
			}
			require.NoError(t, p.Shutdown(t.Context()), "a second Shutdown")
		})
	}
}

func TestShutdownTellsEachClientATimeOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg      sse.Config
		options  []sse.RouteOption
		from, to time.Duration
	}{
		"by default":            {sse.Config{}, nil, 3 * time.Second, 8 * time.Second},
		"after a retry":         {sse.Config{Retry: 10 * time.Second}, nil, 10 * time.Second, 15 * time.Second},
		"after a route's":       {sse.Config{Retry: 10 * time.Second}, []sse.RouteOption{sse.WithRetry(time.Second)}, time.Second, 6 * time.Second},
		"of a spread":           {sse.Config{ShutdownSpread: time.Minute}, nil, 3 * time.Second, 63 * time.Second},
		"after an immediate":    {sse.Config{Retry: sse.RetryImmediately}, nil, time.Millisecond, 6 * time.Second},
		"of the tiniest spread": {sse.Config{ShutdownSpread: 1}, nil, 3 * time.Second, 3*time.Second + time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRouter(tt.cfg)
				r.SSE("/", untilDone, tt.options...)
				p := servePipe(t, r)
				streams := make([]*stream, 50)
				for i := range streams {
					streams[i] = p.connect("/")
					require.Equal(t, "open", streams[i].nextData())
				}
				down := make(chan error)
				go func() { down <- r.Plugin().Shutdown(context.Background()) }()
				times := make(map[time.Duration]bool)
				sum := time.Duration(0)
				for _, s := range streams {
					retry := s.next().Retry
					s.end()
					require.GreaterOrEqual(t, retry, tt.from)
					require.Less(t, retry, tt.to)
					times[retry] = true
					sum += retry
				}
				require.NoError(t, <-down)
				if tt.to-tt.from > time.Second {
					require.Greater(t, len(times), 40, "nearly all retry times differ")
					middle := (tt.from + tt.to) / 2
					require.InDelta(t, middle.Seconds(), (sum / 50).Seconds(), (tt.to-tt.from).Seconds()/4, "the retry times are spread over the whole range")
				}
			})
		})
	}
}

func TestShutdownWithoutASpreadTellsNothing(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{ShutdownSpread: -1, Retry: time.Second})
	r.SSE("/", untilDone)
	srv := serve(t, r)
	s := connect(t, srv, "/")
	require.Equal(t, "open", s.nextData())
	require.NoError(t, r.Plugin().Shutdown(t.Context()))
	s.end()

	// A client that connects later must get a retry time, or it would not try again.
	a := get(t, srv, "/", browser...)
	require.Equal(t, http.StatusOK, a.Status)
	require.Contains(t, a.Body, "retry: 1000\n")
	require.Equal(t, "1", get(t, srv, "/").Header.Get("Retry-After"))
}

func TestShutdownAnswersPendingSessions(t *testing.T) {
	t.Parallel()
	var cfg sse.Config
	cfg.OpenDelay = -1
	ends := endsOf(&cfg)
	r := newRouter(cfg)
	r.SSE("/", func(s *sse.ServerSession) error {
		<-s.Done()
		return s.Send(sse.Event{})
	})
	srv := serve(t, r)
	var clients sync.WaitGroup
	clients.Go(func() {
		a := get(t, srv, "/", browser...)
		assert.Equal(t, http.StatusOK, a.Status)
		testkit.NoError(t, a.Err)
		assert.True(t, strings.HasPrefix(a.Body, "retry: "), a.Body)
	})
	clients.Go(func() {
		a := get(t, srv, "/")
		assert.Equal(t, http.StatusServiceUnavailable, a.Status)
		assert.NotEmpty(t, a.Header.Get("Retry-After"))
	})
	testkit.Eventually(t, func() bool { return r.Plugin().Len() == 2 }, "both sessions")
	require.NoError(t, r.Plugin().Shutdown(t.Context()))
	clients.Wait()
	for range 2 {
		e := testkit.Receive(t, ends)
		require.Equal(t, sse.EndShutdown, e.Reason)
		require.False(t, e.Opened)
	}
}

// A client that is in the middle of an event gets one second to read it.
func TestShutdownAndASlowClient(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		readsAfter time.Duration
		whole      bool
		longest    time.Duration
	}{
		"in time":  {900 * time.Millisecond, true, 900 * time.Millisecond},
		"too late": {time.Hour, false, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var cfg sse.Config
				cfg.OpenDelay, cfg.Heartbeat.Period = -1, -1 // a goroutine that waits for a lock would stop the time of the bubble
				ends := endsOf(&cfg)
				r := newRouter(cfg)
				r.SSE("/", func(s *sse.ServerSession) error {
					if err := s.SendData("open"); err != nil {
						return err
					}
					if err := s.SendData(strings.Repeat("x", 1<<20)); err != nil {
						return err
					}
					<-s.Done()
					return nil
				})
				s := servePipe(t, r).connect("/")
				require.Equal(t, "open", s.next().Data)
				synctest.Wait() // the large event is being written
				began := time.Now()
				down := make(chan error, 1)
				go func() { down <- r.Plugin().Shutdown(context.Background()) }()
				time.Sleep(tt.readsAfter)
				if tt.whole {
					require.Len(t, s.next().Data, 1<<20)
					require.NotZero(t, s.next().Retry)
					s.end()
				}
				require.NoError(t, <-down)
				e := <-ends
				require.Equal(t, sse.EndShutdown, e.Reason)
				require.LessOrEqual(t, e.Duration, tt.longest)
				if tt.whole {
					require.Equal(t, tt.readsAfter, time.Since(began))
				} else {
					_, err := s.rest()
					require.Error(t, err, "a stream that stops within an event must not look complete")
				}
			})
		})
	}
}

func TestShutdownEndsAStalledSession(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			cfg.WriteTimeout = time.Hour
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.SSE("/", func(s *sse.ServerSession) error {
				for {
					if err := s.SendData(strings.Repeat("x", 1<<20)); err != nil {
						return err
					}
				}
			})
			srv := serve(t, r, smallSendBuffer, proto.Setup)
			if proto.Proto == "HTTP/1.1" {
				_, err := io.ReadFull(dialRaw(t, srv, "/"), make([]byte, 1<<10))
				require.NoError(t, err)
			} else {
				connect(t, srv, "/")
			}
			time.Sleep(100 * time.Millisecond)
			began := time.Now()
			require.NoError(t, r.Plugin().Shutdown(t.Context()))
			require.Less(t, time.Since(began), 6*time.Second)
			require.Equal(t, sse.EndShutdown, testkit.Receive(t, ends).Reason)
		})
	}
}

func TestShutdownGivesUpOnHandlersThatIgnoreIt(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	r := newRouter(sse.Config{})
	r.SSE("/stubborn", func(s *sse.ServerSession) error {
		err := s.SendData("open")
		<-stop
		return err
	})
	r.SSE("/good", untilDone)
	srv := serve(t, r)
	giveIn := sync.OnceFunc(func() { close(stop) })
	t.Cleanup(giveIn)
	var streams []*stream
	for _, path := range []string{"/stubborn", "/good", "/stubborn", "/good", "/stubborn"} {
		s := connect(t, srv, path)
		require.Equal(t, "open", s.nextData())
		streams = append(streams, s)
	}
	p := r.Plugin()

	hurry := errors.New("hurry")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 200*time.Millisecond, hurry)
	defer cancel()
	err := p.Shutdown(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualError(t, err, "sse: shutdown with 3 handlers still running: context deadline exceeded")
	require.Equal(t, 3, p.Len())

	canceled, cancelNow := context.WithCancel(t.Context())
	cancelNow()
	require.ErrorIs(t, p.Shutdown(canceled), context.Canceled)

	giveIn()
	require.NoError(t, p.Shutdown(t.Context()), "Shutdown can be called again")
	require.NoError(t, p.Shutdown(canceled), "nothing is left to wait for")
	for _, s := range streams {
		require.NotZero(t, s.next().Retry)
		s.end()
	}
}

func TestShutdownWithoutSessions(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		p := newRouter(sse.Config{}).Plugin()
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() { assert.NoError(t, p.Shutdown(canceled)) })
		}
		all.Wait()
	}
}

func TestShutdownOfTheServerIsTold(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			r := newRouter(sse.Config{})
			r.SSE("/", untilDone)
			srv := serve(t, r, proto.Setup, func(srv *httptest.Server) { r.Plugin().Attach(srv.Config) })
			var streams []*stream
			for range 3 {
				s := connect(t, srv, "/")
				require.Equal(t, "open", s.nextData())
				streams = append(streams, s)
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
			defer cancel()
			down := make(chan error, 1)
			go func() { down <- srv.Config.Shutdown(ctx) }()
			for _, s := range streams {
				require.NotZero(t, s.next().Retry)
				s.end()
			}
			require.NoError(t, testkit.Receive(t, down))
			require.Less(t, time.Since(began), 5*time.Second)
			require.Zero(t, r.Plugin().Len())
		})
	}

	t.Run("else it waits in vain", func(t *testing.T) {
		t.Parallel()
		r := newRouter(sse.Config{})
		r.SSE("/", untilDone)
		srv := serve(t, r)
		require.Equal(t, "open", connect(t, srv, "/").nextData())
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, srv.Config.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, 1, r.Plugin().Len())
	})
}

func TestShutdownRefusesSessionsAfterwards(t *testing.T) {
	t.Parallel()
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			t.Parallel()
			var cfg sse.Config
			ends := endsOf(&cfg)
			r := newRouter(cfg)
			r.SSE("/", func(*sse.ServerSession) error { assert.Fail(t, "the handler ran"); return nil })
			r.Post("/post", r.SSEHandler(untilDone).ServeHTTP)
			r.Get("/plain", plain)
			srv := serve(t, r, proto.Setup)
			require.NoError(t, r.Plugin().Shutdown(t.Context()))
			requireRefused(t, srv, "/", "shutting down")
			require.Equal(t, http.StatusServiceUnavailable,
				request(t, srv, "POST", "/post", browser...).Status, "EventSource sends no POST requests")
			require.Equal(t, "plain", get(t, srv, "/plain").Body)
			require.Equal(t, http.StatusOK, request(t, srv, "HEAD", "/").Status)
			require.Zero(t, r.Plugin().Len())
			require.Empty(t, ends, "a request that is refused does not become a session")
		})
	}
}

// OnSend is called after every write, so also after the farewell.
func TestShutdownFarewellIsToldToOnSend(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var sent int64
	var cfg sse.Config
	ends := endsOf(&cfg)
	cfg.OnSend = func(_ *sse.ServerSession, s sse.Sent) {
		mu.Lock()
		defer mu.Unlock()
		sent += int64(s.Bytes)
	}
	r := newRouter(cfg)
	r.SSE("/", untilDone)
	s := connect(t, serve(t, r), "/")
	require.Equal(t, "open", s.nextData())
	require.NoError(t, r.Plugin().Shutdown(t.Context()))
	e := testkit.Receive(t, ends)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, e.Bytes, sent)
}

func TestDetachShutdown(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		const n = 20
		d := newDetachServer(t, tr, sse.Config{})
		sessions := make(map[*sse.ServerSession]bool)
		clients := make([]*rawClient, n)
		owners := make([]*stubHub, n)
		for i := range clients {
			s, w := d.connectReturned()
			sessions[s.ServerSession], clients[i], owners[i] = true, w, s.owner
		}
		p := d.Plugin()
		require.Equal(t, n, p.Len())
		for s := range p.Sessions() {
			require.True(t, sessions[s])
			delete(sessions, s)
		}
		require.Empty(t, sessions)
		require.NoError(t, p.Shutdown(t.Context()))
		require.Zero(t, p.Len())
		require.Empty(t, slices.Collect(p.Sessions()))
		for i, w := range clients {
			require.Regexp(t, `^d\r\nretry: \d{4}\n\n\r\n0\r\n\r\n$`, w.rest())
			require.Equal(t, sse.ErrShutdown, testkit.Receive(t, owners[i].ended))
		}
		for range n {
			e := testkit.Receive(t, d.ends)
			require.Equal(t, sse.EndShutdown, e.Reason)
			require.NoError(t, e.Err)
		}
		require.Equal(t, http.StatusServiceUnavailable, readStatus(t, tr.ask(t, d.srv, plainRequest)))
	})
}

// Shutdown gives a write that is under way some time and then interrupts it. A handler that
// returns after the interruption still has its client told when to reconnect.
// When Shutdown has returned, no connection is left open, even if its client does not close it.
func TestDetachShutdownWaitsForConnections(t *testing.T) {
	t.Parallel()
	d := newDetachServer(t, overTCP, sse.Config{})
	_, w := d.connectReturned()
	began := time.Now()
	require.NoError(t, d.Plugin().Shutdown(t.Context()))
	require.GreaterOrEqual(t, time.Since(began), 400*time.Millisecond, "the client has not closed its side")
	w.rest()
}

func TestDetachShutdownAndAHandlerThatIsLate(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		interrupted := make(chan struct{})
		d := newDetachServer(t, tr, sse.Config{}, func(d *detachServer) {
			d.after = func(s *detached) error {
				<-interrupted
				return nil
			}
		})
		s, w := d.connect()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, d.Plugin().Shutdown(ctx), context.DeadlineExceeded)
		close(interrupted)
		require.Regexp(t, `^d\r\nretry: \d{4}\n\n\r\n0\r\n\r\n$`, w.rest())
		require.Equal(t, sse.EndShutdown, d.ended(s).Reason)
	})
}

func TestDetachShutdownEndsAStalledSession(t *testing.T) {
	t.Parallel()
	overEach(t, func(t *testing.T, tr transport) {
		t.Helper()
		d := newDetachServer(t, tr, sse.Config{WriteTimeout: time.Hour})
		s, w := d.connectReturned()
		failed := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				err = s.SendData(strings.Repeat("x", 1<<20))
			}
			failed <- err
		}()
		w.expect(chunk("data: " + strings.Repeat("x", 1<<20) + "\n\n")[:100_000]) // the write is under way
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
		defer cancel()
		require.NoError(t, d.Plugin().Shutdown(ctx))
		require.Less(t, time.Since(began), 4*time.Second)
		require.ErrorIs(t, testkit.Receive(t, failed), os.ErrDeadlineExceeded)
		e := d.ended(s)
		require.Equal(t, sse.EndShutdown, e.Reason)
		require.False(t, strings.HasSuffix(w.rest(), lastChunk), "a stream that stops within an event must not look complete")
	})
}

func TestDetachShutdownOfTheServer(t *testing.T) {
	t.Parallel()
	d := newDetachServer(t, overTCP, sse.Config{}, func(d *detachServer) {
		d.options = append(d.options, func(srv *httptest.Server) { d.Plugin().Attach(srv.Config) })
	})
	var clients []*rawClient
	for range 5 {
		_, w := d.connectReturned()
		clients = append(clients, w)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	require.NoError(t, d.srv.Config.Shutdown(ctx))
	for _, w := range clients {
		require.Regexp(t, `^d\r\nretry: \d{4}\n\n\r\n0\r\n\r\n$`, w.rest())
	}
	require.NoError(t, d.Plugin().Shutdown(ctx))
	require.Zero(t, d.Plugin().Len())
}

// A hub may end its session at any time of a shutdown. The farewell has a second from then on.
func TestShutdownFarewellOfAHub(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(sse.Config{Heartbeat: sse.Heartbeat{Period: -1}})
		r.SSE("/", func(s *sse.ServerSession) error {
			require.True(t, engine.Of(s).Attach(&stubHub{endSoon: func(cause error) bool {
				time.AfterFunc(800*time.Millisecond, func() { engine.Of(s).End(cause) })
				return true
			}}))
			testkit.NoError(t, s.SendData("open"))
			<-s.Done()
			return nil
		})
		s := servePipe(t, r).connect("/")
		require.Equal(t, "open", s.nextData())
		down := make(chan error, 1)
		go func() { down <- r.Plugin().Shutdown(context.Background()) }()
		time.Sleep(1500 * time.Millisecond)
		rest, err := s.rest()
		require.NoError(t, err)
		require.Contains(t, rest, "retry: ")
		require.NoError(t, <-down)
	})
}
