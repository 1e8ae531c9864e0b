package logkit

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/sinks"
)

// CheckReturn checks that many clients that come back at once to the same place share the pages that
// are read for them from l, which must be empty. A page is kept only for a moment, so some are read
// again if the machine is busy and the clients come one after the other.
func CheckReturn(t *testing.T, l hub.Log) {
	t.Helper()
	const clients, events, pageEvents = 200, 2000, 512
	count := &sinks.CountingLog{Log: l}
	h := sinks.New(t, hub.Config{LogEvents: 10}, count)
	first := h.Publish(events+1, 100)
	count.Reset()
	h.Connect(clients, first.String(), events)
	h.Await()
	require.Less(t, count.Reads(), int64(5*(events/pageEvents+1)))
}
