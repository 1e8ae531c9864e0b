package sse_test

import (
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestSessionWhoseHeaderIsTakenWaitsForTheHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRouter(sse.Config{})
		r.SSE("/events", func(s *sse.ServerSession) error {
			h := s.Header()
			time.Sleep(time.Minute)
			h.Set("X-Late", "yes")
			h.Set("Content-Type", "text/plain") // the opening overwrites it
			if err := s.SendData("hello"); err != nil {
				return err
			}
			later := s.Header()
			assert.Equal(t, "yes", later.Get("X-Late"))
			assert.Equal(t, "text/event-stream", later.Get("Content-Type"))
			later.Set("X-Late", "no") // a copy
			assert.Equal(t, "yes", s.Header().Get("X-Late"))
			return nil
		})
		r.SSE("/status", func(s *sse.ServerSession) error {
			s.Header().Set("Www-Authenticate", "Bearer")
			time.Sleep(time.Minute)
			return sse.Error(http.StatusUnauthorized, nil)
		})
		p := servePipe(t, r)
		began := time.Now()
		s := p.connect("/events")
		require.Equal(t, time.Minute, time.Since(began))
		require.Equal(t, "yes", s.Response.Header.Get("X-Late"))
		require.Equal(t, "hello", s.next().Data)
		s.end()

		s = p.get("/status")
		require.Equal(t, http.StatusUnauthorized, s.StatusCode)
		require.Equal(t, "Bearer", s.Response.Header.Get("Www-Authenticate"))
		s.leave()
	})
}

// The handler and the opening of the session must never use the map of the header at the same
// time.
func TestSessionHeaderAndOpenDelayDoNotMeet(t *testing.T) {
	r := newRouter(sse.Config{})
	const delay = 50 * time.Microsecond
	r.SSE("/", func(s *sse.ServerSession) error {
		began := time.Now()
		var stop atomic.Bool
		var others sync.WaitGroup
		for range 2 { // they compete with the handler for the session
			others.Go(func() {
				for !stop.Load() {
					assert.NoError(t, s.Heartbeat(sse.Heartbeat{Period: -1}))
				}
			})
		}
		for time.Since(began) < delay {
			runtime.Gosched()
		}
		h := s.Header()
		for range 500 {
			h.Set("X-Mine", "1")
		}
		stop.Store(true)
		others.Wait()
		return nil
	}, sse.WithOpenDelay(delay))
	for range 200 {
		record(r, "GET", "/")
	}
}

// Header can be called after the handler has returned, when the Header method of net/http's
// writer panics over HTTP/2.
func TestSessionHeaderAfterTheHandlerReturned(t *testing.T) {
	for _, proto := range protocols {
		t.Run(proto.Name, func(t *testing.T) {
			sessions := make(chan *sse.ServerSession, 1)
			r := newRouter(sse.Config{})
			r.SSE("/", func(s *sse.ServerSession) error {
				sessions <- s
				return s.SendData("x")
			})
			require.Equal(t, "data: x\n\n", get(t, serve(t, r, proto.Setup), "/").Body)
			s := testkit.Receive(t, sessions)
			testkit.Eventually(t, func() bool { return r.Plugin().Len() == 0 }, "the end of the session")
			require.NotPanics(t, func() {
				require.Equal(t, "text/event-stream", s.Header().Get("Content-Type"))
			})
		})
	}
}

// The header that Header returns after the end is that of the opening, whatever is done with the
// response's header since.
func TestSessionHeaderAfterTheEndIsACopy(t *testing.T) {
	var s *sse.ServerSession
	var open http.Header
	r := newRouter(sse.Config{})
	r.SSE("/", func(ss *sse.ServerSession) error {
		h := ss.Header()
		h["X-Two"] = []string{"1", "2"}
		h["X-None"] = []string{}
		testkit.NoError(t, ss.SendData("x"))
		s, open = ss, ss.Header()
		return nil
	})
	h := record(r, http.MethodGet, "/").Header()
	require.Equal(t, open, h)
	require.Len(t, open, 6)
	h["X-Two"][1] = "3"
	h.Del("Cache-Control")
	h.Add("X-Accel-Buffering", "yes")
	s.Header().Set("X-Two", "4")
	require.Equal(t, open, s.Header())
}

// A middleware that adds a value to a field changes no other field.
func TestStreamHeaderFieldsAreIndependent(t *testing.T) {
	r := newRouter(sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error { return s.Open() })
	h := record(r, http.MethodGet, "/").Header()
	want := h.Clone()
	for name := range want {
		h.Add(name, "added")
		want[name] = append(want[name], "added")
	}
	require.Equal(t, want, h)
}
