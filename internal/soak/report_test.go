package soak

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// counts is what a run has counted.
type counts struct {
	clients, refused, unreached, renewals, topics atomic.Int64
	connected                                     [kinds]atomic.Int64
	published, publishedBytes, delivered          atomic.Int64
	received, receivedBytes                       atomic.Int64
	kicks, subscribes, unsubscribes               atomic.Int64
	whole, forgotten, slowEnds                    atomic.Int64
	latency                                       histogram

	noted struct {
		sync.Mutex
		ends            map[string]int
		gaps            map[hub.GapReason]int
		vanished        int
		latest, longest time.Duration
	}
}

func (c *counts) noteEnd(r sse.EndReason, kicked, own bool) {
	what := r.String()
	switch {
	case kicked:
		what = "kicked"
	case own && r == sse.EndClientGone:
		what = "client gone"
	}
	c.noted.Lock()
	defer c.noted.Unlock()
	if c.noted.ends == nil {
		c.noted.ends = make(map[string]int)
	}
	c.noted.ends[what]++
}

func (c *counts) noteGap(r hub.GapReason) {
	c.noted.Lock()
	defer c.noted.Unlock()
	if c.noted.gaps == nil {
		c.noted.gaps = make(map[hub.GapReason]int)
	}
	c.noted.gaps[r]++
}

// noteVanished notes how long the server needed to notice that a client had vanished.
func (c *counts) noteVanished(d time.Duration) {
	c.noted.Lock()
	defer c.noted.Unlock()
	c.noted.vanished++
	c.noted.longest = max(c.noted.longest, d)
}

// noteGone notes the time from the end of the client's stream to that of the session.
func (c *counts) noteGone(d time.Duration) {
	c.noted.Lock()
	defer c.noted.Unlock()
	c.noted.latest = max(c.noted.latest, d)
}

// report returns the run's report.
func (s *soak) report() string {
	s.noted.Lock()
	defer s.noted.Unlock()
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	b.WriteString("\n")
	took := time.Since(s.began)
	line("soak", "%v, seed %d, load %v, %.2f processors", took.Round(time.Second), s.seed, s.load, (processorTime()-s.cpu).Seconds()/took.Seconds())
	line("servers", "%s; each with a hub; the hubs were renewed %d times in all", strings.Join(s.names, ", "), s.renewals.Load())
	line("clients", "%d over the run, %d at a time", s.clients.Load(), max(len(s.names), int(allClients*s.load)))
	var kindsText []string
	sum := int64(0)
	for k := range kinds {
		sum += s.connected[k].Load()
		kindsText = append(kindsText, fmt.Sprintf("%d %v", s.connected[k].Load(), k))
	}
	line("connections", "%d: %s; %d refused during a shutdown, %d lost by net/http before the handler", sum, strings.Join(kindsText, ", "), s.refused.Load(), s.unreached.Load())
	line("ends", "%s", counted(s.noted.ends))
	line("whole ends", "%d streams looked complete, and had everything", s.whole.Load())
	line("slow ends", "%d sessions ended by SlowEnd", s.slowEnds.Load())
	line("published", "%d events, %.1f MB, to %d topics", s.published.Load(), float64(s.publishedBytes.Load())/1e6, s.topics.Load()+int64(len(s.names)*slots))
	line("delivered", "%d events; received: %d, %.1f MB", s.delivered.Load(), s.received.Load(), float64(s.receivedBytes.Load())/1e6)
	line("gaps", "%s; all due, %d of them only because their topic was forgotten", counted(s.noted.gaps), s.forgotten.Load())
	line("moves", "%d kicks, %d subscribes, %d unsubscribes", s.kicks.Load(), s.subscribes.Load(), s.unsubscribes.Load())
	if s.network == nil {
		line("vanished", "skipped: no network namespaces")
	} else {
		line("vanished", "%d clients, the last noticed after %v (bound %v)", s.noted.vanished, s.noted.longest.Round(time.Millisecond), goneWithin)
	}
	line("left", "the last session ended %v after its client's stream (bound %v)", s.noted.latest.Round(time.Millisecond), goneWithin)
	line("machine", "a goroutine that only sleeps woke up %v too late in all; the bounds are for a machine that is not busy, and were extended by some of it", s.late.sum().Round(time.Second))
	line("latency", "p50 %v, p99 %v from publish to receive, of %d events of healthy clients", s.latency.quantile(0.5), s.latency.quantile(0.99), s.latency.sum())
	line("start", "%v", s.samples[0])
	if s.full {
		line("second third", "%v", s.third(2))
		line("last third", "%v", s.third(3))
	}
	line("end", "%v", s.samples[len(s.samples)-1])
	line("faults", "%d", s.nfaults())
	return b.String()
}

// counted returns the numbers of m as text, the largest first.
func counted[K ~string](m map[K]int) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b K) int { return m[b] - m[a] })
	var texts []string
	for _, k := range keys {
		texts = append(texts, fmt.Sprintf("%d %s", m[k], k))
	}
	if texts == nil {
		return "none"
	}
	return strings.Join(texts, ", ")
}

// histogram counts durations, each to within a tenth.
type histogram struct{ buckets [200]atomic.Int64 }

const histogramBase = 1.1

func (h *histogram) add(d time.Duration) {
	i := int(math.Log(max(1, d.Seconds()*1e5)) / math.Log(histogramBase)) // the first is 10 µs
	h.buckets[min(i, len(h.buckets)-1)].Add(1)
}

func (h *histogram) sum() (n int64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

func (h *histogram) quantile(q float64) time.Duration {
	left := int64(q * float64(h.sum()))
	for i := range h.buckets {
		if left -= h.buckets[i].Load(); left < 0 {
			return time.Duration(math.Pow(histogramBase, float64(i+1)) * 1e4).Round(10 * time.Microsecond)
		}
	}
	return 0
}
