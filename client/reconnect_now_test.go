// Session.Reconnect: from any goroutine, whatever the session is doing.

package client_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/testkit"
)

// Reconnect has its effect at once in each state, and costs no attempt.
func TestReconnectInEachState(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) {
		send(w, ": open\n\n")
		<-r.Context().Done()
	}
	for protocol, protocols := range closeProtocols() {
		for name, step := range map[string]reconnectStep{
			"reading":              hang,
			"within an event":      func(w http.ResponseWriter, r *http.Request) { send(w, "id: 2\ndata: half\n"); <-r.Context().Done() },
			"slow head":            func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			"waiting":              nil,
			"waiting after a 503":  reconnectStatus(http.StatusServiceUnavailable, "Retry-After", "3600"),
			"waiting after a loss": reconnectCut(""),
			"in a refusal's body": func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(time.Hour - 250*time.Millisecond)
				openRefusals["404, silent"](w, r)
			},
		} {
			t.Run(protocol+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newReconnectLabOf(t, protocols, reconnectSteps{reconnectText("id: 1\ndata: a\n\n"), step, reconnectText("id: 2\ndata: b\n\n")})
					var asked []int
					cfg := l.config(client.Config{MaxReconnectionAttempts: 1, ReconnectionTime: 2 * time.Hour, OpenTimeout: -1, OnFailure: func(f client.Failure) client.Decision {
						asked = append(asked, f.Attempt)
						if len(asked) == 1 {
							return client.RetryIn(0)
						}
						return client.Retry()
					}})
					if strings.HasPrefix(name, "waiting") {
						cfg.MaxReconnectionAttempts = 2
					}
					s, err := client.Install(l.http, cfg).Session(t.Context(), "http://lab/")
					require.NoError(t, err)
					defer s.Close()
					time.AfterFunc(time.Hour, func() { require.NoError(t, s.Reconnect()) })
					var got []string
					for ev, err := range s.Incoming() {
						require.NoError(t, err)
						if got = append(got, ev.Data); len(got) == 2 {
							break
						}
					}
					require.Equal(t, []string{"a", "b"}, got)
					require.Equal(t, []string{"", "1", "1"}, l.ids)
					require.Equal(t, []time.Duration{0, 0, time.Hour}, l.times)
					want := []int{1}
					if strings.HasPrefix(name, "waiting") {
						want = []int{1, 2}
					}
					require.Equal(t, want, asked)
				})
			})
		}
	}
}

// What Reconnect cuts off in the caller's block are events that have not arrived. Those that
// have are handed out first.
func TestReconnectInTheBlock(t *testing.T) {
	for protocol, protocols := range closeProtocols() {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stream := func(w http.ResponseWriter, r *http.Request) {
					from, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
					var text strings.Builder
					for i := from + 1; i <= from+3; i++ {
						fmt.Fprintf(&text, "id: %d\ndata: %d\n\n", i, i)
					}
					send(w, "%s", text.String())
					<-r.Context().Done()
				}
				l := newReconnectLabOf(t, protocols, reconnectSteps{stream, stream, stream})
				s, err := client.Install(l.http, l.config(client.Config{})).Session(t.Context(), "http://lab/")
				require.NoError(t, err)
				var got []string
				for ev, err := range s.Incoming() {
					if err != nil {
						require.Equal(t, client.ErrClosed, err)
						break
					}
					got = append(got, ev.Data)
					switch len(got) {
					case 1, 5:
						require.NoError(t, s.Reconnect())
						require.NoError(t, s.Reconnect())
						time.Sleep(time.Minute)
					case 9:
						s.Close()
						require.Equal(t, client.ErrClosed, s.Reconnect())
					}
				}
				require.Equal(t, strings.Split("123456789", ""), got)
				require.Equal(t, []string{"", "3", "6"}, l.ids)
			})
		})
	}
}

func TestReconnectThatIsRefused(t *testing.T) {
	s := client.Read(context.Background(), strings.NewReader("data: a\n\n"))
	var configErr *client.ConfigError
	require.ErrorAs(t, s.Reconnect(), &configErr)
	events, err := collect(s)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, dataOf(events), "the session does not go on")
	require.Equal(t, client.ErrClosed, s.Reconnect(), "after the end")

	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/204" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		streamOf("data: a\n\ndata: b\n\n")(w, r)
	})
	c := install(srv.Client(), client.Config{})
	require.Equal(t, client.ErrClosed, session(t, c, srv.URL+"/204").Reconnect(), "after a 204")
	ctx, cancel := context.WithCancel(t.Context())
	canceled, err := c.Session(ctx, srv.URL)
	require.NoError(t, err)
	cancel()
	require.Equal(t, client.ErrClosed, canceled.Reconnect())
	canceled.Close()
}

