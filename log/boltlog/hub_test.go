package boltlog_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
	"github.com/chi-sse/sse/log/boltlog"
)

// serve serves the hub's topic "a".
func serve(t testing.TB, h *hub.Hub) (url string) {
	t.Helper()
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"a"}, Start: hub.Beginning})
	})
	return testkit.Serve(t, r).URL
}

// read reads n events from url after the id. It returns them and what the header says of a gap.
func read(t testing.TB, url, id string, n int) (events []event.Event, gap string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Last-Event-ID", id)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	for ev, err := range event.NewDecoder(resp.Body).All() {
		require.NoError(t, err)
		if events = append(events, ev); len(events) == n {
			break
		}
	}
	return events, resp.Header.Get(hub.GapHeader)
}

// A client resumes over a restart, from memory or from the file. If its events have been
// dropped, it is told of a gap.
func TestClientResumesOverARestart(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/events.db"
	open := func(events int) (*boltlog.Log, *hub.Hub) {
		l, err := boltlog.Open(path, boltlog.Config{})
		require.NoError(t, err)
		h, err := hub.Open(t.Context(), hub.Config{Log: l, LogEvents: events})
		require.NoError(t, err)
		return l, h
	}
	l, h := open(100)
	first, err := h.Publish(t.Context(), "a", sse.Event{Data: "0"})
	require.NoError(t, err)
	var ps []hub.Publication
	for i := 1; i <= 3000; i++ {
		ps = append(ps, hub.Publication{Topic: "a", Event: sse.Event{Data: fmt.Sprint(i)}}, hub.Publication{Topic: "b", Event: sse.Event{Data: "other"}})
	}
	_, err = h.PublishAll(t.Context(), ps)
	require.NoError(t, err)
	for _, events := range []int{100, 10_000} {
		require.NoError(t, h.Shutdown(t.Context()))
		require.NoError(t, l.Close())
		l, h = open(events)
		got, gap := read(t, serve(t, h), first.String(), 3000)
		require.Empty(t, gap)
		for i, ev := range got {
			require.Equal(t, fmt.Sprint(i+1), ev.Data)
		}
		got, gap = read(t, serve(t, h), "", 3001)
		require.Empty(t, gap)
		require.Equal(t, "0", got[0].Data)
	}
	require.NoError(t, h.Shutdown(t.Context()))
	require.NoError(t, l.Close())

	l, err = boltlog.Open(path, boltlog.Config{MaxEvents: 10})
	require.NoError(t, err)
	testkit.Eventually(t, func() bool {
		b, err := l.Bounds(t.Context())
		return err == nil && b.Last-b.First < 20
	}, "old events to be dropped")
	h, err = hub.Open(t.Context(), hub.Config{Log: l})
	require.NoError(t, err)
	got, _ := read(t, serve(t, h), first.String(), 1)
	require.Equal(t, hub.GapEvent, got[0].Name)
	require.Contains(t, got[0].Data, string(hub.GapExpired))
	require.NoError(t, h.Shutdown(t.Context()))
	require.NoError(t, l.Close())
}

// Two hubs share a Log: both have every event, and one kick reaches both.
func TestTwoHubsOfOneLog(t *testing.T) {
	t.Parallel()
	l, err := boltlog.Open(t.TempDir()+"/events.db", boltlog.Config{})
	require.NoError(t, err)
	defer l.Close()
	var hubs [2]*hub.Hub
	for i := range hubs {
		hubs[i], err = hub.Open(t.Context(), hub.Config{Log: l})
		require.NoError(t, err)
	}
	defer func() {
		for _, h := range hubs {
			require.NoError(t, h.Shutdown(t.Context()))
		}
	}()
	pos, err := hubs[0].Publish(t.Context(), "a", sse.Event{Data: "1"})
	require.NoError(t, err)
	require.NoError(t, hubs[1].Wait(t.Context(), pos))
	got, _ := read(t, serve(t, hubs[1]), "", 1)
	require.Equal(t, "1", got[0].Data)
	require.Equal(t, pos.String(), got[0].ID)
}
