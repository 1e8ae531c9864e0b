//go:build linux

package main

import (
	"context"
	"math"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// workload is one kind of measurement, and the table of its outcome.
type workload struct {
	name    string
	title   string
	of      *discipline
	columns []report.Column
	only    func(library.Library) bool // of those who can; nil means all
	limit   time.Duration              // of one run
	run     func(ctx context.Context, lib library.Library) (outcome, error)
}

// takes reports whether lib has a part in the workload.
func (w *workload) takes(lib library.Library) bool {
	return w.of.can(lib) && (w.only == nil || w.only(lib))
}

// outcome is a figure for each column, and what was wrong nevertheless.
type outcome struct {
	figures []float64
	trouble string
}

// eventSize is that of the data, which makes frames of about 100 bytes; large is that
// of the workload with a slow client.
const (
	eventSize = 75
	largeSize = 10 << 10
)

// measured starts a pair, and gathers n subscribers.
func measured(ctx context.Context, lib library.Library, n, backlog, size int, slow bool) (p *pair, base int, err error) {
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

// gather connects n subscribers, and returns when all have had an event, the number of
// the next, and the streams are quiet.
func (p *pair) gather(n, size int, slow bool) (next int, err error) {
	if err := p.load.call("connect", connectArgs{p.hello.Addr, p.hello.Target, n, slow}, nil); err != nil {
		return 0, err
	}
	var first published
	if err := p.both("gather", gatherArgs{size}, &first, "gather", nil, nil); err != nil {
		return 0, err
	}
	return first.End, p.load.call("settle", settleArgs{first.End}, nil)
}

// micros is the mean of d over n things, in microseconds.
func micros(d time.Duration, n int) float64 {
	return float64(d) / float64(time.Microsecond) / float64(n)
}

// millis is a latency in milliseconds; a negative one is infinite.
func millis(ns int64) float64 {
	if ns < 0 {
		return math.Inf(1)
	}
	return float64(ns) / float64(time.Millisecond)
}
