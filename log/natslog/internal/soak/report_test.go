//go:build unix

package soak

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chi-sse/sse/hub"
)

// counts is what a run has counted.
type counts struct {
	troubles       map[string]int // by kind
	leaders        int            // how many were aimed at the stream's leader
	delivered      int
	concerned      int // connections for which there was a kick
	lostOrders     int // and to which it did not come, because it was lost with other records
	swept          int
	slowestKick    time.Duration
	slowestStop    time.Duration
	slowestCatchUp time.Duration
	recoveries     []time.Duration
	memory         [servers + 1][]state // of each node

	noted struct {
		sync.Mutex
		unknown, refused, unreached int // publications
		stuck                       int // likewise, because their keys were under way at the leader
		gaps                        map[string]int
		kicks, unknownKicks, noKick int
		lastAck                     time.Time
		outage, slowest             time.Duration
	}
}

func (c *counts) init() {
	c.troubles = make(map[string]int)
	c.noted.gaps = make(map[string]int)
}

func (c *counts) count(kind string) { c.troubles[kind]++ }

// elapsed returns how long the run has taken.
func (s *soak) elapsed() time.Duration { return time.Since(s.began).Round(time.Millisecond) }

// fail notes a fault that was found. The first one ends the run.
func (s *soak) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.trace("FAULT: %s", text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault == "" {
		s.fault = fmt.Sprintf("after %v, seed %d: %s", s.elapsed(), s.seed, text)
	}
}

func (s *soak) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault != ""
}

// trace notes what happens.
func (s *soak) trace(format string, args ...any) {
	s.traceMu.Lock()
	defer s.traceMu.Unlock()
	fmt.Fprintf(s.traceFile, "%s %v %s\n", time.Now().Format("15:04:05.000"), s.elapsed(), fmt.Sprintf(format, args...))
}

// showNodes traces how the nodes are.
func (s *soak) showNodes() {
	for _, p := range s.nodes {
		if p.cmd != nil {
			st, err := p.ask("leader=1&memory=1", 10*time.Second)
			s.trace("%s: %+v %v", p.cfg.Name, st, err)
		}
	}
}

// showTrace logs the last of what has happened.
func (s *soak) showTrace() {
	text, err := os.ReadFile(s.traceFile.Name())
	if err != nil {
		s.t.Log(err)
	}
	lines := strings.Split(string(text), "\n")
	s.t.Log("the trace ends with\n" + strings.Join(lines[max(0, len(lines)-60):], "\n"))
}

func (s *soak) noteAdmitted(connection string, at hub.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitted[connection] = at
}

func (s *soak) isAdmitted(connection string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.admitted[connection]
	return ok
}

// noteAck notes that something was acknowledged.
func (c *counts) noteAck() {
	c.noted.Lock()
	defer c.noted.Unlock()
	now := time.Now()
	c.noted.outage = max(c.noted.outage, now.Sub(c.noted.lastAck))
	c.noted.lastAck = now
}

func (s *soak) beginPublishing() {
	s.noted.Lock()
	defer s.noted.Unlock()
	s.noted.lastAck = time.Now()
}

// noteSlowest notes how long a publication took.
func (s *soak) noteSlowest(d time.Duration, ps []publication) {
	s.noted.Lock()
	defer s.noted.Unlock()
	if d > s.noted.slowest {
		s.noted.slowest = d
		s.trace("the slowest publication so far, %s and %d more, took %v", ps[0].Key, len(ps)-1, d)
	}
}

// notePublication notes a publication that has failed.
func (c *counts) notePublication(err error) {
	c.noted.Lock()
	defer c.noted.Unlock()
	switch {
	case isRefused(err):
		c.noted.unreached++
	case isKnown(err) && strings.Contains(err.Error(), "in process"):
		c.noted.stuck++
	case isKnown(err):
		c.noted.refused++
	default:
		c.noted.unknown++
	}
}

// isRefused reports whether a node could not be reached.
func isRefused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func (c *counts) noteKick(err error) {
	c.noted.Lock()
	defer c.noted.Unlock()
	switch {
	case err == nil:
		c.noted.kicks++
	case isRefused(err) || isKnown(err):
		c.noted.noKick++
	default:
		c.noted.unknownKicks++
	}
}

