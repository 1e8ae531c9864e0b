//go:build linux

package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// The machine's monotonic clock is the same in all processes. Reading it costs a system
// call, so it is read once; the runtime's own clock, at a tenth of the cost, gives the time
// since then.
var (
	clockStart = time.Now()
	clockZero  = clockReading() - time.Since(clockStart)
)

// clockReading reads the machine's monotonic clock.
func clockReading() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail with this clock
	return time.Duration(ts.Nano())
}

// now returns the time of the machine's monotonic clock.
func now() time.Duration { return clockZero + time.Since(clockStart) }

// sleepUntil returns at t or a few microseconds later. It does not use a Go timer, which
// may be a millisecond late in an idle process.
func sleepUntil(t time.Duration) {
	ts := unix.NsecToTimespec(int64(t))
	for now() < t {
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil) // a signal may interrupt it
	}
}
