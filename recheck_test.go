package sse_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

// recheckServer serves sessions, which wait, over pipes. check gets the number of the session, and
// how often it has been checked.
func recheckServer(t *testing.T, cfg sse.Config, every time.Duration, check func(s *sse.ServerSession, n int) error) *pipeServer {
	t.Helper()
	var mu sync.Mutex
	counts := map[*sse.ServerSession]int{}
	r := newRouter(cfg)
	r.SSE("/{session}", untilDone, sse.WithRecheck(every, func(s *sse.ServerSession) error {
		mu.Lock()
		counts[s]++
		n := counts[s]
		mu.Unlock()
		return check(s, n)
	}))
	return servePipe(t, r)
}

func TestRecheck(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		last   func() error // the third check
		reason sse.EndReason
		err    error
	}{
		"fails":  {func() error { return errOwn }, sse.EndRevoked, errOwn},
		"panics": {func() error { panic(errOwn) }, sse.EndPanic, nil},
		"exits":  {func() error { runtime.Goexit(); return nil }, sse.EndPanic, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := sse.Config{}
				ends := endsOf(&cfg)
				began := time.Now()
				var checks []time.Duration
				p := recheckServer(t, cfg, time.Minute, func(_ *sse.ServerSession, n int) error {
					checks = append(checks, time.Since(began))
					if n == 3 {
						return tt.last()
					}
					return nil
				})
				s := p.connect("/1")
				go io.Copy(io.Discard, s.Body) //nolint:errcheck // it reads what there is
				e := <-ends
				require.Equal(t, tt.reason, e.Reason)
				require.Error(t, e.Err)
				if tt.err != nil {
					require.ErrorIs(t, e.Err, sse.ErrRevoked)
					require.ErrorIs(t, e.Err, tt.err)
				}
				time.Sleep(time.Hour)
				require.Len(t, checks, 3, "no check follows the end")
				for i, at := range checks {
					require.GreaterOrEqual(t, at, time.Duration(i+1)*time.Minute*7/8)
					require.LessOrEqual(t, at, time.Duration(i+1)*time.Minute)
				}
			})
		})
	}
}

// A check that hangs delays neither the checks of other sessions nor heartbeats, and its session
// has no other.
func TestRecheckThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		var hung, others atomic.Int64
		logs := testkit.NewLog()
		p := recheckServer(t, sse.Config{Logger: logs.Logger()}, time.Minute, func(s *sse.ServerSession, _ int) error {
			if s.Call().URL.Path == "/hangs" {
				hung.Add(1)
				<-hang
				return errOwn
			}
			others.Add(1)
			return nil
		})
		a, b := p.connect("/hangs"), p.connect("/not")
		require.Equal(t, "open", a.nextData())
		require.Equal(t, "open", b.nextData())
		go io.Copy(io.Discard, b.Body) //nolint:errcheck // it reads what there is
		for range 40 {
			require.Equal(t, "heartbeat", a.next().Comment)
		}
		require.EqualValues(t, 1, hung.Load())
		require.GreaterOrEqual(t, others.Load(), int64(9))
		require.Empty(t, logs.Entries("hang"))
		close(hang)
		_, err := a.rest()
		require.NoError(t, err)
	})
}

// A session that has ended is not checked, although its handler has not returned.
func TestNoRecheckAfterTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := sse.Config{}
		ends := endsOf(&cfg)
		r := newRouter(cfg)
		r.SSE("/", func(s *sse.ServerSession) error {
			s.Close()
			time.Sleep(time.Hour)
			return nil
		}, sse.WithRecheck(time.Minute, func(*sse.ServerSession) error {
			assert.Fail(t, "a check")
			return nil
		}))
		servePipe(t, r).dial("/")
		require.Equal(t, sse.EndClosed, (<-ends).Reason)
	})
}

// As many checks as may run at a time hang. The others wait, and the log says so once.
func TestRechecksThatAllHang(t *testing.T) {
	for name, exits := range map[string]bool{"and return": false, "and exit": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testRechecksThatAllHang(t, exits) })
		})
	}
}

