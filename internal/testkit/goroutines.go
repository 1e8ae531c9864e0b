package testkit

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// GoroutinesBackTo waits until at most n goroutines are running. If there are still more
// when its patience ends, it fails the test and prints the stacks of all goroutines.
func GoroutinesBackTo(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(Patience); runtime.NumGoroutine() > n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			require.FailNowf(t, "goroutines are left running", "%d more than the %d before\n%s", runtime.NumGoroutine()-n, n, stacks)
		}
	}
}

// NoLeak fails the test if, at its end, more goroutines are running than now. A test calls
// it first, before it starts anything. A test that runs in parallel with others cannot use
// it, because their goroutines count as well.
func NoLeak(t testing.TB) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		t.Helper()
		GoroutinesBackTo(t, before)
	})
}
