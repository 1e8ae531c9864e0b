package sse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// userOf is the key of the tests: the query parameter user.
func userOf(r *http.Request) string { return r.URL.Query().Get("user") }

// refusals sets cfg.OnRefuse. The channel receives what it is called with.
func refusals(cfg *sse.Config) <-chan error {
	refused := make(chan error, 1000)
	cfg.OnRefuse = func(_ *http.Request, err error) { refused <- err }
	return refused
}

// byMode returns the handler of each mode, over a hub with the topic "a".
func byMode(t *testing.T, by string) sse.Handler {
	t.Helper()
	if by == byHandler {
		return untilDone
	}
	h, err := hub.New(hub.Config{Detached: by == byDetachingHub})
	require.NoError(t, err)
	_, err = h.Publish(t.Context(), "a", sse.Event{Data: "open"})
	require.NoError(t, err)
	return func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning})
	}
}

func overModes(t *testing.T, f func(t *testing.T, by string, proto testkit.Protocol)) {
	t.Helper()
	for _, by := range []string{byHandler, byHub, byDetachingHub} {
		for _, proto := range protocols {
			t.Run(by+" over "+proto.Name, func(t *testing.T) {
				t.Parallel()
				f(t, by, proto)
			})
		}
	}
}

func TestSessionLimitBy(t *testing.T) {
	t.Parallel()
	overModes(t, func(t *testing.T, by string, proto testkit.Protocol) {
		t.Helper()
		var cfg sse.Config
		ends, refused := endsOf(&cfg), refusals(&cfg)
		r := newRouter(cfg)
		r.SSE("/", byMode(t, by), sse.WithSessionLimitBy(2, userOf))
		srv := serve(t, r, proto.Setup)
		open := func(user string) *stream {
			s := connect(t, srv, "/?user="+user)
			require.Equal(t, "open", s.nextData())
			return s
		}
		refuse := func(user string) {
			a := get(t, srv, "/?user="+user)
			require.Equal(t, http.StatusTooManyRequests, a.Status)
			require.JSONEq(t, `{"status":429,"error":"sse: too many sessions"}`, a.Body)
			seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
			require.NoError(t, err)
			require.GreaterOrEqual(t, seconds, 3)
			require.LessOrEqual(t, seconds, 8)
			why := testkit.Receive(t, refused)
			require.ErrorIs(t, why, sse.ErrTooManySessions)
			var limit *sse.LimitError
			require.ErrorAs(t, why, &limit)
			require.Equal(t, "WithSessionLimitBy", limit.Limit)
			require.Equal(t, user, limit.Key)
			require.Equal(t, 2, limit.Max)
			require.EqualError(t, why, "sse: too many sessions with the same key: at most 2 are allowed at a time (WithSessionLimitBy)")

			// EventSource must be able to come back.
			s := connect(t, srv, "/?user="+user, "Accept", "text/event-stream", "Sec-Fetch-Mode", "cors")
			ev := s.next()
			require.Equal(t, "too many sessions", ev.Comment)
			require.GreaterOrEqual(t, ev.Retry, 3*time.Second)
			s.end()
			require.Error(t, testkit.Receive(t, refused))
		}
		first := open("ann")
		open("ann")
		refuse("ann")
		open("bob")
		for range 5 {
			open("")
		}
		first.leave()
		require.Equal(t, sse.EndClientGone, testkit.Receive(t, ends).Reason)
		open("ann")
		refuse("ann")
		require.Empty(t, ends)
		require.NoError(t, r.Plugin().Shutdown(t.Context()))
	})
}

