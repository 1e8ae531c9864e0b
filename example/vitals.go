package main

import (
	"context"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/chi-sse/sse"
)

const (
	// samplePeriod is the time from one sample to the next.
	samplePeriod = time.Second

	// history is how many samples are kept, and how many a new client gets at most.
	history = 60
)

// Vitals is one sample of how busy the machine is. A part that cannot be read on this
// machine is absent.
type Vitals struct {
	Time    time.Time `json:"time"`
	CPU     *CPU      `json:"cpu,omitempty"`
	Memory  *Memory   `json:"memory,omitempty"`
	Network *Network  `json:"network,omitempty"`
	Disk    *Disk     `json:"disk,omitempty"`
}

// CPU is the share of the time since the previous sample in which the processors were
// busy, in percent.
type CPU struct {
	Total float64   `json:"total"` // over all cores
	Cores []float64 `json:"cores"`
}

// Memory is the use of memory, in bytes.
type Memory struct {
	Used  uint64 `json:"used"`
	Total uint64 `json:"total"`
}

// Network is the traffic over all interfaces except the loopback, in bytes per second.
type Network struct {
	In  uint64 `json:"in"`
	Out uint64 `json:"out"`
}

// Disk is the traffic of all disks, and the space on the file system that the access log
// is on.
type Disk struct {
	Read  uint64 `json:"read"`  // bytes per second
	Write uint64 `json:"write"` // bytes per second
	Used  uint64 `json:"used"`  // bytes
	Total uint64 `json:"total"` // bytes
}

// id returns the event id of a sample, which is its Unix time in milliseconds. Unlike a
// count, the time still identifies the sample after the server has restarted.
func (v *Vitals) id() int64 { return v.Time.UnixMilli() }

// monitor samples the machine once a second while it has watchers, and sleeps while it
// has none. All watchers share the samples.
//
// As with logFile, each watcher keeps its own position in the samples, and waits on a
// channel that the next sample closes. A watcher that is so slow that samples are dropped
// before it gets them has a gap in its chart, and delays nobody else.
type monitor struct {
	read func() reading
	wake chan struct{} // has a value when a watcher has come

	mu       sync.Mutex
	watchers int
	left     time.Time     // when the last watcher left
	samples  []*Vitals     // oldest first; add replaces the slice and never changes it
	first    int           // how many samples came before samples[0]
	sampled  chan struct{} // closed, and replaced, with each sample
}

// newMonitor returns a monitor that reads the machine's counters with read.
func newMonitor(read func() reading) *monitor {
	return &monitor{
		read:    read,
		wake:    make(chan struct{}, 1),
		sampled: make(chan struct{}),
	}
}

