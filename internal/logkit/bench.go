package logkit

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Parallel calls f b.N times in all, from so many goroutines, and reports how many calls a second there
// were.
func Parallel(b *testing.B, goroutines int, f func() error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}
