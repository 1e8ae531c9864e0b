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

	// history is how many samples back a client sees that has just come.
	history = 60
)

// Vitals is how the machine does at one moment. A part that this machine does
// not tell is absent.
type Vitals struct {
	Time    time.Time `json:"time"`
	CPU     *CPU      `json:"cpu,omitempty"`
	Memory  *Memory   `json:"memory,omitempty"`
	Network *Network  `json:"network,omitempty"`
	Disk    *Disk     `json:"disk,omitempty"`
}

// CPU is the busy part of the processors' time since the sample before, in
// percent.
type CPU struct {
	Total float64   `json:"total"`
	Cores []float64 `json:"cores"`
}

// Memory is in bytes.
type Memory struct {
	Used  uint64 `json:"used"`
	Total uint64 `json:"total"`
}

// Network is in bytes per second, over all interfaces but the loopback.
type Network struct {
	In  uint64 `json:"in"`
	Out uint64 `json:"out"`
}

// Disk is in bytes per second over all disks, and in bytes for the file system
// that the access log lies on.
type Disk struct {
	Read  uint64 `json:"read"`
	Write uint64 `json:"write"`
	Used  uint64 `json:"used"`
	Total uint64 `json:"total"`
}

// id is the event id of a sample: its time, in milliseconds. Unlike a count, it
// says the same after a restart of the server.
func (v *Vitals) id() int64 { return v.Time.UnixMilli() }

// monitor samples the machine, once a second for all who watch, and sleeps while
// nobody does.
//
// As with the log file, those who watch are cursors over what is kept here, woken
// by a channel that the next sample closes. One that is slower than the samples
// fall out finds a hole in its chart, and holds up nobody.
type monitor struct {
	read func() reading
	wake chan struct{}

	mu       sync.Mutex
	watchers int
	left     time.Time     // when the last watcher left
	samples  []*Vitals     // oldest first; never altered, only replaced
	first    int           // the position of samples[0] among all samples ever
	sampled  chan struct{} // closed, and replaced, with each sample
}

func newMonitor(read func() reading) *monitor {
	return &monitor{
		read:    read,
		wake:    make(chan struct{}, 1),
		sampled: make(chan struct{}),
	}
}

// run samples while somebody watches, until ctx ends.
func (m *monitor) run(ctx context.Context) {
	for {
		select {
		case <-m.wake:
			m.sample(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (m *monitor) sample(ctx context.Context) {
	// Rates need two readings. The first sample comes early, so that whoever
	// woke us does not stare at an empty chart.
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

// wanted tells whether samples are of use. They are for a while after the last
// watcher left, so that a page that reloads, or lost its connection, comes back
// to a chart without a hole. After that, those there are have grown too old.
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

func (m *monitor) add(v *Vitals) {
	m.mu.Lock()
	defer m.mu.Unlock()
	drop := max(0, len(m.samples)+1-history)
	m.first += drop
	m.samples = append(slices.Clone(m.samples[drop:]), v)
	close(m.sampled)
	m.sampled = make(chan struct{})
}

// watch has the machine sampled until leave is called.
func (m *monitor) watch() (leave func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers++
	select {
	case m.wake <- struct{}{}:
	default: // there is a call waiting already
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.watchers--
		m.left = time.Now()
	}
}

// find returns the position after the sample of the given id. For an id that is
// none of ours, that is the position of the oldest sample.
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

// from returns the samples from a position on, the position after them, and a
// channel that is closed when there are more.
func (m *monitor) from(position int) (samples []*Vitals, next int, more <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	samples = m.samples[max(0, position-m.first):]
	return samples, m.first + len(m.samples), m.sampled
}

// stream serves the samples as events "vitals", those of the last minute first,
// after one event "host" that says what machine this is. A client that reconnects
// gets the samples it missed.
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

// since returns the vitals at the time of r, with rates over the time from before
// to r.
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

// rate returns what a counter grew by in a second. A counter that went back, as
// when an interface went away, did not grow.
func rate(before, after uint64, seconds float64) uint64 {
	if after <= before || seconds <= 0 {
		return 0
	}
	return uint64(math.Round(float64(after-before) / seconds))
}

// coreTime is what a processor did since it started, in seconds.
type coreTime struct{ busy, total float64 }

func (c coreTime) add(d coreTime) coreTime {
	return coreTime{c.busy + d.busy, c.total + d.total}
}

func (c coreTime) percentSince(before coreTime) float64 {
	total := c.total - before.total
	if total <= 0 {
		return 0
	}
	percent := 100 * (c.busy - before.busy) / total
	return math.Round(10*min(max(percent, 0), 100)) / 10
}
