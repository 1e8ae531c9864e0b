//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chi-sse/sse/bench/internal/report"
	"github.com/chi-sse/sse/bench/internal/stream"
)

var errClosed = errors.New("the server closed the connection")

// runLoad carries out the load generator's operations until the parent ends it.
func runLoad() error {
	g, err := newGenerator()
	if err != nil {
		return err
	}
	return serveCalls(map[string]operation{
		"connect":    op(g.connect),
		"disconnect": op(g.disconnect),
		"gather":     op(g.gather),
		"drain":      op(g.drain),
		"collect":    op(g.collect),
		"check":      op(check),
		"serve":      op(serveStream),
		"cpu":        op(func(struct{}) (time.Duration, error) { return cpuTime(), nil }),
	})
}

// gathering is a listener that waits until each stream has received an event.
type gathering struct {
	n   int   // streams that have received none
	err error // why a stream was closed
}

// gather waits until each stream has received an event and then tells the server, whose
// own gather publishes events until then.
func (g *generator) gather(struct{}) (struct{}, error) {
	l := &gathering{n: len(g.conns)}
	for i := range g.conns {
		if g.conns[i].seen {
			l.n--
		}
	}
	if err := g.listen(l); err != nil {
		return struct{}{}, err
	}
	if l.err != nil {
		return struct{}{}, l.err
	}
	return struct{}{}, tellServer(1)
}

func (l *gathering) arrived(s *subscriber, seq int, _ time.Duration) {
	if s.tally.Next() == 0 {
		s.tally.Start(seq)
		l.n--
	}
	s.tally.Add(seq)
}

func (l *gathering) closed(_ *subscriber, why error) { l.err = why }
func (l *gathering) told(int)                        {}
func (l *gathering) idle() error                     { return nil }
func (l *gathering) finished() bool                  { return l.n == 0 || l.err != nil }

// draining is a listener that waits until each stream has received all events.
type draining struct {
	gathering
	g        *generator
	end      int // the number of the event after the last
	deadline time.Duration
}

type drainArgs struct{ End int }

// drain waits until each stream has received all events before args.End, which were
// published before the measurement. After that, the streams are quiet.
func (g *generator) drain(args drainArgs) (struct{}, error) {
	l := &draining{g: g, end: args.End, deadline: now() + stall}
	if err := g.listen(l); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, l.err
}

func (l *draining) finished() bool {
	behind := 0
	for i := range l.g.conns {
		if l.g.conns[i].tally.Next() < l.end {
			behind++
		}
	}
	if behind > 0 && now() > l.deadline {
		l.err = fmt.Errorf("%d subscribers lack events that were published before the measurement", behind)
	}
	return behind == 0 || l.err != nil
}

type collectArgs struct {
	Base int // the first event that counts

	// AckEvery says how often to tell the server which events all streams have received:
	// after each AckEvery further events, and when nothing is left to read. If AckEvery is
	// 0, the server is told only at the end.
	AckEvery int

	// Patience is how long to wait for a further event after the server has said that it
	// has published the last one.
	Patience time.Duration

	// If Count is not 0, the latency of Count events is measured: event i was due at
	// Start plus i times Interval.
	Start    time.Duration
	Interval time.Duration
	Count    int
}

// collected holds what has arrived. Latencies are in nanoseconds; -1 means that the event
// never came.
type collected struct {
	Received   int
	Lost       int
	Duplicates int
	Closed     int           // streams that the server ended
	Why        string        // why the last of them ended
	Last       time.Duration // when the last event came, by the monotonic clock
	CPU        time.Duration
	P50, P99   int64
}

// collecting is a listener that counts events and tells the server how far all streams
// have come.
type collecting struct {
	collectArgs
	g       *generator
	floor   *stream.Floor
	acked   int           // the event that the server was told last
	end     int           // the event after the last; 0 until the server has told it
	toldAt  time.Duration // when the server told it
	pending int           // deliveries that may still come, once end is known
	latency []int64       // of each delivery, in nanoseconds
	result  collected
}

// collect counts events until the server has published the last one and either all have
// arrived or none has arrived for args.Patience. If args.AckEvery is not 0, a stream that
// closes before the last event is published also ends it. In the end, it tells the server
// whether all events have arrived.
func (g *generator) collect(args collectArgs) (collected, error) {
	l := &collecting{collectArgs: args, g: g, floor: stream.NewFloor(len(g.conns), args.Base), acked: args.Base}
	for i := range g.conns {
		g.conns[i].tally.Start(args.Base)
	}
	l.latency = make([]int64, 0, len(g.conns)*args.Count)
	l.result.Last = now()
	before := cpuTime()
	if err := g.listen(l); err != nil {
		return l.result, err
	}
	l.result.CPU = cpuTime() - before
	return l.sum(), l.ack(l.end == 0 || l.floor.Floor() < l.end)
}

func (l *collecting) arrived(s *subscriber, seq int, at time.Duration) {
	if !s.tally.Add(seq) {
		return
	}
	l.result.Received++
	l.result.Last = at
	l.pending--
	l.floor.Add(seq)
	if i := seq - l.Base; l.Count > 0 && i < l.Count {
		l.latency = append(l.latency, int64(at-l.Start-time.Duration(i)*l.Interval))
	}
	if l.AckEvery > 0 && l.floor.Floor()-l.acked >= l.AckEvery {
		_ = l.ack(false) // if the server has died, the parent notices
	}
}

func (l *collecting) closed(s *subscriber, why error) {
	l.result.Closed++
	l.result.Why = why.Error()
	if l.end > 0 {
		l.pending -= s.tally.Missing(l.end)
	}
}

func (l *collecting) told(end int) {
	l.end, l.toldAt, l.pending = end, now(), 0
	for i := range l.g.conns {
		if s := &l.g.conns[i]; s.fd >= 0 {
			l.pending += s.tally.Missing(end)
		}
	}
}

func (l *collecting) idle() error {
	if l.AckEvery > 0 && l.floor.Floor() > l.acked {
		return l.ack(false)
	}
	return nil
}

func (l *collecting) finished() bool {
	if l.end == 0 {
		return l.AckEvery > 0 && l.result.Closed > 0 // the server would wait for this stream forever
	}
	return l.pending <= 0 || now() > max(l.result.Last, l.toldAt)+l.Patience
}

// ack tells the server the first event that some stream lacks, or gaveUp if lost is true.
func (l *collecting) ack(lost bool) error {
	l.acked = l.floor.Floor()
	if lost {
		l.acked = gaveUp
	}
	return tellServer(l.acked)
}

// sum returns the result, with losses, duplicates and latencies over all streams.
func (l *collecting) sum() collected {
	r := &l.result
	for i := range l.g.conns {
		s := &l.g.conns[i]
		r.Lost += s.tally.Missing(max(l.end, l.Base))
		r.Duplicates += s.tally.Duplicates()
	}
	slices.Sort(l.latency)
	missing := len(l.g.conns)*l.Count - len(l.latency)
	r.P50, r.P99 = percentile(l.latency, missing, 0.5), percentile(l.latency, missing, 0.99)
	return *r
}

// percentile is report.Percentile, but returns -1 for an event that never came.
func percentile(sorted []int64, missing int, p float64) int64 {
	if v := report.Percentile(sorted, missing, p); v < 1<<62 {
		return int64(v)
	}
	return -1
}
