//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// window is how many events are in flight at full rate.
const window = 32

// full publishes events to n subscribers at full rate for d.
func full(n int, d time.Duration) workload {
	return workload{
		name:  fmt.Sprintf("full-%d", n),
		title: fmt.Sprintf("Full rate: %s subscribers, %d events of about 100 bytes in flight", report.Format(float64(n)), window),
		of:    fanOut,
		columns: []report.Column{
			{Title: "deliveries/s", Better: report.Higher, Ratio: true, Plot: true},
			{Title: "server CPU per delivery, µs", Better: report.Lower, Ratio: true},
			{Title: "allocations per delivery", Better: report.Lower},
			{Title: "generator CPU, µs"},
		},
		limit: 2*time.Minute + 2*d,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			pub, got, err := fullRate(ctx, lib, n, window, eventSize, d)
			if err != nil {
				return out, err
			}
			if got.Lost > 0 || got.Duplicates > 0 {
				out.trouble = fmt.Sprintf("%d lost, %d duplicates", got.Lost, got.Duplicates)
			}
			deliveries := pub.Events * n
			out.figures = []float64{
				float64(deliveries) / pub.Duration.Seconds(),
				micros(pub.Usage.CPU, deliveries),
				float64(pub.Usage.Mallocs) / float64(deliveries),
				micros(got.CPU, got.Received),
			}
			return out, nil
		},
	}
}

// fullRate publishes events of size bytes to n subscribers for d, with up to inFlight events
// in flight. It fails if a stream ends.
func fullRate(ctx context.Context, lib library.Library, n, inFlight, size int, d time.Duration) (pub published, got collected, err error) {
	p, base, err := startWithSubscribers(ctx, lib, n, inFlight, size, false)
	if err != nil {
		return pub, got, err
	}
	defer p.end()
	err = p.both(
		"full", fullArgs{Size: size, Window: inFlight, Warm: d / 8, Duration: d}, &pub,
		"collect", collectArgs{Base: base, AckEvery: max(1, inFlight/4), Patience: stall}, &got)
	if got.Closed > 0 {
		err = fmt.Errorf("%d streams ended: %s", got.Closed, got.Why)
	}
	return pub, got, err
}
