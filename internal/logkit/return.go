package logkit

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/sinks"
)

// CheckReturn checks that many clients that come back at once to the same place read each page of l once
// together. l must be empty.
func CheckReturn(t *testing.T, l hub.Log) {
	t.Helper()
	const clients, events, pageEvents = 200, 2000, 512
	count := &sinks.CountingLog{Log: l}
	h := sinks.New(t, hub.Config{LogEvents: 10}, count)
	first := h.Publish(events+1, 100)
	b := Bounds(t, l)
	require.NoError(t, h.Wait(t.Context(), hub.Position{Epoch: b.Epoch, Offset: b.Last})) // otherwise pages end where the hub has come to
	count.Reset()
	h.Connect(clients, first.String(), events)
	h.Await()
	require.LessOrEqual(t, count.Reads(), int64(events/pageEvents+1))
}
