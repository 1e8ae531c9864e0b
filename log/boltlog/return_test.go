package boltlog

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/sinks"
)

// A thousand clients come back at once to the same place, which is in the file only. Each page
// of the file is read once for all of them.
func TestReturningClientsReadEachPageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, events, pageEvents = 1000, 2500, 512
		log := &sinks.CountingLog{Log: benchLog(t)}
		h := sinks.New(t, hub.Config{LogEvents: 10}, log)
		first := h.Publish(events+1, events+1)
		synctest.Wait()
		log.Reset()
		h.Connect(clients, first.String(), events)
		h.Await()
		reads := log.Reads()
		require.Positive(t, reads)
		require.LessOrEqual(t, reads, int64(events/pageEvents+1))
	})
}
