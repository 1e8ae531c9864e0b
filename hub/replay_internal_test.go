package hub

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/testkit"
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
			publishN(t, h, "a", 5)
			l := &link{topic: h.topic("a")} // all five are unsent
			publishN(t, h, "a", 2)          // 1 and 2 leave the log
			l.next = 0
			publishN(t, h, "a", 3) // 3 to 5 leave it
			l.skipTo(tt.to)
			require.Equal(t, tt.lost, l.lost())
		})
	}
}

// What leaves the log while a replay is being limited belongs to the gap that is told then: the
// member must not be told of it again, or be ended for it.
func TestLimitOfAReplayCoversWhatHasLeft(t *testing.T) {
	h, err := New(Config{LogEvents: 5, MaxReplay: 100})
	require.NoError(t, err)
	m := &Member{hub: h}
	follow := func(topic string) {
		m.links = append(m.links, &link{topic: h.topic(topic), m: m}) // all events are unsent
	}
	publishN(t, h, "b", 1)
	follow("b")
	publishN(t, h, "a", 1)
	follow("a")
	publishN(t, h, "a", 4) // that of b leaves the log
	require.Equal(t, GapReplay, m.limitReplay())
	for _, l := range m.links {
		require.False(t, l.lost(), l.topic.name)
	}
}

// A replay that is too much, until events of it leave the log while it is limited, is a gap up to
// the newest one that has left.
func TestReplayShrinksWhileItIsLimited(t *testing.T) {
	h, err := New(Config{LogEvents: 3, MaxReplay: 80})
	require.NoError(t, err)
	publishN(t, h, "a", 3)
	m := &Member{hub: h}
	m.links = []*link{{topic: h.topic("a"), m: m}}
	m.links[0].topic.users++ // it stays, also without events
	var publishing sync.WaitGroup
	stop := make(chan struct{})
	publishing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				publishN(t, h, "b", 3)
				publishN(t, h, "a", 3)
			}
		}
	})
	defer publishing.Wait()
	defer close(stop)
	for range 300_000 {
		from := h.head.Load() - 3
		if why := m.seekReplay(from); why != "" {
			require.Greater(t, m.cursor.Load(), from, "it is told of a gap of the reason %s", why)
		}
	}
}

func publishN(t *testing.T, h *Hub, topic string, n int) {
	t.Helper()
	for range n {
		_, err := h.Publish(t.Context(), topic, sse.Event{Data: "x"})
		testkit.NoError(t, err)
	}
}