// sampleWhileWatched samples the machine while there are watchers. It returns when ctx
// ends.
func (m *monitor) sampleWhileWatched(ctx context.Context) {
	for {
		select {
		case <-m.wake:
			m.sampleUntilUnwanted(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// sampleUntilUnwanted samples the machine once a second. It returns when samples are no
// longer wanted, or when ctx ends.
func (m *monitor) sampleUntilUnwanted(ctx context.Context) {
	// A rate needs two readings. The second one comes early here, so that the first
	// watcher does not look at an empty chart for long.
	before := m.read()
	select {
	case <-time.After(samplePeriod / 4):
	case <-ctx.Done():
		return
	}
	ticker := time.NewTicker(samplePeriod)
	defer ticker.Stop()
	for m.wanted() {
		after := m.read()
		m.add(after.since(before))
		before = after
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// wanted reports whether to go on sampling. It stays true for a minute (history times
// samplePeriod) after the last watcher has left, so that a page that is reloaded, or that
// reconnects, has no gap in its chart. When wanted returns false it drops the samples,
// because they are too old by then.
func (m *monitor) wanted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watchers > 0 || time.Since(m.left) < history*samplePeriod {
		return true
	}
	m.first += len(m.samples)
	m.samples = nil
	return false
}

// add adds a sample, drops the oldest one if there are too many, and wakes the watchers.
func (m *monitor) add(v *Vitals) {
	m.mu.Lock()
	defer m.mu.Unlock()
	drop := max(0, len(m.samples)+1-history)
	m.first += drop
	m.samples = append(slices.Clone(m.samples[drop:]), v)
	close(m.sampled)
	m.sampled = make(chan struct{})
}

// watch makes the caller a watcher until it calls leave.
func (m *monitor) watch() (leave func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers++
	select {
	case m.wake <- struct{}{}:
	default: // a value is already waiting
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.watchers--
		m.left = time.Now()
	}
}

// find returns the position after the sample with this id. If there is no such sample,
// it returns the position of the oldest one.
func (m *monitor) find(id string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, v := range slices.Backward(m.samples) {
		if strconv.FormatInt(v.id(), 10) == id {
			return m.first + i + 1
		}
	}
	return m.first
}

// from returns the samples at position and after it, the position after the last of them,
// and a channel that is closed when there are more.
func (m *monitor) from(position int) (samples []*Vitals, next int, more <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	samples = m.samples[max(0, position-m.first):]
	return samples, m.first + len(m.samples), m.sampled
}

// stream serves the samples as events "vitals". Before them it sends one event "host",
// which describes the machine. A new client first gets the samples of the last minute. A
// client that reconnects first gets the samples that it missed.
func (m *monitor) stream(s *sse.ServerSession) error {
	defer m.watch()()

	if err := s.SendTyped(sse.TypedEvent{Name: "host", Data: theHost()}); err != nil {
		return err
	}
	position := m.find(resumeID(s))
	for {
		samples, next, more := m.from(position)
		position = next
		for _, v := range samples {
			event := sse.TypedEvent{ID: strconv.FormatInt(v.id(), 10), Name: "vitals", Data: v}
			if err := s.SendTyped(event); err != nil {
				return err
			}
		}
		select {
		case <-more:
		case <-s.Done():
			return nil
		}
	}
}

// since returns the vitals at the time of r, with the rates over the time between before
// and r.
func (r reading) since(before reading) *Vitals {
	v := &Vitals{Time: r.time.UTC().Truncate(time.Millisecond)}
	seconds := r.time.Sub(before.time).Seconds()
	if len(r.cores) > 0 {
		v.CPU = &CPU{Cores: make([]float64, len(r.cores))}
		var all, allBefore coreTime
		for i, c := range r.cores {
			var b coreTime
			if i < len(before.cores) {
				b = before.cores[i]
			}
			v.CPU.Cores[i] = c.percentSince(b)
			all, allBefore = all.add(c), allBefore.add(b)
		}
		v.CPU.Total = all.percentSince(allBefore)
	}
	if r.memory != nil {
		v.Memory = &Memory{Used: r.memory.used, Total: r.memory.total}
	}
	if r.network != nil && before.network != nil {
		v.Network = &Network{
			In:  rate(before.network.in, r.network.in, seconds),
			Out: rate(before.network.out, r.network.out, seconds),
		}
	}
	if r.disk != nil && before.disk != nil {
		v.Disk = &Disk{
			Read:  rate(before.disk.in, r.disk.in, seconds),
			Write: rate(before.disk.out, r.disk.out, seconds),
		}
		if r.space != nil {
			v.Disk.Used, v.Disk.Total = r.space.used, r.space.total
		}
	}
	return v
}

// rate returns how much a counter has grown in each of those seconds, on average. It
// returns 0 for a counter that has gone down, which happens when an interface is removed.
func rate(before, after uint64, seconds float64) uint64 {
	if after <= before || seconds <= 0 {
		return 0
	}
	return uint64(math.Round(float64(after-before) / seconds))
}

// coreTime is how long a core has been busy, and how long it has run, in seconds since the
// machine started.
type coreTime struct{ busy, total float64 }

func (c coreTime) add(d coreTime) coreTime {
	return coreTime{c.busy + d.busy, c.total + d.total}
}

// percentSince returns the share of the time from before to c in which the core was busy,
// in percent, rounded to one decimal.
func (c coreTime) percentSince(before coreTime) float64 {
	total := c.total - before.total
	if total <= 0 {
		return 0
	}
	percent := 100 * (c.busy - before.busy) / total
	return math.Round(10*min(max(percent, 0), 100)) / 10
}
