package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// An answer that is under way finishes if the server waits, and goes on at another server if not.
func TestAnswerDuringADrain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		notice, over, wait time.Duration
		took               time.Duration // from the signal to the end of the server
		cut                bool
	}{
		"wait":               {0, 0, 30 * time.Second, 5 * time.Second, false}, // an answer takes 6 seconds
		"wait, after notice": {2 * time.Second, 0, 30 * time.Second, 5 * time.Second, false},
		"wait too briefly":   {0, 0, 2 * time.Second, 2 * time.Second, true},
		"over":               {0, 4 * time.Second, 0, 4 * time.Second, true},
		"at once":            {0, 0, 0, 0, true},
		"at once, notice":    {2 * time.Second, 0, 0, 2 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := logtest.NewMemory(1)
				s := newServer(log)
				s.notice, s.over, s.wait = tt.notice, tt.over, tt.wait
				first := startPipe(t, s)
				var p pool
				p.add(first)
				f := newFeed(t, log)
				answered, followed := make(chan error, 1), make(chan error, 1)
				var streams, ends atomic.Int64 // of the answer
				count := client.WithConfig(func(cfg *client.Config) {
					cfg.OnOpen = func(*http.Response) { streams.Add(1) }
					cfg.OnRequest = func(*http.Request) error { ends.Add(1); return nil }
				})
				go func() { answered <- ask(t.Context(), p.client(), "http://test", count) }()
				feedLeft := make(chan time.Time, 10)
				leave := client.WithConfig(func(cfg *client.Config) {
					cfg.OnRetry = func(client.Failure) { feedLeft <- time.Now() }
				})
				go func() { followed <- follow(t.Context(), p.client(), "http://test", leave) }()
				time.Sleep(time.Second)
				require.NoError(t, f.publish(t.Context()))

				p.add(startPipe(t, newServer(log)))
				signal := time.Now()
				first.stop()
				require.NoError(t, <-first.done, "nothing had to be cut off")
				took := time.Since(signal)
				assert.InDelta(t, tt.took.Seconds(), took.Seconds(), 1)
				if tt.over == 0 {
					assert.InDelta(t, tt.notice.Seconds(), (<-feedLeft).Sub(signal).Seconds(), 0.1, "the feed ends when the drain begins")
				}
				require.NoError(t, f.publish(t.Context()))
				require.NoError(t, <-answered)
				require.NoError(t, f.publish(t.Context()))
				f.end()
				require.NoError(t, <-followed)
				if tt.cut {
					assert.EqualValues(t, 2, streams.Load(), "the answer came in two parts")
				} else {
					assert.EqualValues(t, 1, streams.Load(), "the answer came in one part")
				}
				assert.Equal(t, streams.Load()+1, ends.Load(), "the last request was answered with 204")
			})
		})
	}
}

// From the signal on, the server is not ready. It serves until the drain begins.
func TestReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(logtest.NewMemory(1))
		s.notice, s.over = 5*time.Second, 10*time.Second
		n := startPipe(t, s)
		c := &http.Client{Transport: &http.Transport{DialContext: n.listener.DialContext, DisableKeepAlives: true}}
		get := func(path string) (status int, header http.Header) {
			t.Helper()
			resp, err := c.Get("http://test" + path)
			require.NoError(t, err)
			defer resp.Body.Close()
			return resp.StatusCode, resp.Header
		}
		publish := func() int {
			t.Helper()
			resp, err := c.Post("http://test/feed", "text/plain", strings.NewReader("hello"))
			require.NoError(t, err)
			defer resp.Body.Close()
			return resp.StatusCode
		}
		go ask(t.Context(), newClient(c), "http://test") //nolint:errcheck // it keeps the drain going
		time.Sleep(time.Second)
		status, _ := get("/ready")
		assert.Equal(t, http.StatusOK, status)
		n.stop()
		synctest.Wait()
		status, _ = get("/ready")
		assert.Equal(t, http.StatusServiceUnavailable, status)
		status, _ = get("/feed")
		assert.Equal(t, http.StatusOK, status, "until the balancer knows")
		time.Sleep(4500 * time.Millisecond)
		go ask(t.Context(), newClient(c), "http://test") //nolint:errcheck // as above
		time.Sleep(time.Second)
		status, header := get("/feed")
		assert.Equal(t, http.StatusServiceUnavailable, status, "the drain has begun")
		assert.NotEmpty(t, header.Get("Retry-After"))
		status, _ = get("/ready")
		assert.Equal(t, http.StatusServiceUnavailable, status)
		assert.Equal(t, http.StatusOK, publish(), "ordinary requests go on")
		require.NoError(t, <-n.done)
	})
}

// A client that takes nothing does not keep the server, and sees a stream that is not complete.
func TestDrainCutsWhatHangs(t *testing.T) {
	t.Parallel()
	for name, drain := range map[string]func(*server){
		"at once": func(*server) {},
		"over":    func(s *server) { s.over = 100 * time.Millisecond },
		"wait":    func(s *server) { s.wait = time.Hour }, // the feed does not take part in it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := logtest.NewMemory(1)
			s := newServer(log)
			drain(s)
			n := start(t, s)
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", n.addr)
			require.NoError(t, err)
			defer conn.Close()
			_, err = io.WriteString(conn, "GET /feed HTTP/1.1\r\nHost: test\r\n\r\n")
			require.NoError(t, err)
			require.NoError(t, conn.SetDeadline(time.Now().Add(2*testkit.Patience)))
			r := bufio.NewReaderSize(conn, 1<<10)
			skip := func(text string) { // skips up to text
				t.Helper()
				for part := ""; !strings.HasSuffix(part, text); {
					part, err = r.ReadString(text[len(text)-1])
					require.NoError(t, err)
				}
			}
			skip("id:") // the client has joined
			f := newFeed(t, log)
			_, err = f.hub.Publish(t.Context(), topic, sse.Event{Data: strings.Repeat("x", 16<<20)})
			require.NoError(t, err)

			skip("data:") // the event is under way
			began := time.Now()
			n.stop()
			require.NoError(t, testkit.Receive(t, n.done), "it took less than the drain's timeout")
			t.Logf("cut off after %v", time.Since(began))
			body, _ := io.ReadAll(r) // a reset, or the end
			assert.Less(t, len(body), 16<<20)
			assert.NotContains(t, string(body[max(0, len(body)-10):]), "\r\n0\r\n\r\n", "it looks complete")
		})
	}
}
