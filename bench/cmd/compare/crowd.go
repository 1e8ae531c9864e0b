//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// crowd sends ten events to n subscribers, with a silence before the last, in which
// heartbeats become due if the library has any. parseFlags asks for 18,000 subscribers,
// which fit into a process with 20,000 open files.
func crowd(n int) workload {
	const (
		before    = 9
		perSecond = 3
		silence   = 18 * time.Second // longer than the 15 s after which the hub sends a heartbeat
	)
	return workload{
		name:  "crowd",
		title: fmt.Sprintf("Crowd: %s subscribers, ten events, with a silence of %v before the last", report.Format(float64(n)), silence),
		of:    fanOut,
		columns: []report.Column{
			{Title: "lost", Better: report.Lower},
			{Title: "streams ended", Better: report.Lower},
			{Title: "p99, ms", Better: report.Lower, Ratio: true},
			{Title: "p99 of the last, ms", Better: report.Lower},
		},
		only:  func(l library.Library) bool { return l.Kind == library.Ours },
		limit: 2 * time.Minute,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			p, base, err := startWithSubscribers(ctx, lib, n, window, eventSize, false)
			if err != nil {
				return out, err
			}
			defer p.end()
			pub, got, err := p.paced(base, before, perSecond, eventSize)
			if err != nil {
				return out, err
			}
			time.Sleep(silence)
			last, gotLast, err := p.paced(pub.End, 1, perSecond, eventSize)
			if err != nil {
				return out, err
			}
			if out.trouble = got.complaint(pub); out.trouble == "" {
				out.trouble = gotLast.complaint(last)
			}
			out.figures = []float64{
				float64(got.Lost + gotLast.Lost), float64(got.Closed + gotLast.Closed),
				millis(got.P99), millis(gotLast.P99),
			}
			return out, nil
		},
	}
}
