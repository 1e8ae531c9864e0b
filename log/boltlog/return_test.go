package boltlog

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
)

// A thousand clients come back at once to the same place, which is in the file only. Each page
// of the file is read once for all of them.
func TestReturningClientsReadEachPageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients, events, pageEvents = 1000, 2500, 512
		log := &countingLog{Log: benchLog(t)}
		h := newBenchHub(t, hub.Config{LogEvents: 10}, log)
		first := h.publish(events+1, events+1)
		synctest.Wait()
		log.reads.Store(0)
		h.connect(clients, first.String(), events)
		h.await()
		reads := log.reads.Load()
		require.Positive(t, reads)
		require.LessOrEqual(t, reads, int64(events/pageEvents+1))
	})
}
