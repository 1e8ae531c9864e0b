package soak

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"
)

// sample is what the process holds at a moment, after a garbage collection.
type sample struct {
	heap, goroutines, fds int64
}

// sample takes a sample.
func (s *soak) sample() {
	runtime.GC()
	runtime.GC() // what a sync.Pool holds survives the first
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	now := sample{heap: int64(mem.HeapAlloc), goroutines: int64(runtime.NumGoroutine()), fds: -1}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		now.fds = int64(len(fds))
	}
	s.samples = append(s.samples, now)
}

func (s *soak) sampleEvery(d time.Duration, quiet <-chan struct{}) {
	for n := 1; !closedAfter(d, quiet); n++ {
		s.sample()
		if n%6 == 0 {
			s.t.Logf("after %v: %v; %d clients, %d published, %d received, %d faults", time.Since(s.began).Round(time.Second), s.samples[len(s.samples)-1], s.clients.Load(), s.published.Load(), s.received.Load(), s.nfaults())
		}
	}
}

func (s *soak) nfaults() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nfault
}

func (x sample) String() string {
	return fmt.Sprintf("heap %.1f MB, %d goroutines, %d descriptors", float64(x.heap)/1e6, x.goroutines, x.fds)
}

// third returns the medians of the second or last third of the samples during the run.
func (s *soak) third(i int) sample {
	during := s.samples[1 : len(s.samples)-1]
	n := len(during) / 3
	part := during[len(during)-n:]
	if i == 2 {
		part = during[len(during)-2*n : len(during)-n]
	}
	median := func(f func(sample) int64) int64 {
		var values []int64
		for _, x := range part {
			values = append(values, f(x))
		}
		if len(values) == 0 {
			return 0
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	return sample{
		heap:       median(func(x sample) int64 { return x.heap }),
		goroutines: median(func(x sample) int64 { return x.goroutines }),
		fds:        median(func(x sample) int64 { return x.fds }),
	}
}

// pagesKept is how many bytes of cold events a hub of a file keeps at the most. How many it does
// depends on who has just come back.
const pagesKept = 16 << 20

// judgeSamples compares the medians of the last third of the run with those of the second. Up
// to an eighth more, and a little, is noise.
func (s *soak) judgeSamples() {
	second, last := s.third(2), s.third(3)
	for _, x := range []struct {
		what             string
		second, last, by int64
	}{
		{"bytes of heap", second.heap, last.heap, 2<<20 + s.files*pagesKept},
		{"goroutines", second.goroutines, last.goroutines, 40},
		{"file descriptors", second.fds, last.fds, 25},
	} {
		if x.last > x.second+x.second/8+x.by {
			s.fault("the %s grow: the median of the last third of the run is %d, that of the second %d", x.what, x.last, x.second)
		}
	}
}

// judgeEnd waits until goroutines and descriptors are back to what they were before the run.
func (s *soak) judgeEnd() {
	first := s.samples[0]
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		last := &s.samples[len(s.samples)-1]
		if last.goroutines <= first.goroutines && last.fds <= first.fds+epollDescriptors {
			return
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			s.fault("at the end are left: %v, but before the run there were: %v\n%s", *last, first, stacks[:runtime.Stack(stacks, true)])
			return
		}
		s.samples = s.samples[:len(s.samples)-1]
		s.sample()
	}
}

// epollDescriptors is how many descriptors the process keeps once it has used the network: the
// runtime's epoll set with its eventfd, and that of package socket.
const epollDescriptors = 4
