package boltlog

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// These benchmarks compare a hub of a file with a hub without a Log, and with the bare file.
// The sessions write to memory, so that the hub is most of the work.

// sink is a client that takes everything at once. It counts the events, and notes when they came.
type sink struct {
	header http.Header
	events atomic.Int64
	last   atomic.Int64 // when the last one came, in nanoseconds
	left   *atomic.Int64
	due    int64 // after so many events it takes one from left
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}
func (s *sink) FlushError() error   { return nil }

func (s *sink) SetWriteDeadline(time.Time) error { return nil }
func (s *sink) SetReadDeadline(time.Time) error  { return nil }

func (s *sink) Write(b []byte) (int, error) {
	if n := int64(bytes.Count(b, []byte("\ndata: "))) + int64(len(b)-len(bytes.TrimPrefix(b, []byte("data: "))))/6; n > 0 {
		before := s.events.Add(n) - n
		s.last.Store(time.Now().UnixNano())
		if before < s.due && before+n >= s.due {
			s.left.Add(-1)
		}
	}
	return len(b), nil
}

// benchHub is a hub and sinks that it serves.
type benchHub struct {
	*hub.Hub
	b      *testing.B
	router *sse.Router
	ctx    context.Context
	wait   sync.WaitGroup
	left   atomic.Int64
}