// A POST is sent again by Reconnect only as Config.Resend allows.
func TestReconnectOfAPost(t *testing.T) {
	for name, tt := range map[string]struct {
		mode          client.ResendMode
		before, after bool // an event
	}{
		"never":       {client.ResendNever, false, false},
		"until event": {client.ResendUntilEvent, true, false},
		"always":      {client.ResendAlways, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			var l requestLog
			overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				l.add(r)
				switch r.Header.Get("Last-Event-ID") {
				case "":
					if n := len(l.all()); r.URL.Query().Get("wait") == strconv.Itoa(n) {
						send(w, ": wait\n\n")
						<-r.Context().Done()
						return
					}
					send(w, "id: 1\ndata: a\n\n")
				default:
					send(w, "id: 2\ndata: b\n\n")
				}
				<-r.Context().Done()
			}), func(t *testing.T, srv *httptest.Server) {
				t.Helper()
				before := len(l.all())
				c := install(srv.Client(), client.Config{Resend: tt.mode})
				url := srv.URL
				if tt.before {
					url += "?wait=" + strconv.Itoa(before+1)
				}
				s := session(t, c, url, client.WithBody("text/plain", strings.NewReader("q")))
				err := s.Reconnect()
				require.Equal(t, tt.before, err == nil, "%v", err)
				var got []string
				for ev, err := range s.Incoming() {
					require.NoError(t, err)
					got = append(got, ev.Data)
					if err := s.Reconnect(); !tt.after {
						var configErr *client.ConfigError
						require.ErrorAs(t, err, &configErr)
						break
					}
					if len(got) == 2 {
						break
					}
				}
				want, requests := []string{"a"}, 1
				if tt.before {
					requests++
				}
				if tt.after {
					want = append(want, "b")
					requests++
				}
				require.Equal(t, want, got)
				require.Len(t, l.all()[before:], requests)
				for _, r := range l.all()[before:] {
					require.Equal(t, "q", r.Body)
				}
			})
		})
	}
}

// readHook is a body that calls hook with each Read, after the bytes have arrived.
type readHook struct {
	io.ReadCloser
	hook func()
}

func (b *readHook) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.hook()
	return n, err
}

// The first event and Reconnect may come at the same time. Then a request that must not be
// repeated after an event is not, and nothing is lost or doubled.
func TestReconnectWhileTheFirstEventArrives(t *testing.T) {
	for name, tt := range map[string]struct {
		options []client.Option
		ids     []string // of the requests
	}{
		"GET":               {nil, []string{"0", "2"}},
		"POST, until event": {[]client.Option{client.WithBody("", strings.NewReader("q")), client.WithConfig(func(cfg *client.Config) { cfg.Resend = client.ResendUntilEvent })}, []string{"0", "0"}},
		"POST, always":      {[]client.Option{client.WithBody("", strings.NewReader("q")), client.WithConfig(func(cfg *client.Config) { cfg.Resend = client.ResendAlways })}, []string{"0", "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			var ids []string
			var s *client.Session
			hc := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				ids = append(ids, r.Header.Get("Last-Event-ID"))
				text := "id: 3\ndata: c\n\n"
				if ids[len(ids)-1] == "0" {
					text = "id: 1\ndata: a\n\nid: 2\ndata: b\n\n" + text
				}
				first := len(ids) == 1
				if first {
					text = "id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\n"
				}
				body := &readHook{io.NopCloser(strings.NewReader(text)), func() {
					if first {
						require.NoError(t, s.Reconnect())
					}
				}}
				return &http.Response{StatusCode: http.StatusOK, Header: testkit.Header("Content-Type", "text/event-stream"), Body: body, Request: r}, nil
			})}
			s = session(t, install(hc, client.Config{}), "http://reconnect.test/", append(tt.options, client.WithLastEventID("0"))...)
			events, err := collect(s)
			require.NoError(t, err)
			require.Equal(t, []string{"a", "b", "c"}, dataOf(events))
			require.Equal(t, tt.ids, ids)
		})
	}
}

// A thousand calls at random times lose no event and double none.
func TestReconnectAtRandomTimes(t *testing.T) {
	const last = 3000
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
		if from == last {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		for i := from + 1; i <= last && r.Context().Err() == nil; i++ {
			if rand.IntN(10) == 0 {
				send(w, "id: %d\nda", i)
				send(w, "ta: %d\n\n", i)
			} else {
				send(w, "id: %d\ndata: %d\n\n", i, i)
			}
			if i%20 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		testkit.NoLeak(t)
		defer srv.Client().CloseIdleConnections()
		// The pace of the server decides how many calls find the session open.
		c := install(srv.Client(), client.Config{MaxReconnectionAttempts: client.Unlimited})
		s := session(t, c, srv.URL)
		var calls atomic.Int64
		stop := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for calls.Load() < 250 { // for each of four protocols
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(rand.Int64N(int64(2 * time.Millisecond)))):
				}
				if s.Reconnect() == nil {
					calls.Add(1)
				}
			}
		}()
		next := 1
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			require.Equal(t, strconv.Itoa(next), ev.Data)
			if next++; next%13 == 0 && calls.Load() < 250 {
				time.Sleep(2 * time.Millisecond)
			}
		}
		close(stop)
		<-stopped
		require.Equal(t, last+1, next)
		t.Logf("%d calls of Reconnect", calls.Load())
		require.Greater(t, calls.Load(), int64(20))
	})
}

// After Reconnect, the session does not use a connection that may be dead.
func TestReconnectUsesANewConnection(t *testing.T) {
	overEach(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		send(w, "data: %s\n\n", r.RemoteAddr)
		<-r.Context().Done()
	}), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		s := session(t, install(srv.Client(), client.Config{}), srv.URL)
		seen := make(map[string]bool)
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			require.False(t, seen[ev.Data], "the connection was used before")
			if seen[ev.Data] = true; len(seen) == 3 {
				break
			}
			require.NoError(t, s.Reconnect())
		}
	})
}

// Retry tells a caller that reconnects by hand what the stream has asked for.
func TestSessionRetry(t *testing.T) {
	s := client.Read(context.Background(), strings.NewReader("data: a\n\nretry: 1500\n\ndata: b\n\n"))
	_, ok := s.Retry()
	require.False(t, ok)
	_, err := collect(s)
	require.NoError(t, err)
	retry, ok := s.Retry()
	require.True(t, ok)
	require.Equal(t, 1500*time.Millisecond, retry)
}
