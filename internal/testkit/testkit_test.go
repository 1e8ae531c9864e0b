package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

// recorder is a test that keeps its failures to itself.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) FailNow() { runtime.Goexit() }

// failuresOf returns the failures of a test that calls f.
func failuresOf(t *testing.T, f func(t *recorder)) []string {
	t.Helper()
	r := &recorder{TB: t}
	var done sync.WaitGroup
	done.Go(func() { f(r) })
	done.Wait()
	return r.failures
}

func TestWaitsSucceed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		require.Empty(t, failuresOf(t, func(t *recorder) {
			c := make(chan int)
			go func() {
				time.Sleep(testkit.Patience / 2)
				c <- 7
			}()
			require.Equal(t, 7, testkit.Receive(t, c))
			testkit.Within(t, func() { time.Sleep(testkit.Patience / 2) })
			began := time.Now()
			testkit.Eventually(t, func() bool { return time.Since(began) > testkit.Patience/2 }, "half of it")
		}))
	})
}

func TestWaitsFail(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		wait func(t *recorder)
		want string
	}{
		"Receive":          {func(t *recorder) { testkit.Receive(t, make(chan int)) }, "nothing was received within 20s"},
		"Within":           {func(t *recorder) { testkit.Within(t, func() { time.Sleep(time.Minute) }) }, "the function has not returned within 20s"},
		"Eventually":       {func(t *recorder) { testkit.Eventually(t, func() bool { return false }, "something else") }, "timed out after 20s waiting for: something else"},
		"GoroutinesBackTo": {func(t *recorder) { testkit.GoroutinesBackTo(t, 0) }, "goroutines are left running"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				failures := failuresOf(t, tt.wait)
				require.Len(t, failures, 1)
				require.Contains(t, failures[0], tt.want)
				require.GreaterOrEqual(t, time.Since(began), testkit.Patience)
				time.Sleep(time.Hour) // every goroutine of the bubble ends
			})
		})
	}
}

func TestChecksLetTheGoroutineGoOn(t *testing.T) {
	t.Parallel()
	errOwn := errors.New("own")
	wentOn := false
	failures := failuresOf(t, func(t *recorder) {
		testkit.NoError(t, errOwn)
		testkit.ErrorIs(t, errOwn, io.EOF)
		testkit.ErrorIs(t, fmt.Errorf("wrapped: %w", errOwn), errOwn)
		wentOn = testkit.NoError(t, nil)
	})
	require.Len(t, failures, 2)
	require.True(t, wentOn)
}

func TestLog(t *testing.T) {
	t.Parallel()
	l := testkit.NewLog()
	l.Logger().With("session", 7).Warn("ended", "reason", "closed")
	l.Logger().Debug("opened")
	require.Len(t, l.Entries(""), 2)
	ended := l.Entries("reason=closed")
	require.Len(t, ended, 1)
	require.Equal(t, slog.LevelWarn, ended[0].Level)
	require.Equal(t, "ended", ended[0].Message)
	require.EqualValues(t, 7, ended[0].Attrs["session"].Int64())
	require.Empty(t, l.Entries("no such text"))
}

func TestServe(t *testing.T) {
	t.Parallel()
	for _, p := range []testkit.Protocol{testkit.HTTP1, testkit.HTTP1TLS, testkit.HTTP2, testkit.H2C} {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			srv := testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.Proto, " ", r.TLS != nil)
			}), p.Setup, testkit.SendBuffer(4<<10))
			resp, err := srv.Client().Get(srv.URL)
			require.NoError(t, err)
			defer resp.Body.Close()
			require.Equal(t, p.Proto, resp.Proto)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(p.Proto, " ", p.TLS), string(body))
		})
	}
}

func TestDial(t *testing.T) {
	t.Parallel()
	srv := testkit.Serve(t, http.NotFoundHandler())
	conn := testkit.Dial(t, srv)
	_, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Contains(t, string(answer), "404 Not Found")
}

func TestHeader(t *testing.T) {
	t.Parallel()
	require.Equal(t, http.Header{"Accept": {"a", "b"}, "X-Own": {"c"}}, testkit.Header("accept", "a", "Accept", "b", "X-Own", "c"))
	require.Empty(t, testkit.Header())
}

func TestPipeListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pipes := testkit.NewPipeListener()
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Hour)
			fmt.Fprint(w, "an hour later")
		})}
		served := make(chan error)
		go func() { served <- srv.Serve(pipes) }()
		hc := &http.Client{Transport: &http.Transport{DialContext: pipes.DialContext, DisableKeepAlives: true}}
		resp, err := hc.Get("http://test/")
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "an hour later", string(body))

		require.NoError(t, srv.Close())
		require.Equal(t, http.ErrServerClosed, <-served)
		_, err = pipes.DialContext(t.Context(), "", "")
		require.ErrorIs(t, err, net.ErrClosed)
		require.NoError(t, pipes.Close(), "a second time")
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := testkit.NewPipeListener().DialContext(ctx, "", "")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
