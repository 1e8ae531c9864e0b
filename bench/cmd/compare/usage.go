//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage holds what this process has used since it started.
type usage struct {
	CPU     time.Duration // user and system
	Mallocs uint64
}

// readUsage returns what this process has used so far.
func readUsage() (u usage) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{cpuTime(), m.Mallocs}
}

// cpuTime returns the user and system time of this process.
func cpuTime() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r) // it cannot fail with these arguments
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// since returns what was used between before and u.
func (u usage) since(before usage) usage {
	return usage{u.CPU - before.CPU, u.Mallocs - before.Mallocs}
}

// memory holds what this process occupies at rest.
type memory struct {
	RSS, Heap, Stacks int64 // bytes
	Goroutines        int
}

// readMemory returns what this process occupies, after it has collected garbage and
// returned free memory to the system. It returns an error if the resident set size cannot
// be read.
func readMemory() (m memory, err error) {
	debug.FreeOSMemory()
	time.Sleep(200 * time.Millisecond)
	debug.FreeOSMemory() // stacks shrink and finalizers free memory one collection later
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m.Heap, m.Stacks, m.Goroutines = int64(stats.HeapAlloc), int64(stats.StackInuse), runtime.NumGoroutine()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	rest, _, ok := strings.Cut(rest, " kB")
	kib, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
	if !ok || err != nil {
		return m, fmt.Errorf("/proc/self/status must have a VmRSS in kB: %w", err)
	}
	m.RSS = kib << 10
	return m, nil
}
