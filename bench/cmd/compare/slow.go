//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// slow is a fixed rate of large events without and with one more client, that never
// reads, for d each.
func slow(n, perSecond int, d time.Duration, only func(library.Library) bool) workload {
	return workload{
		name: "slow",
		title: fmt.Sprintf("A client that never reads: %s others, %d events of 10 KiB a second; their latency without and with it",
			report.Format(float64(n)), perSecond),
		of: fanOut,
		columns: []report.Column{
			{Title: "p50, ms", Better: report.Lower},
			{Title: "p50 with it, ms", Better: report.Lower, Ratio: true},
			{Title: "p99, ms", Better: report.Lower},
			{Title: "p99 with it, ms", Better: report.Lower, Ratio: true, Plot: true},
			{Title: "not delivered with it", Better: report.Lower},
		},
		only:  only,
		limit: 2*time.Minute + 4*d,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			_, without, err := paced(ctx, lib, n, perSecond, largeSize, d, false)
			if err != nil {
				return out, fmt.Errorf("without it: %w", err)
			}
			pub, with, err := paced(ctx, lib, n, perSecond, largeSize, d, true)
			if err != nil {
				return out, fmt.Errorf("with it: %w", err)
			}
			out.trouble = with.complaint(pub)
			out.figures = []float64{
				millis(without.P50), millis(with.P50), millis(without.P99), millis(with.P99), float64(with.Lost),
			}
			return out, nil
		},
	}
}
