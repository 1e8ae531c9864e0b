package boltlog

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

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
	t      testing.TB
	router *sse.Router
	ctx    context.Context
	wait   sync.WaitGroup
	left   atomic.Int64
}

// newBenchHub returns a hub of log, or without a Log if that is nil.
func newBenchHub(t testing.TB, cfg hub.Config, log hub.Log) *benchHub {
	t.Helper()
	cfg.Log, cfg.Logger = log, slog.New(slog.DiscardHandler)
	var h *hub.Hub
	var err error
	if log == nil {
		h, err = hub.New(cfg)
	} else {
		h, err = hub.Open(t.Context(), cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	bh := &benchHub{Hub: h, t: t, ctx: ctx, router: sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1, Logger: cfg.Logger})}
	bh.router.SSE("/", func(s *sse.ServerSession) error { return h.Serve(s, hub.Subscription{Topics: []string{"a"}}) })
	t.Cleanup(func() {
		cancel()
		bh.wait.Wait()
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
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
			h.t.Fatal(h.left.Load(), "clients have not got all events")
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func benchLog(t testing.TB) *Log {
	t.Helper()
	return openLog(t, newPath(t), Config{indexEvery: 10_000})
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
			h.t.Fatal(err)
		}
		if i == 0 {
			first = positions[0]
		}
	}
	return first
}

const hundred = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

// countingLog counts how often it is read.
type countingLog struct {
	*Log
	reads atomic.Int64
}

func (l *countingLog) Read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
	l.reads.Add(1)
	return l.Log.Read(ctx, topics, after, upTo, limit)
}
