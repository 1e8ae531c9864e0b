//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// slow publishes large events to n subscribers at a fixed rate: for d without, and for d
// with one more client that never reads. It measures only the libraries that only accepts.
func slow(n, perSecond int, d time.Duration, only func(library.Library) bool) workload {
	return workload{
		name: "slow",
		title: fmt.Sprintf("A client that never reads: %s others, %d events of 10 KiB a second; latency of the others without it and with it",
			report.Format(float64(n)), perSecond),
		of: fanOut,
		columns: []report.Column{
			{Title: "p50 without it, ms", Better: report.Lower},
			{Title: "p50 with it, ms", Better: report.Lower, Ratio: true},
			{Title: "p99 without it, ms", Better: report.Lower},
			{Title: "p99 with it, ms", Better: report.Lower, Ratio: true, Plot: true},
			{Title: "not delivered with it", Better: report.Lower},
		},
		only:  only,
		limit: 2*time.Minute + 4*d,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			_, without, err := paced(ctx, lib, n, perSecond, largeSize, d, false)
			if err != nil {
				return out, fmt.Errorf("without the client that never reads: %w", err)
			}
			pub, with, err := paced(ctx, lib, n, perSecond, largeSize, d, true)
			if err != nil {
				return out, fmt.Errorf("with the client that never reads: %w", err)
			}
			out.trouble = with.complaint(pub)
			out.figures = []float64{
				millis(without.P50), millis(with.P50), millis(without.P99), millis(with.P99), float64(with.Lost),
			}
			return out, nil
		},
	}
}
