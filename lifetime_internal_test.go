package sse

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"
)

// A session fits into a size of the allocator's. One field more takes 16 bytes for each session.
func TestSessionSize(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) == 8 {
		require.LessOrEqual(t, unsafe.Sizeof(ServerSession{}), uintptr(208))
	}
}

// Sessions with an age have no timer and no goroutine each, and little memory.
func TestMaxAgeCost(t *testing.T) {
	const n = 100_000
	r := Install(chi.NewRouter(), Config{Logger: slog.New(slog.DiscardHandler)})
	p := r.Plugin()
	rt := r.newRoute(func(*ServerSession) error { return nil }, []RouteOption{WithMaxAge(time.Hour)})
	sessions := make([]ServerSession, n)
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	goroutines, before := runtime.NumGoroutine(), heap()
	p.mu.Lock()
	for i := range sessions {
		sessions[i].route = rt
		p.limitLife(&sessions[i])
	}
	p.mu.Unlock()
	took := int(heap()-before) / n // its place in the queue is part of the session, see TestSessionSize
	t.Logf("%d bytes for each session", took)
	require.LessOrEqual(t, took, 16)
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
	runtime.KeepAlive(sessions)
}

// A session that has ended waits nowhere any longer.
func TestEndedSessionsLeaveTheQueue(t *testing.T) {
	r := Install(chi.NewRouter(), Config{Logger: slog.New(slog.DiscardHandler)})
	p := r.Plugin()
	var waiting []int
	var checked []*recheck
	r.SSE("/", func(s *ServerSession) error {
		s.EndAt(time.Now().Add(time.Hour), nil)
		waiting = append(waiting, p.expiries.Len())
		checked = append(checked, s.extra.recheck)
		require.Same(t, s, s.extra.recheck.session.Load())
		return s.Open()
	}, WithMaxAge(2*time.Hour), WithRecheck(time.Hour, func(*ServerSession) error { return nil }))
	for range 3 {
		r.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	}
	require.Equal(t, []int{1, 1, 1}, waiting)
	require.Zero(t, p.expiries.Len())
	for _, r := range checked {
		require.Nil(t, r.session.Load(), "the wheel holds the session")
	}
}
