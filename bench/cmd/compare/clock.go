//go:build linux

package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// The monotonic clock is the machine's, and so the same in all processes. Reading it
// by the runtime's own reading is a tenth of the cost of the system call.
var (
	clockStart = time.Now()
	clockZero  = clockReading() - time.Since(clockStart)
)

func clockReading() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // it cannot fail with this clock
	return time.Duration(ts.Nano())
}

// now is the time of the monotonic clock.
func now() time.Duration { return clockZero + time.Since(clockStart) }

// sleepUntil returns at t or a few microseconds later; a Go timer may be a millisecond
// late in an idle process.
func sleepUntil(t time.Duration) {
	ts := unix.NsecToTimespec(int64(t))
	for now() < t {
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) // a signal may interrupt it
	}
}
