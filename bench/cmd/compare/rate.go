//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

// rate publishes perSecond events a second to n subscribers for d.
func rate(n, perSecond int, d time.Duration) workload {
	return workload{
		name:  fmt.Sprintf("rate-%d", n),
		title: fmt.Sprintf("Fixed rate: %s subscribers, %d events of about 100 bytes a second; latency is counted from the moment when an event is due", report.Format(float64(n)), perSecond),
		of:    fanOut,
		columns: []report.Column{
			{Title: "p50, ms", Better: report.Lower, Ratio: true},
			{Title: "p99, ms", Better: report.Lower, Ratio: true, Plot: true},
			{Title: "server CPU per delivery, µs", Better: report.Lower, Ratio: true},
			{Title: "lost", Better: report.Lower},
			{Title: "generator CPU, µs"},
		},
		limit: time.Minute + 2*d,
		run: func(ctx context.Context, lib library.Library) (out outcome, err error) {
			pub, got, err := paced(ctx, lib, n, perSecond, eventSize, d, false)
			if err != nil {
				return out, err
			}
			out.trouble = got.complaint(pub)
			out.figures = []float64{
				millis(got.P50), millis(got.P99), micros(pub.Usage.CPU, got.Received),
				float64(got.Lost), micros(got.CPU, got.Received),
			}
			return out, nil
		},
	}
}

// paced starts a pair with n subscribers, and one that never reads if slow is true. It
// publishes events of size bytes to them at a fixed rate for d.
func paced(ctx context.Context, lib library.Library, n, perSecond, size int, d time.Duration, slow bool) (pub published, got collected, err error) {
	p, base, err := startWithSubscribers(ctx, lib, n, window, size, slow)
	if err != nil {
		return pub, got, err
	}
	defer p.end()
	return p.paced(base, max(1, int(d.Seconds()*float64(perSecond))), perSecond, size)
}

// paced publishes count events at a fixed rate. An event counts as lost if none arrives for
// three seconds.
func (p *pair) paced(base, count, perSecond, size int) (pub published, got collected, err error) {
	const grace = 3 * time.Second
	interval := time.Second / time.Duration(perSecond)
	start := now() + 300*time.Millisecond
	err = p.both(
		"rate", rateArgs{Size: size, Count: count, Start: start, Interval: interval, Grace: grace}, &pub,
		"collect", collectArgs{Base: base, Patience: grace, Start: start, Interval: interval, Count: count}, &got)
	return pub, got, err
}

// complaint says what went wrong in a run that has figures. It returns an empty string if
// nothing did.
func (c *collected) complaint(pub published) (text string) {
	switch {
	case pub.Blocked:
		return "publishing blocked"
	case c.Closed > 0:
		return fmt.Sprintf("%d streams ended: %s", c.Closed, c.Why)
	case c.Duplicates > 0:
		return fmt.Sprintf("%d duplicates", c.Duplicates)
	}
	return ""
}
