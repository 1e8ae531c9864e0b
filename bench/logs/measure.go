//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/chi-sse/sse/bench/internal/report"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/sinks"
)

// options says what to measure.
type options struct {
	sizes    sizes
	rounds   int
	which    *regexp.Regexp // matches the names of the logs
	dir      string         // the folder in which there will be one for all files
	write    string         // the file for the page
	progress io.Writer
}

// sizes says how much is measured in each round.
type sizes struct {
	paced        int           // publications, 100 a second
	busy         int           // publications, 1,000 a second
	nodes        int           // further nodes
	flood        time.Duration // for full rate
	clients      int
	delivered    int // events to each client
	cold         int // events
	returning    int // events to each client that comes back
	transactions int // 500 a second
}

var fullSizes = sizes{
	paced: 150, busy: 1000, nodes: 8, flood: 700 * time.Millisecond, clients: 1000,
	delivered: 20_000, cold: 20_000, returning: 5000, transactions: 750,
}

// figures are what is measured of a log in a round. A figure that there is not is NaN.
type figures [all]float64

// The figures.
const (
	ack50 = iota // milliseconds
	ack99
	receive50
	receive99
	single // events a second
	batched
	deliveries
	ofMemory
	caughtUp
	returned
	pages
	hubCPU // microseconds
	serverCPU
	nodeCPU
	nodeServerCPU
	plainTransactions // a second
	publishTransactions
	batchTransactions
	commit50
	commit99
	committed50
	committed99
	all
)

// pageSize is how many events a hub reads at once.
const pageSize = 512

// measure measures the logs, and returns the page.
func measure(ctx context.Context, o options) (page string, err error) {
	began := time.Now()
	dir, err := os.MkdirTemp(o.dir, "logs")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()     // it may be too early for a server that is ending
	if err := os.Chmod(dir, 0o711); err != nil { // another user runs Postgres
		return "", err
	}
	logs := slices.DeleteFunc(places(dir), func(p *place) bool { return !o.which.MatchString(p.name) })
	outer := newTrial(ctx)
	outer.do(func() {
		for _, p := range logs {
			if p.start != nil {
				p.start(outer, p)
			}
		}
	})
	defer func() {
		if endErr := outer.end(); err == nil {
			err = endErr
		}
	}()
	if err := outer.err(); err != nil {
		return "", err
	}
	results := make(map[*place][]figures)
	used, had, own := usage(logs)
	for round := range o.rounds {
		for i := range logs {
			p := logs[(i+round)%len(logs)]
			start := time.Now()
			var f figures
			err := attempt(ctx, func(t *trial) { f = measureLog(t, o.sizes, p, fmt.Sprint("r", round)) })
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return "", fmt.Errorf("%s: %w", p.name, err)
			}
			results[p] = append(results[p], f)
			_, _ = fmt.Fprintf(o.progress, "round %d of %d: %s, %.1f s\n", round+1, o.rounds, p.name, time.Since(start).Seconds())
		}
		compareWithMemory(logs, results, round)
	}
	usedNow, hadNow, ownNow := usage(logs)
	others := float64((usedNow-used)-(ownNow-own)) / float64(hadNow-had)
	return o.page(logs, results, began, others), nil
}

// usage returns the processor time that the machine has used and had, and that this program and the
// servers have used.
func usage(logs []*place) (used, had, own time.Duration) {
	own = ownCPU()
	for _, p := range logs {
		if p.server != nil {
			own += p.server.cpu()
		}
	}
	used, had = machineCPU()
	return used, had, own
}

// compareWithMemory compares the deliveries of a round with those from memory.
func compareWithMemory(logs []*place, results map[*place][]figures, round int) {
	i := slices.IndexFunc(logs, func(p *place) bool { return p.name == memoryName })
	if i < 0 {
		return
	}
	for _, p := range slices.Delete(slices.Clone(logs), i, i+1) {
		results[p][round][ofMemory] = results[p][round][deliveries] / results[logs[i]][round][deliveries]
	}
}

// measureLog measures a new log with that name.
func measureLog(t *trial, sz sizes, p *place, name string) (out figures) {
	for i := range out {
		out[i] = math.NaN()
	}
	src := p.create(t, name)
	h := sinks.New(t, hub.Config{}, src.open(t))
	h.Publish(1, 1) // the first one makes files and scripts
	times := h.Pace(sz.paced, time.Second/100, h.PublishOne)
	out[ack50], out[ack99] = percentiles(times.Acknowledged)
	out[receive50], out[receive99] = percentiles(times.Received)
	measureCPU(t, sz, p, src, h, &out)
	out[single] = h.Flood(64, 1, sz.flood)
	out[batched] = h.Flood(64, 100, sz.flood)
	h.Close()
	out[deliveries] = sinks.Deliver(t, src.open(t), sz.clients, sz.delivered, min(1000, sz.delivered))
	measureReturn(t, sz, src, &out)
	if src.postgres != nil {
		transactions(t, sz, src, &out)
	}
	return out
}

// measureCPU measures what an event costs at 1,000 a second: the node that publishes it and delivers
// it to one client; each further node, which has no clients; and the server.
func measureCPU(t *trial, sz sizes, p *place, src *source, h *sinks.Hub, out *figures) {
	measure := func() (hub, server float64) {
		before, serverBefore := ownCPU(), time.Duration(0)
		if p.server != nil {
			serverBefore = p.server.cpu()
		}
		h.Pace(sz.busy, time.Second/1000, h.PublishOne)
		hub = micros(ownCPU()-before, sz.busy)
		if p.server == nil {
			return hub, math.NaN()
		}
		return hub, micros(p.server.cpu()-serverBefore, sz.busy)
	}
	out[hubCPU], out[serverCPU] = measure()
	if !p.nodes {
		return
	}
	var others []*sinks.Hub
	for range sz.nodes {
		others = append(others, sinks.New(t, hub.Config{}, src.open(t)))
	}
	withNodes, serverWithNodes := measure()
	out[nodeCPU] = (withNodes - out[hubCPU]) / float64(sz.nodes)
	out[nodeServerCPU] = (serverWithNodes - out[serverCPU]) / float64(sz.nodes)
	for _, h := range others {
		h.Close()
	}
}

// measureReturn measures clients that come back to what a hub no longer has in memory.
func measureReturn(t *trial, sz sizes, src *source, out *figures) {
	l := src.open(t)
	cfg := hub.Config{LogEvents: 10}
	if l == nil {
		cfg = hub.Config{} // the hub has nothing else
	}
	count := &sinks.CountingLog{Log: l}
	var log hub.Log
	if l != nil {
		log = count
	}
	h := sinks.New(t, cfg, log)
	first := h.Publish(sz.cold+1, 1000)
	out[caughtUp] = h.Return(1, first, sz.cold)
	h.Close()
	h = sinks.New(t, cfg, log) // without the pages that the other one has kept
	first = h.Publish(sz.returning+1, 1000)
	count.Reset()
	out[returned] = h.Return(sz.clients, first, sz.returning)
	if l != nil {
		out[pages] = float64(count.Reads())
	}
	h.Close()
}

// percentiles returns the median and the 99th percentile of seconds, in milliseconds.
func percentiles(seconds []float64) (p50, p99 float64) {
	sorted := make([]int64, len(seconds)) // nanoseconds
	for i, s := range seconds {
		sorted[i] = int64(s * 1e9)
	}
	slices.Sort(sorted)
	return report.Percentile(sorted, 0, 0.5) / 1e6, report.Percentile(sorted, 0, 0.99) / 1e6
}

// micros returns how many microseconds of d each of n has.
func micros(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1000 / float64(n) }
