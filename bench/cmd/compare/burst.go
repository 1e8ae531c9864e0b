//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// burst publishes count events to n subscribers as fast as the library accepts them. An
// event counts as lost if none arrives for patience.
func burst(n, count int, patience time.Duration) workload {
	return workload{
		name:  "burst",
		title: fmt.Sprintf("Burst: %s events of about 100 bytes at once to %s subscribers", report.Format(float64(count)), report.Format(float64(n))),
		of:    fanOut,
		columns: []report.Column{
			{Title: "lost", Better: report.Lower},
			{Title: "duplicates", Better: report.Lower},
			{Title: "streams ended", Better: report.Lower},
			{Title: "deliveries/s", Better: report.Higher, Ratio: true, Plot: true},
			{Title: "server CPU per delivery, µs", Better: report.Lower, Ratio: true},
		},
		limit: 2*time.Minute + patience,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			p, base, err := startWithSubscribers(ctx, lib, n, count, eventSize, false)
			if err != nil {
				return out, err
			}
			defer p.end()
			var pub published
			var got collected
			began := now()
			err = p.both(
				"burst", burstArgs{Size: eventSize, Count: count, Grace: time.Minute}, &pub,
				"collect", collectArgs{Base: base, Patience: patience}, &got)
			if err != nil {
				return out, err
			}
			out.trouble = got.complaint(pub)
			out.figures = []float64{
				float64(got.Lost), float64(got.Duplicates), float64(got.Closed),
				float64(got.Received) / (got.Last - began).Seconds(), micros(pub.Usage.CPU, got.Received),
			}
			return out, nil
		},
	}
}
