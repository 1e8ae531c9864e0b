// Package sinks serves a hub to clients in memory that take everything at once, for the tests and
// benchmarks of logs: the hub and its Log are then most of the work.
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
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// topic is what all sinks follow.
const topic = "a"

// Sink is a client. It counts the events, and notes when the last one came.
type Sink struct {
	header http.Header
	events atomic.Int64
	last   atomic.Int64  // in nanoseconds
	wanted int64         // how many events it waits for
	left   *atomic.Int64 // it takes one from it when it has them
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
	if n := int64(bytes.Count(b, []byte("data: "))); n > 0 { // no event has this text in its data
		had := s.events.Add(n) - n
		s.last.Store(time.Now().UnixNano())
		if had < s.wanted && had+n >= s.wanted {
			s.left.Add(-1)
		}
	}
	return len(b), nil
}

// Hub is a hub with sinks.
type Hub struct {
	*hub.Hub
	t      testing.TB
	router *sse.Router
	ctx    context.Context
	leave  context.CancelFunc
	served sync.WaitGroup
	left   atomic.Int64 // how many sinks wait for events
	once   sync.Once
}

// New returns a hub of log, or one without a Log if that is nil. It is closed when the test ends.
func New(t testing.TB, cfg hub.Config, log hub.Log) *Hub {
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
		return h.Serve(s, hub.Subscription{Topics: []string{topic}})
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
	h.left.Store(int64(n))
	all := make([]*Sink, n)
	for i := range all {
		all[i] = &Sink{header: http.Header{}, left: &h.left, wanted: int64(wanted)}
		r := httptest.NewRequestWithContext(h.ctx, http.MethodGet, "/", http.NoBody)
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
	before := h.Count(topic)
	all := h.Connect(n, "", wanted)
	testkit.Eventually(h.t, func() bool { return h.Count(topic) == before+n }, "the sinks to join")
	return all
}

// Await waits until all sinks of the last call of Connect or Join have the events that they wait
// for.
func (h *Hub) Await() {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); h.left.Load() > 0; time.Sleep(100 * time.Microsecond) {
		require.True(h.t, time.Now().Before(deadline), "%d sinks have not got all events", h.left.Load())
	}
}

// Publish publishes n events of about 100 bytes in batches of each, and returns the first position.
func (h *Hub) Publish(n, each int) (first hub.Position) {
	h.t.Helper()
	filling := strings.Repeat("x", 100)
	for i := 0; i < n; i += each {
		ps := make([]hub.Publication, min(each, n-i))
		for k := range ps {
			ps[k] = hub.Publication{Topic: topic, Event: sse.Event{Data: strconv.Itoa(i+k) + filling}}
		}
		positions, err := h.PublishAll(context.Background(), ps)
		require.NoError(h.t, err)
		if i == 0 {
			first = positions[0]
		}
	}
	return first
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
