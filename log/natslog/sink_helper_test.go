package natslog

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
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

// sink is a client in memory that takes everything at once. It counts the events, and notes when
// the last one came.
type sink struct {
	header http.Header
	events atomic.Int64
	last   atomic.Int64 // in nanoseconds
	due    int64        // how many events it is to get
	left   *atomic.Int64
}

func (s *sink) Header() http.Header              { return s.header }
func (s *sink) WriteHeader(int)                  {}
func (s *sink) FlushError() error                { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }
func (s *sink) SetReadDeadline(time.Time) error  { return nil }

func (s *sink) Write(b []byte) (int, error) {
	if n := int64(bytes.Count(b, []byte("data: "))); n > 0 { // no event has this text in its data
		had := s.events.Add(n) - n
		s.last.Store(time.Now().UnixNano())
		if had < s.due && had+n >= s.due {
			s.left.Add(-1)
		}
	}
	return len(b), nil
}

// sinkHub is a hub that serves its topic "a" to sinks.
type sinkHub struct {
	*hub.Hub
	t      testing.TB
	router *sse.Router
	ctx    context.Context
	leave  context.CancelFunc
	served sync.WaitGroup
	left   atomic.Int64 // how many sinks have not got all that is due
}

// newSinkHub returns a hub of log, or one without a Log if that is nil.
func newSinkHub(t testing.TB, cfg hub.Config, log hub.Log) *sinkHub {
	t.Helper()
	cfg.Log, cfg.Logger = log, quiet
	open := func() (*hub.Hub, error) { return hub.New(cfg) }
	if log != nil {
		open = func() (*hub.Hub, error) { return hub.Open(t.Context(), cfg) }
	}
	h, err := open()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	s := &sinkHub{Hub: h, t: t, ctx: ctx, leave: cancel, router: sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1, Logger: quiet})}
	s.router.SSE("/", func(session *sse.ServerSession) error {
		return h.Serve(session, hub.Subscription{Topics: []string{"a"}})
	})
	t.Cleanup(s.close)
	return s
}

// close disconnects the clients and shuts the hub down.
func (h *sinkHub) close() {
	h.t.Helper()
	h.leave()
	h.served.Wait()
	require.NoError(h.t, h.Shutdown(context.Background()))
}

// connect connects n sinks with the last event id, each of which is to get due events.
func (h *sinkHub) connect(n int, id string, due int) []*sink {
	h.left.Store(int64(n))
	sinks := make([]*sink, n)
	for i := range sinks {
		sinks[i] = &sink{header: http.Header{}, left: &h.left, due: int64(due)}
		r := httptest.NewRequestWithContext(h.ctx, http.MethodGet, "/", http.NoBody)
		if id != "" {
			r.Header.Set("Last-Event-ID", id)
		}
		h.served.Go(func() { h.router.ServeHTTP(sinks[i], r) })
	}
	return sinks
}

// join is connect, and waits until the sinks get what is published from now on.
func (h *sinkHub) join(n, due int) []*sink {
	h.t.Helper()
	before := h.Count("a")
	sinks := h.connect(n, "", due)
	testkit.Eventually(h.t, func() bool { return h.Count("a") == before+n }, "the clients to join")
	return sinks
}

// await waits until all sinks have got what is due.
func (h *sinkHub) await() {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); h.left.Load() > 0; time.Sleep(100 * time.Microsecond) {
		require.True(h.t, time.Now().Before(deadline), "%d clients have not got all events", h.left.Load())
	}
}

// publish publishes n events in batches of each, and returns the first position.
func (h *sinkHub) publish(n, each int) (first hub.Position) {
	h.t.Helper()
	filling := strings.Repeat("x", 100)
	for i := 0; i < n; i += each {
		ps := make([]hub.Publication, min(each, n-i))
		for k := range ps {
			ps[k] = hub.Publication{Topic: "a", Event: sse.Event{Data: strconv.Itoa(i+k) + filling}}
		}
		positions, err := h.PublishAll(context.Background(), ps)
		require.NoError(h.t, err)
		if i == 0 {
			first = positions[0]
		}
	}
	return first
}

// countingLog counts how often it is read.
type countingLog struct {
	*Log
	reads atomic.Int64
}

func (l *countingLog) Read(ctx context.Context, topics []string, after, upTo hub.Position, most int) (hub.Batch, error) {
	l.reads.Add(1)
	return l.Log.Read(ctx, topics, after, upTo, most)
}
