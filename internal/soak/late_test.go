package soak

import (
	"sync/atomic"
	"time"
)

// late is how late a goroutine has been that only sleeps, in all: the time for which other
// processes, or the soak itself, have kept the processors busy. Bounds on time are for a
// machine that is not, and are extended by some of it.
type late struct{ nanoseconds atomic.Int64 }

// watch measures until done is closed.
func (l *late) watch(done <-chan struct{}) {
	const tick = 10 * time.Millisecond
	for at := time.Now(); !closedAfter(tick, done); at = time.Now() {
		if d := time.Since(at) - tick; d > tick/2 {
			l.nanoseconds.Add(int64(d))
		}
	}
}

func (l *late) sum() time.Duration { return time.Duration(l.nanoseconds.Load()) }

// lateSteps is about how many goroutines have to run, one after the other, until the end of a
// client is noticed at both sides. Each may be late.
const lateSteps = 8

// bound returns the bound on something that began when sum was was.
func (l *late) bound(was time.Duration) time.Duration { return goneWithin + lateSteps*(l.sum()-was) }

// await waits for done. It reports false if the bound is over.
func (l *late) await(done <-chan struct{}) bool {
	began, was := time.Now(), l.sum()
	for left := goneWithin; left > 0; left = l.bound(was) - time.Since(began) {
		if closedAfter(left, done) {
			return true
		}
	}
	return closedAfter(0, done)
}