func TestNewestSessionsBy(t *testing.T) {
	t.Parallel()
	overModes(t, func(t *testing.T, by string, proto testkit.Protocol) {
		t.Helper()
		var cfg sse.Config
		ends, refused := endsOf(&cfg), refusals(&cfg)
		var causes sync.Map
		onClose := cfg.OnClose
		cfg.OnClose = func(s *sse.ServerSession, e sse.End) {
			causes.Store(context.Cause(s.Context()), true)
			onClose(s, e)
		}
		r := newRouter(cfg)
		r.SSE("/", byMode(t, by), sse.WithNewestSessionsBy(2, userOf))
		srv := serve(t, r, proto.Setup)
		var all []*stream
		for i := range 6 {
			s := connect(t, srv, "/?user=ann")
			require.Equal(t, "open", s.nextData())
			all = append(all, s)
			if i < 2 {
				continue
			}
			for { // the oldest ends, in order
				ev, err := all[i-2].dec.Decode()
				if err != nil {
					require.Equal(t, io.EOF, err)
					break
				}
				require.Empty(t, ev.Data)
			}
			e := testkit.Receive(t, ends)
			require.Equal(t, sse.EndReplaced, e.Reason)
			require.NoError(t, e.Err)
		}
		_, ok := causes.Load(sse.ErrReplaced)
		require.True(t, ok)
		for range 5 {
			connect(t, srv, "/")
		}
		require.Empty(t, ends)
		require.Empty(t, refused)
		require.Equal(t, 7, r.Plugin().Len())
		require.NoError(t, r.Plugin().Shutdown(t.Context()))
	})
}

// Routes that are given the same option share the limit. Routes of another plugin do not.
func TestSessionLimitByOfSeveralRoutes(t *testing.T) {
	t.Parallel()
	limit := sse.WithSessionLimitBy(1, userOf)
	byMethod := sse.WithSessionLimitBy(1, func(r *http.Request) string { return r.URL.Path })
	logs := testkit.NewLog()
	r, other := newRouter(sse.Config{Logger: logs.Logger()}), newRouter(sse.Config{})
	r.SSE("/a", untilDone, limit)
	other.SSE("/a", untilDone, limit)
	r.SSE("/b", untilDone, limit, byMethod)
	srv := serve(t, r)
	connect(t, srv, "/a?user=ann")
	require.Equal(t, http.StatusTooManyRequests, get(t, srv, "/b?user=ann").Status)
	entries := logs.Entries("session refused")
	require.Len(t, entries, 1)
	require.Contains(t, fmt.Sprint(entries[0]), "ann", "the key")
	connect(t, serve(t, other), "/a?user=ann")
	connect(t, srv, "/b?user=bob")
	require.Equal(t, http.StatusTooManyRequests, get(t, srv, "/b?user=cid").Status, "the second limit of the route")
	connect(t, srv, "/a?user=cid").leave()
}

// The limit is exact, however many come, go, and are refused at the same time.
func TestSessionLimitByIsExact(t *testing.T) {
	const n = 3
	var mu sync.Mutex
	live := map[string]int{}
	var most atomic.Int64
	r := newRouter(sse.Config{})
	handler := func(s *sse.ServerSession) error {
		user := userOf(s.Call())
		mu.Lock()
		live[user]++
		assert.LessOrEqual(t, live[user], n)
		most.Store(max(most.Load(), int64(live[user])))
		mu.Unlock()
		defer func() {
			mu.Lock()
			live[user]--
			mu.Unlock()
		}()
		if rand.N(4) == 0 {
			s.EndAt(time.Now().Add(rand.N(5*time.Millisecond)), nil)
			<-s.Done()
			return nil
		}
		time.Sleep(rand.N(3 * time.Millisecond))
		return s.Open()
	}
	r.SSE("/", handler, sse.WithSessionLimitBy(n, userOf), sse.WithRecheck(2*time.Millisecond, func(*sse.ServerSession) error {
		if rand.N(3) == 0 {
			return errOwn
		}
		return nil
	}))
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			for range 100 {
				record(r, http.MethodGet, "/?user="+strconv.Itoa(i%2))
			}
		})
	}
	clients.Wait()
	require.EqualValues(t, n, most.Load())
	srv := serve(t, r)
	for range n { // all places are free again
		resp, err := srv.Client().Get(srv.URL + "/?user=0")
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
}

func TestOpenRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var cfg sse.Config
		refused := refusals(&cfg)
		r := newRouter(cfg)
		r.SSE("/", func(s *sse.ServerSession) error { return s.Open() }, sse.WithOpenRate(10, time.Minute), sse.WithRetry(time.Second))
		opened := func(wait int) (n int) {
			for range 100 {
				switch rec := record(r, http.MethodGet, "/"); rec.Code {
				case http.StatusOK:
					n++
				case http.StatusTooManyRequests:
					err := <-refused
					var limit *sse.LimitError
					require.ErrorAs(t, err, &limit)
					require.ErrorIs(t, err, sse.ErrTooManySessions)
					require.EqualError(t, err, "sse: too many sessions: at most 10 may open in 1m0s (WithOpenRate)")
					seconds, err := strconv.Atoi(rec.Header().Get("Retry-After"))
					require.NoError(t, err)
					require.GreaterOrEqual(t, seconds, wait, "there is no place before that")
				default:
					require.Fail(t, "unexpected status", "%d", rec.Code)
				}
			}
			return n
		}
		require.Equal(t, 10, opened(6), "at once")
		time.Sleep(6*time.Second - 1)
		require.Zero(t, opened(1))
		time.Sleep(time.Nanosecond)
		require.Equal(t, 1, opened(6))
		time.Sleep(30 * time.Second)
		require.Equal(t, 5, opened(6))
		time.Sleep(time.Hour)
		require.Equal(t, 10, opened(6), "not more than the burst")
	})
}

// A client that another limit refuses takes no place of the rate.
func TestOpenRateCountsOnlyOpenings(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.SSE("/", untilDone, sse.WithOpenRate(2, time.Hour), sse.WithSessionLimitBy(1, userOf))
	srv := serve(t, r)
	connect(t, srv, "/?user=ann")
	for range 5 {
		require.Equal(t, http.StatusTooManyRequests, get(t, srv, "/?user=ann").Status)
	}
	connect(t, srv, "/?user=bob")
	require.Equal(t, http.StatusTooManyRequests, get(t, srv, "/?user=cid").Status)
}

// A key function that panics is a handler that panics: nothing is left of the request.
func TestSessionLimitKeyPanics(t *testing.T) {
	t.Parallel()
	r := newRouter(sse.Config{})
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if recover() != nil {
					w.WriteHeader(http.StatusInternalServerError)
				}
			}()
			next.ServeHTTP(w, r)
		})
	})
	r.SSE("/", untilDone, sse.WithSessionLimitBy(1, func(r *http.Request) string {
		if userOf(r) == "" {
			panic(errOwn)
		}
		return userOf(r)
	}))
	srv := serve(t, r)
	for range 3 {
		require.Equal(t, http.StatusInternalServerError, get(t, srv, "/").Status)
	}
	connect(t, srv, "/?user=ann")
	require.Equal(t, 1, r.Plugin().Len())
}

func TestLimitOptionsPanic(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]func(){
		"sse: WithSessionLimitBy needs a limit of at least 1; leave the option out for none":                       func() { sse.WithSessionLimitBy(0, userOf) },
		"sse: WithNewestSessionsBy needs a limit of at least 1; leave the option out for none":                     func() { sse.WithNewestSessionsBy(-1, userOf) },
		"sse: WithSessionLimitBy without a function that returns the key of a request":                             func() { sse.WithSessionLimitBy(1, nil) },
		"sse: WithOpenRate(0, 1s): n must be at least 1, and the time positive; leave the option out for no limit": func() { sse.WithOpenRate(0, time.Second) },
		"sse: WithOpenRate(1, 0s): n must be at least 1, and the time positive; leave the option out for no limit": func() { sse.WithOpenRate(1, 0) },
	} {
		require.Equal(t, want, panicOf(t, f))
	}
}

// A user may have five streams at a time.
func ExampleWithSessionLimitBy() {
	userOf := func(r *http.Request) string {
		user, _, _ := r.BasicAuth() // "" is not limited: another middleware refuses it
		return user
	}
	r := sse.Install(chi.NewRouter(), sse.Config{OnRefuse: func(_ *http.Request, err error) {
		if limit, ok := errors.AsType[*sse.LimitError](err); ok {
			fmt.Println(limit.Key, "has", limit.Max, "already")
		}
	}})
	r.SSE("/feed", func(s *sse.ServerSession) error { return s.SendData("hello") }, sse.WithSessionLimitBy(5, userOf))

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/feed", nil))
	fmt.Print(w.Body)
	// Output: data: hello
}
