package hub_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
)

// Hubs of one Log take each other's ids, also after a restart, if they have the same key. A new
// key is a gap.
func TestIDKeyOfSeveralHubs(t *testing.T) {
	forEach(t, func(t *test) {
		log := logtest.NewMemory(7)
		key := []byte("a key that has thirty-two bytes.")
		node := func(key []byte) *app { return t.start(plan{hub: hub.Config{Log: log, LogEvents: 2, IDKey: key}}) }
		a := node(key)
		a.publishN("a", 1, 9) // more than it has in memory
		s := a.connect("/")
		require.Equal(t, a.ID(a.Position()), s.block().ID)
		a.publish("a", sse.Event{Data: "10"})
		s.expect("10")
		s.leave()
		a.publishN("a", 11, 14)

		b := node(key)
		require.NoError(t, b.Wait(t.Context(), a.Position()))
		c := b.resume("/", s.id)
		requireNoGap(t, c)
		c.expectN(11, 14) // 11 and 12 are from the Log
		require.Equal(t, b.ID(b.Position()), c.id)
		pos, err := a.ParseID(c.id)
		require.NoError(t, err)
		require.Equal(t, b.Position(), pos)

		for _, other := range [][]byte{nil, []byte("another of thirty-two bytes here")} {
			n := node(other)
			require.NoError(t, n.Wait(t.Context(), pos))
			want := hub.GapEpoch
			if other == nil {
				want = hub.GapMalformed
			}
			require.Equal(t, string(want), n.resume("/", c.id).Header.Get(hub.GapHeader))
		}
	})
}
