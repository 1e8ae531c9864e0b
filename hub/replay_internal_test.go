package hub

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// An event that leaves the log while a replay is being limited is not skipped in silence: the
// next reader finds that it is lost.
func TestLimitOfAReplayHidesNoLoss(t *testing.T) {
	for name, tt := range map[string]struct {
		to   uint64 // the offset to which the link is moved
		lost bool
	}{
		"before what has left": {4, true},
		"after it":             {8, false},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := New(Config{LogEvents: 5})
			require.NoError(t, err)
			publish := func(n int) {
				for range n {
					_, err := h.Publish(t.Context(), "a", sse.Event{Data: "x"})
					require.NoError(t, err)
				}
			}
			publish(5)
			l := &link{topic: h.topic("a")} // all five are unsent
			publish(2)                      // 1 and 2 leave the log
			l.next = 0
			publish(3) // 3 to 5 leave it
			l.skipTo(tt.to)
			require.Equal(t, tt.lost, l.lost())
		})
	}
}
