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

func runLoad() error {
	g, err := newGenerator()
	if err != nil {
		return err
	}
	return serveCalls(map[string]operation{
		"connect":    op(g.connect),
		"disconnect": op(g.disconnect),
		"gather":     op(g.gather),
		"settle":     op(g.settle),
		"collect":    op(g.collect),
		"check":      op(check),
		"flood":      op(flood),
		"cpu":        op(func(struct{}) (time.Duration, error) { return cpuTime(), nil }),
	})
}

// gathering waits until each stream has had an event.
type gathering struct {
	n   int // streams without one
	err error
}

// gather is the other end of the server's.
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

// settling waits until each stream has had all events.
type settling struct {
	gathering
	g        *generator
	end      int
	deadline time.Duration
}

type settleArgs struct{ End int }

// settle waits for the last of the gathering's events, after which the streams are
// quiet.
func (g *generator) settle(args settleArgs) (struct{}, error) {
	l := &settling{g: g, end: args.End, deadline: now() + stall}
	if err := g.listen(l); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, l.err
}

func (l *settling) finished() bool {
	behind := 0
	for i := range l.g.conns {
		if l.g.conns[i].tally.Next() < l.end {
			behind++
		}
	}
	if behind > 0 && now() > l.deadline {
		l.err = fmt.Errorf("%d subscribers lack events from before the measurement", behind)
	}
	return behind == 0 || l.err != nil
}

type collectArgs struct {
	Base     int // the first event that counts
	AckEvery int // tell the server when all have so many more, or whatever they have when nothing else is to do; 0: at the end only
	Patience time.Duration

	// For latency, if Count is not 0: event i was due at Start and i times Interval.
	Start    time.Duration
	Interval time.Duration
	Count    int
}

// collected is what has arrived. Latencies are in nanoseconds, -1 for never.
type collected struct {
	Received   int
	Lost       int
	Duplicates int
	Closed     int           // streams that the server ended
	Why        string        // it ended one of them
	Last       time.Duration // when the last event came, by the monotonic clock
	CPU        time.Duration
	P50, P99   int64
}

// collecting counts events, and has the server know.
type collecting struct {
	collectArgs
	g       *generator
	floor   *stream.Floor
	acked   int
	end     int // 0 until the server has said it
	toldAt  time.Duration
	pending int // deliveries that may still come, when end is known
	latency []int64
	result  collected
}

// collect counts events until the server says that there are no more and all have
// arrived, or none has for Patience.
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
		_ = l.ack(false) // a server that is gone shows elsewhere
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
		return l.AckEvery > 0 && l.result.Closed > 0 // the window stays closed
	}
	return l.pending <= 0 || now() > max(l.result.Last, l.toldAt)+l.Patience
}

func (l *collecting) ack(gave bool) error {
	l.acked = l.floor.Floor()
	if gave {
		l.acked = gaveUp
	}
	return tellServer(l.acked)
}

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

// percentile is report.Percentile, with -1 for what never came.
func percentile(sorted []int64, missing int, p float64) int64 {
	if v := report.Percentile(sorted, missing, p); v < 1<<62 {
		return int64(v)
	}
	return -1
}
