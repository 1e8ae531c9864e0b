//go:build linux

package main

import (
	"context"
	"math"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// workload is one kind of measurement. Its outcome is one table.
type workload struct {
	name    string
	title   string
	of      *discipline
	columns []report.Column
	only    func(library.Library) bool // which libraries with the discipline take part; nil: all
	limit   time.Duration              // how long one run may take

	// run does one run with lib.
	run func(ctx context.Context, lib library.Library) (outcome, error)
}

// takes reports whether lib takes part in the workload.
func (w *workload) takes(lib library.Library) bool {
	return w.of.can(lib) && (w.only == nil || w.only(lib))
}

// outcome holds a figure for each column, and what went wrong in spite of that.
type outcome struct {
	figures []float64
	trouble string
}

// Sizes of an event's data, in bytes.
const (
	eventSize = 75       // makes encoded events of about 100 bytes
	largeSize = 10 << 10 // for the workload with a client that never reads
)

// startWithSubscribers starts a pair and gathers n subscribers. base is the number of the
// next event.
func startWithSubscribers(ctx context.Context, lib library.Library, n, backlog, size int, slow bool) (p *pair, base int, err error) {
	p, err = startPair(ctx, lib.Name, backlog)
	if err != nil {
		return nil, 0, err
	}
	base, err = p.gather(n, size, slow)
	if err != nil {
		p.end()
		return nil, 0, err
	}
	return p, base, nil
}

// gather connects n subscribers and publishes events of size bytes until each subscriber has
// received one. It returns the number of the next event, when the streams are quiet.
func (p *pair) gather(n, size int, slow bool) (next int, err error) {
	if err := p.load.call("connect", connectArgs{p.hello.Addr, p.hello.Target, n, slow}, nil); err != nil {
		return 0, err
	}
	var first published
	if err := p.both("gather", gatherArgs{size}, &first, "gather", nil, nil); err != nil {
		return 0, err
	}
	return first.End, p.load.call("drain", drainArgs{first.End}, nil)
}

// micros returns d divided by n, in microseconds.
func micros(d time.Duration, n int) float64 {
	return float64(d) / float64(time.Microsecond) / float64(n)
}

// millis returns a latency in milliseconds. For a negative one it returns +Inf.
func millis(ns int64) float64 {
	if ns < 0 {
		return math.Inf(1)
	}
	return float64(ns) / float64(time.Millisecond)
}