// noteGap notes a gap from an offset to another, and returns an error if it was not due.
func (s *soak) noteGap(reason hub.GapReason, from, to uint64) error {
	var why string
	switch {
	case reason == hub.GapAhead:
		if !s.trouble.Load() && time.Since(time.Unix(0, s.healed.Load())) > recoverPatience/4 {
			return fmt.Errorf("a gap from %d to %d: the node is behind, but there is no trouble", from, to)
		}
		why = "ahead of a node that is cut off"
	case reason == hub.GapExpired || reason == hub.GapLost || reason == hub.GapSlow:
		if to <= from || !s.ledger.dropped(to) {
			return fmt.Errorf("a gap from %d to %d (%s), but the stream has not dropped what is at %d", from, to, reason, to)
		}
		why = string(reason) + ": the stream has dropped it"
	default:
		return fmt.Errorf("a gap from %d to %d: %s", from, to, reason)
	}
	s.trace("gap: %s, from %d to %d", why, from, to)
	s.noted.Lock()
	defer s.noted.Unlock()
	s.noted.gaps[why]++
	return nil
}

// noteSample notes how much a node had without sessions.
func (s *soak) noteSample(p *process, st state) {
	s.memory[p.index] = append(s.memory[p.index], st)
	s.trace("%s, life %d, since %v: %d goroutines, %d descriptors, %d bytes", p.cfg.Name, p.lives, time.Since(p.started).Round(time.Second), st.Goroutines, st.Descriptors, st.Heap)
}

// spread returns the first, the lowest and the highest of some values.
func spread(all []state, value func(state) float64) string {
	low, high := value(all[0]), value(all[0])
	for _, st := range all {
		low, high = min(low, value(st)), max(high, value(st))
	}
	return fmt.Sprintf("%.4g (%.4g to %.4g)", value(all[0]), low, high)
}

// report returns the run's report.
func (s *soak) report() string {
	s.noted.Lock()
	defer s.noted.Unlock()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "\n  "+format, args...) }
	fmt.Fprintf(&b, "seed %d, %v, a stream of %d events", s.seed, s.elapsed().Round(time.Second), s.maxMsgs)
	line("trouble: %s; %d aimed at the leader of the stream", inWords(s.troubles), s.leaders)
	line("lives of the nodes: %s", func() (all []string) {
		for _, p := range s.nodes {
			all = append(all, fmt.Sprint(p.lives))
		}
		return all
	}())
	s.ledger.mu.Lock()
	acked, head := s.ledger.acked, s.ledger.head
	s.ledger.mu.Unlock()
	line("published: %d acknowledged, up to the offset %d; attempts: %d unknown, %d failed, %d with a key under way, %d did not reach a node", acked, head, s.noted.unknown, s.noted.refused, s.noted.stuck, s.noted.unreached)
	line("longest time without an acknowledgement: %v; the slowest publication took %v", s.noted.outage.Round(time.Millisecond), s.noted.slowest.Round(time.Millisecond))
	line("delivered: %d to %d clients over %d connections, of %d attempts; %d were silent", s.delivered, len(s.readers), s.opened.Load(), s.connections.Load(), s.silences.Load())
	line("gaps: %s", inWords(s.noted.gaps))
	line("kicks: %d, %d unknown, %d failed; they concerned %d connections, of which %d had lost them; %d of quiet clients, the slowest took %v", s.noted.kicks, s.noted.unknownKicks, s.noted.noKick, s.concerned, s.lostOrders, s.swept, s.slowestKick.Round(time.Millisecond))
	line("all nodes were well after %v; the slowest stop in order took %v, and all clients had everything after %v", rounded(s.recoveries), s.slowestStop.Round(time.Millisecond), s.slowestCatchUp.Round(time.Millisecond))
	for i, all := range s.memory {
		if len(all) > 0 {
			line("%s without sessions, at first and in all: %s goroutines, %s descriptors, %s MB", s.nodes[i].cfg.Name,
				spread(all, func(st state) float64 { return float64(st.Goroutines) }),
				spread(all, func(st state) float64 { return float64(st.Descriptors) }),
				spread(all, func(st state) float64 { return float64(st.Heap) / 1e6 }))
		}
	}
	return b.String()
}

func rounded(ds []time.Duration) (all []time.Duration) {
	for _, d := range ds {
		all = append(all, d.Round(10*time.Millisecond))
	}
	return all
}

// inWords returns what was counted.
func inWords(counts map[string]int) string {
	if len(counts) == 0 {
		return "none"
	}
	var words []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d %s", counts[what], what))
	}
	return strings.Join(words, ", ")
}