func testRechecksThatAllHang(t *testing.T, exits bool) {
	t.Helper()
	const n = 100
	cfg := sse.Config{}
	ends := endsOf(&cfg)
	logs := testkit.NewLog()
	cfg.Logger = logs.Logger()
	hang := make(chan struct{})
	var running, checked atomic.Int64
	p := recheckServer(t, cfg, time.Minute, func(*sse.ServerSession, int) error {
		assert.LessOrEqual(t, running.Add(1), int64(64))
		<-hang
		running.Add(-1)
		checked.Add(1)
		if exits {
			runtime.Goexit()
		}
		return nil
	})
	for range n {
		s := p.connect("/x")
		go io.Copy(io.Discard, s.Body) //nolint:errcheck // it reads what there is
	}
	time.Sleep(10 * time.Minute)
	require.EqualValues(t, 64, running.Load())
	late := p.connect("/x")           // something comes up on the wheel when others have waited for a period
	go io.Copy(io.Discard, late.Body) //nolint:errcheck // it reads what there is
	time.Sleep(10 * time.Minute)
	entries := logs.Entries("checks of WithRecheck hang")
	require.Len(t, entries, 1)
	require.Equal(t, slog.LevelWarn, entries[0].Level)
	require.Empty(t, ends)
	close(hang)
	time.Sleep(time.Minute)
	require.GreaterOrEqual(t, checked.Load(), int64(n+1), "each session was checked in the end")
	require.Equal(t, exits, len(ends) == n+1, "sessions have ended")
}

// The checks of a session never overlap, and none begins after its end.
func TestRechecksAtRandom(t *testing.T) {
	var mu sync.Mutex
	running, over := map[*sse.ServerSession]bool{}, map[*sse.ServerSession]bool{}
	cfg := sse.Config{OnClose: func(s *sse.ServerSession, _ sse.End) {
		mu.Lock()
		defer mu.Unlock()
		over[s] = true
	}}
	r := newRouter(cfg)
	var checks atomic.Int64
	r.SSE("/", func(s *sse.ServerSession) error {
		s.EndAt(time.Now().Add(500*time.Millisecond), nil)
		return untilDone(s)
	}, sse.WithRecheck(time.Millisecond, func(s *sse.ServerSession) error {
		mu.Lock()
		assert.False(t, running[s], "two checks at a time")
		ended := over[s]
		running[s] = true
		mu.Unlock()
		checks.Add(1)
		time.Sleep(time.Millisecond)
		if ended { // perhaps it ended when the check was about to begin
			time.Sleep(time.Millisecond)
		}
		mu.Lock()
		defer mu.Unlock()
		running[s] = false
		return nil
	}))
	srv := serve(t, r)
	var clients sync.WaitGroup
	for range 30 {
		clients.Go(func() {
			resp, err := srv.Client().Get(srv.URL)
			if assert.NoError(t, err) {
				_, err = io.Copy(io.Discard, resp.Body)
				assert.NoError(t, err)
				resp.Body.Close()
			}
		})
	}
	clients.Wait()
	require.NotZero(t, checks.Load())
	testkit.Eventually(t, func() bool { return r.Plugin().Len() == 0 }, "the end of all sessions")
	testkit.Eventually(t, func() bool {
		before := checks.Load()
		time.Sleep(20 * time.Millisecond)
		return checks.Load() == before
	}, "the end of all checks")
}

func ExampleWithRecheck() {
	banned := map[string]bool{"eve": true}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error {
		if err := s.SendData("hello"); err != nil {
			return err
		}
		<-s.Done()
		return nil
	}, sse.WithRecheck(200*time.Millisecond, func(s *sse.ServerSession) error {
		if user, _, _ := s.Call().BasicAuth(); banned[user] {
			return fmt.Errorf("%s is banned", user)
		}
		return nil
	}))

	w := httptest.NewRecorder()
	req := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	req.SetBasicAuth("eve", "secret")
	r.ServeHTTP(w, req)
	fmt.Println(strings.TrimSpace(w.Body.String()))
	// Output: data: hello
}
