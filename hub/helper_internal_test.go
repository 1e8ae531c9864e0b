package hub

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
)

func itoa(n int) string { return strconv.Itoa(n) }

// logHub is a hub and its sessions, all in one synctest bubble.
type logHub struct {
	*Hub
	t      *testing.T
	router *sse.Router
}

func newLogHub(t *testing.T, cfg Config) *logHub {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	h, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &logHub{Hub: h, t: t, router: sse.Install(chi.NewRouter(), sse.Config{
		Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1, ShutdownSpread: -1, Logger: cfg.Logger,
	})}
}

func (h *logHub) publish(topic string, e sse.Event) Position {
	h.t.Helper()
	pos, err := h.Publish(h.t.Context(), topic, e)
	require.NoError(h.t, err)
	return pos
}

// publishTo publishes one event to each of topics, with the data "to TOPIC".
func (h *logHub) publishTo(topics ...string) {
	h.t.Helper()
	for _, topic := range topics {
		h.publish(topic, sse.Event{Data: "to " + topic})
	}
}

type logSession struct {
	w     modelWriter
	leave func()
}

// serve opens a session and returns when no event is unsent.
func (h *logHub) serve(sub Subscription, edit func(r *http.Request)) *logSession {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &logSession{w: modelWriter{header: make(http.Header)}, leave: func() {
		cancel()
		synctest.Wait()
	}}
	h.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
	require.NoError(h.t, err)
	edit(r)
	handler := h.router.SSEHandler(func(s *sse.ServerSession) error { return h.Serve(s, sub) })
	go handler.ServeHTTP(&s.w, r)
	synctest.Wait()
	return s
}

// resume is serve for a client that has a last event id.
func (h *logHub) resume(id string, topics ...string) *logSession {
	h.t.Helper()
	return h.serve(Subscription{Topics: topics}, func(r *http.Request) { r.Header.Set("Last-Event-ID", id) })
}

func (h *logHub) resumeAfter(pos Position, topics ...string) *logSession {
	h.t.Helper()
	return h.resume(pos.String(), topics...)
}

func (s *logSession) events() (events []event.Event) {
	synctest.Wait()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for e, err := range event.NewDecoder(bytes.NewReader(s.w.body.Bytes())).All() {
		if err != nil {
			panic(err) // a buffer has no read errors
		}
		events = append(events, e)
	}
	return events
}

// data returns the data of the events, and the reason of the gap if there is one.
func (s *logSession) data() (data []string, gap string) {
	for _, e := range s.events() {
		if e.Name == GapEvent {
			continue
		}
		data = append(data, e.Data)
	}
	return data, s.w.header.Get(GapHeader)
}

func (h *logHub) at(offset int) Position { return Position{h.spans.last().epoch, uint64(offset)} }

// requireLog asserts that the log holds the events at offsets, and no others.
func (h *logHub) requireLog(offsets ...uint64) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	var got []uint64
	for i := range h.log.entries.len() {
		got = append(got, h.log.entries.at(i).Position.Offset)
	}
	require.Equal(h.t, offsets, got)
}
