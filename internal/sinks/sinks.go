// Package sinks serves a hub to clients in memory that take everything at once, and measures it, for
// the tests and benchmarks of logs: the hub and its Log are then most of the work.
package sinks

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// TB is what this package needs of a testing.TB. A program that is no test can have another one.
type TB interface {
	require.TestingT
	Helper()
	Cleanup(func())
	Context() context.Context
}

// Topic is what all sinks follow.
const Topic = "a"

var dataField = []byte("data: ")

// number returns the number that data begins with.
func number(data []byte) (n int) {
	for _, c := range data {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// Sink is a client. It counts the events, and notes when the last one came.
type Sink struct {
	header http.Header
	events atomic.Int64
	last   atomic.Int64   // in nanoseconds
	wanted int64          // how many events it waits for
	left   *atomic.Int64  // it takes one from it when it has them
	times  []atomic.Int64 // when the event with each number came, in nanoseconds since 1970; nil to note none
}

// Events returns how many events have come.
func (s *Sink) Events() int64 { return s.events.Load() }

// Last returns when the last event came, in nanoseconds since 1970.
func (s *Sink) Last() int64 { return s.last.Load() }

// Header implements http.ResponseWriter.
func (s *Sink) Header() http.Header { return s.header }

// WriteHeader implements http.ResponseWriter.
func (s *Sink) WriteHeader(int) {}

// FlushError is for http.ResponseController.
func (s *Sink) FlushError() error { return nil }

// SetWriteDeadline is for http.ResponseController.
func (s *Sink) SetWriteDeadline(time.Time) error { return nil }

func (s *Sink) Write(b []byte) (int, error) {
	if n := int64(bytes.Count(b, dataField)); n > 0 { // no event has this text in its data
		now := time.Now().UnixNano()
		for rest := b; s.times != nil; { // before the events count
			var found bool
			if _, rest, found = bytes.Cut(rest, dataField); !found {
				break
			}
			if i := number(rest); i < len(s.times) {
				s.times[i].Store(now)
			}
		}
		had := s.events.Add(n) - n
		s.last.Store(now)
		if had < s.wanted && had+n >= s.wanted {
			s.left.Add(-1)
		}
	}
	return len(b), nil
}

// Hub is a hub with sinks.
type Hub struct {
	*hub.Hub
	t      TB
	router *sse.Router
	ctx    context.Context
	leave  context.CancelFunc
	served sync.WaitGroup
	left   atomic.Int64 // how many sinks wait for events
	once   sync.Once
}

// New returns a hub of log, or one without a Log if that is nil. It is closed when the test ends.
func New(t TB, cfg hub.Config, log hub.Log) *Hub {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	cfg.Log, cfg.Logger = log, quiet
	open := func() (*hub.Hub, error) { return hub.New(cfg) }
	if log != nil {
		open = func() (*hub.Hub, error) { return hub.Open(t.Context(), cfg) }
	}
	served, err := open()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	h := &Hub{Hub: served, t: t, ctx: ctx, leave: cancel, router: sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1, Logger: quiet})}
	h.router.SSE("/", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{Topic}})
	})
	t.Cleanup(h.Close)
	return h
}

// Close disconnects the sinks and shuts the hub down.
func (h *Hub) Close() {
	h.t.Helper()
	h.once.Do(func() {
		h.leave()
		h.served.Wait()
		require.NoError(h.t, h.Shutdown(context.Background()))
	})
}

// Connect connects n sinks with the last event id id, if that is not "". Each of them waits for so
// many events; see Await.
func (h *Hub) Connect(n int, id string, wanted int) []*Sink {
	return h.connect(h.ctx, n, id, wanted, 0)
}

// connect is Connect for sinks that leave when ctx is done, and note when each of the events came whose
// numbers are below timed.
func (h *Hub) connect(ctx context.Context, n int, id string, wanted, timed int) []*Sink {
	h.left.Store(int64(n))
	all := make([]*Sink, n)
	for i := range all {
		all[i] = &Sink{header: http.Header{}, left: &h.left, wanted: int64(wanted)}
		if timed > 0 {
			all[i].times = make([]atomic.Int64, timed)
		}
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
		if id != "" {
			r.Header.Set("Last-Event-ID", id)
		}
		h.served.Go(func() { h.router.ServeHTTP(all[i], r) })
	}
	return all
}

// Join is Connect for sinks without an id. It returns when they get what is published from then on.
func (h *Hub) Join(n, wanted int) []*Sink {
	h.t.Helper()
	return h.join(h.ctx, n, wanted, 0)
}

// join is Join for sinks that leave when ctx is done, and note when each of the events came whose
// numbers are below timed.
func (h *Hub) join(ctx context.Context, n, wanted, timed int) []*Sink {
	h.t.Helper()
	before := h.Count(Topic)
	all := h.connect(ctx, n, "", wanted, timed)
	h.wait(func() bool { return h.Count(Topic) >= before+n }, "not all sinks have joined")
	return all
}

// wait waits until f returns true.
func (h *Hub) wait(f func() bool, otherwise string) {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !f(); time.Sleep(100 * time.Microsecond) {
		require.True(h.t, time.Now().Before(deadline), otherwise)
	}
}

// Await waits until all sinks of the last call of Connect or Join have the events that they wait
// for.
func (h *Hub) Await() {
	h.t.Helper()
	h.wait(func() bool { return h.left.Load() <= 0 }, "not all sinks have got all events")
}

// Publish publishes n events of about 100 bytes in batches of each, and returns the first position.
func (h *Hub) Publish(n, each int) (first hub.Position) {
	h.t.Helper()
	for i := 0; i < n; i += each {
		positions, err := h.PublishAll(context.Background(), publications(i, min(each, n-i)))
		require.NoError(h.t, err)
		if i == 0 {
			first = positions[0]
		}
	}
	return first
}

var filling = strings.Repeat("x", 100)

// Event returns the event with a number.
func Event(number int) sse.Event { return sse.Event{Data: strconv.Itoa(number) + filling} }

// publications returns n publications whose events are numbered from first on.
func publications(first, n int) []hub.Publication {
	ps := make([]hub.Publication, n)
	for i := range ps {
		ps[i] = hub.Publication{Topic: Topic, Event: Event(first + i)}
	}
	return ps
}

// CountingLog is a Log that counts how often it is read.
type CountingLog struct {
	hub.Log
	reads atomic.Int64
}

// Reads returns how often Read was called.
func (l *CountingLog) Reads() int64 { return l.reads.Load() }

// Reset sets the count to 0.
func (l *CountingLog) Reset() { l.reads.Store(0) }

// Read implements hub.Log.
func (l *CountingLog) Read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
	l.reads.Add(1)
	return l.Log.Read(ctx, topics, after, upTo, limit)
}

// Median returns the median of v.
func Median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