// newBenchHub returns a hub of log, or without a Log if that is nil.
func newBenchHub(b *testing.B, cfg hub.Config, log hub.Log) *benchHub {
	b.Helper()
	cfg.Log, cfg.Logger = log, slog.New(slog.DiscardHandler)
	var h *hub.Hub
	var err error
	if log == nil {
		h, err = hub.New(cfg)
	} else {
		h, err = hub.Open(b.Context(), cfg)
	}
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	bh := &benchHub{Hub: h, b: b, ctx: ctx, router: sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1, Logger: cfg.Logger})}
	bh.router.SSE("/", func(s *sse.ServerSession) error { return h.Serve(s, hub.Subscription{Topics: []string{"a"}}) })
	b.Cleanup(func() {
		cancel()
		bh.wait.Wait()
		if err := h.Shutdown(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return bh
}

// connect connects n sinks with the last event id, each of which is to get due events.
func (h *benchHub) connect(n int, id string, due int64) []*sink {
	h.left.Store(int64(n))
	sinks := make([]*sink, n)
	for i := range sinks {
		s := &sink{header: http.Header{}, left: &h.left, due: due}
		sinks[i] = s
		req := httptest.NewRequestWithContext(h.ctx, http.MethodGet, "/", nil)
		if id != "" {
			req.Header.Set("Last-Event-ID", id)
		}
		h.wait.Go(func() { h.router.ServeHTTP(s, req) })
	}
	return sinks
}

// await waits until all sinks have got what is due.
func (h *benchHub) await() {
	for deadline := time.Now().Add(time.Minute); h.left.Load() > 0; {
		if time.Now().After(deadline) {
			h.b.Fatal(h.left.Load(), "clients have not got all events")
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func benchLog(b *testing.B) *Log {
	b.Helper()
	return openLog(b, newPath(b), Config{indexEvery: 10_000})
}

// publish publishes n events, in batches of each.
func (h *benchHub) publish(n, each int) (first hub.Position) {
	ps := make([]hub.Publication, each)
	for i := 0; i < n; i += each {
		for k := range ps {
			ps[k] = hub.Publication{Topic: "a", Event: sse.Event{Data: strconv.Itoa(i+k) + " " + hundred}}
		}
		positions, err := h.PublishAll(context.Background(), ps)
		if err != nil {
			h.b.Fatal(err)
		}
		if i == 0 {
			first = positions[0]
		}
	}
	return first
}

const hundred = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

// A hub of a file delivers nearly as much to 1,000 clients as one without.
func BenchmarkHubDeliver(b *testing.B) {
	const clients, events = 1000, 10_000
	var rates [2][]float64
	for b.Loop() {
		for i, log := range []hub.Log{nil, benchLog(b)} {
			h := newBenchHub(b, hub.Config{}, log)
			h.connect(clients, "", events)
			for h.Count("a") < clients {
				time.Sleep(time.Millisecond)
			}
			began := time.Now()
			h.publish(events, 100)
			h.await()
			rates[i] = append(rates[i], clients*events/time.Since(began).Seconds())
		}
	}
	b.ReportMetric(median(rates[0]), "memory-deliveries/s")
	b.ReportMetric(median(rates[1]), "file-deliveries/s")
	b.ReportMetric(median(rates[1])/median(rates[0]), "file/memory")
}

// At 100 events a second, a client has an event soon after Publish has returned.
func BenchmarkHubReceive(b *testing.B) {
	var appends, receives []float64
	h := newBenchHub(b, hub.Config{}, benchLog(b))
	s := h.connect(1, "", 1<<62)[0]
	for h.Count("a") < 1 {
		time.Sleep(time.Millisecond)
	}
	for b.Loop() {
		next := time.Now().Add(10 * time.Millisecond)
		had := s.events.Load()
		began := time.Now()
		h.publish(1, 1)
		appends = append(appends, time.Since(began).Seconds())
		for s.events.Load() == had {
			time.Sleep(20 * time.Microsecond)
		}
		receives = append(receives, float64(s.last.Load()-began.UnixNano())/1e9)
		time.Sleep(time.Until(next))
	}
	b.ReportMetric(1000*median(appends), "append-p50-ms")
	b.ReportMetric(1000*median(receives), "receive-p50-ms")
}

// A client catches up on cold events nearly as fast as the file can be read.
func BenchmarkHubCold(b *testing.B) {
	const events = 100_000
	log := benchLog(b)
	h := newBenchHub(b, hub.Config{LogEvents: 10}, log)
	first := h.publish(events+1, 1000+1)
	end := h.Position()
	var bare, cold []float64
	for b.Loop() {
		began := time.Now()
		n := 0
		for at := first; at.Offset < end.Offset; {
			page, err := log.Read(b.Context(), []string{"a"}, at, end, 512)
			if err != nil {
				b.Fatal(err)
			}
			n += len(page.Records)
			at.Offset = page.UpTo
		}
		bare = append(bare, float64(n)/time.Since(began).Seconds())
		began = time.Now()
		h.connect(1, first.String(), int64(n))
		h.await()
		cold = append(cold, float64(n)/time.Since(began).Seconds())
		time.Sleep(11 * time.Second) // until the hub has dropped the pages
	}
	b.ReportMetric(median(bare), "bare-events/s")
	b.ReportMetric(median(cold), "hub-events/s")
	b.ReportMetric(median(cold)/median(bare), "hub/bare")
}

// countingLog counts how often it is read.
type countingLog struct {
	*Log
	reads atomic.Int64
}

func (l *countingLog) Read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
	l.reads.Add(1)
	return l.Log.Read(ctx, topics, after, upTo, limit)
}

// A thousand clients that come back at once to the same cold place read each page once.
func BenchmarkHubReturn(b *testing.B) {
	const clients, events = 1000, 20_000
	log := &countingLog{Log: benchLog(b)}
	h := newBenchHub(b, hub.Config{LogEvents: 10}, log)
	first := h.publish(events+1, 1000)
	var rates, reads []float64
	for b.Loop() {
		log.reads.Store(0)
		began := time.Now()
		h.connect(clients, first.String(), events-1)
		h.await()
		rates = append(rates, clients*events/time.Since(began).Seconds())
		reads = append(reads, float64(log.reads.Load()))
		time.Sleep(11 * time.Second)
	}
	b.ReportMetric(median(rates), "deliveries/s")
	b.ReportMetric(median(reads), "pages-read")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
