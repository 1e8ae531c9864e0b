//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// idle measures the memory of n subscribers that have received an event and wait. Before
// that, 200 subscribers connect and leave, so that what a server allocates only once does
// not count.
func idle(n int) workload {
	return workload{
		name:  "idle",
		title: fmt.Sprintf("Idle: %s subscribers", report.Format(float64(n))),
		of:    fanOut,
		columns: []report.Column{
			{Title: "KiB per subscriber", Better: report.Lower, Ratio: true, Plot: true},
			{Title: "live heap, KiB", Better: report.Lower},
			{Title: "stacks, KiB", Better: report.Lower},
			{Title: "goroutines per subscriber", Better: report.Lower},
		},
		limit: 2 * time.Minute,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			p, _, err := startWithSubscribers(ctx, lib, 200, window, eventSize, false)
			if err != nil {
				return out, err
			}
			defer p.end()
			if err := p.load.call("disconnect", nil, nil); err != nil {
				return out, err
			}
			time.Sleep(500 * time.Millisecond)
			var before, after memory
			if err := p.server.call("memory", nil, &before); err != nil {
				return out, err
			}
			if _, err := p.gather(n, eventSize, false); err != nil {
				return out, err
			}
			time.Sleep(time.Second)
			if err := p.server.call("memory", nil, &after); err != nil {
				return out, err
			}
			out.figures = []float64{
				float64(after.RSS-before.RSS) / 1024 / float64(n),
				float64(after.Heap-before.Heap) / 1024 / float64(n),
				float64(after.Stacks-before.Stacks) / 1024 / float64(n),
				float64(after.Goroutines-before.Goroutines) / float64(n),
			}
			return out, nil
		},
	}
}
