package sse_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chi-sse/sse"
)

// BenchmarkRecheck rechecks 10,000 sessions every second.
func BenchmarkRecheck(b *testing.B) {
	const n = 10_000
	var checks atomic.Int64
	started := make(chan struct{}, n)
	ended := make(chan struct{})
	revoked := map[string]bool{}
	r := newRouter(sse.Config{Heartbeat: sse.Heartbeat{Period: -1}})
	r.SSE("/", func(s *sse.ServerSession) error {
		if err := s.Open(); err != nil {
			return err
		}
		started <- struct{}{}
		<-ended
		return nil
	}, sse.WithRecheck(time.Second, func(s *sse.ServerSession) error {
		checks.Add(1)
		if revoked[s.Call().RemoteAddr] {
			return errOwn
		}
		return nil
	}))
	for range n {
		go r.ServeHTTP(discardWithDeadlines{discard{make(http.Header)}}, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
	}
	for range n {
		<-started
	}
	defer close(ended)
	checks.Store(0)
	began := processorTime()
	b.ResetTimer()
	for range b.N {
		time.Sleep(time.Second)
	}
	b.StopTimer()
	used := processorTime() - began
	b.ReportMetric(100*used.Seconds()/b.Elapsed().Seconds(), "%-of-a-core")
	b.ReportMetric(float64(checks.Load())/b.Elapsed().Seconds(), "checks/s")
	if checks.Load() > 0 {
		b.ReportMetric(float64(used.Nanoseconds())/float64(checks.Load()), "ns/check")
	}
}

// processorTime returns the processor time that the process has taken.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
