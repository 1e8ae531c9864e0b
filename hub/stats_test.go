package hub_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestStats(t *testing.T) {
	forEach(t, func(t *test) {
		a := t.start(plan{hub: hub.Config{LogEvents: 10}})
		require.Equal(t, hub.Stats{Gaps: map[hub.GapReason]uint64{}}, a.Stats())
		s, two := a.connect("/"), a.connect("/?topic=a&topic=b")
		require.Equal(t, 2, a.Stats().Members)
		require.Equal(t, 2, a.Stats().Topics)
		for i := 1; i <= 15; i++ {
			a.publish("a", sse.Event{Data: strconv.Itoa(i)})
			s.expect(strconv.Itoa(i))
			two.expect(strconv.Itoa(i))
		}
		a.publish("c", sse.Event{Data: "c"})
		st := a.Stats()
		require.Positive(t, st.LogSize)
		st.LogSize = 0
		testkit.Eventually(t, func() bool { return a.Stats().Delivered == 30 }, "30 deliveries")
		st.Delivered = 30
		require.Equal(t, hub.Stats{
			Topics: 3, Members: 2, LogEvents: 10, Published: 16, Delivered: 30, Evicted: 6,
			Gaps: map[hub.GapReason]uint64{},
		}, st)
		a.resume("/", "nonsense").expectGap()
		require.Equal(t, map[hub.GapReason]uint64{hub.GapMalformed: 1}, a.Stats().Gaps)
		require.Equal(t, 1, strings.Count(a.log.String(), "client told of a gap"), fmt.Sprint(a.log))
		s.leave()
		two.leave()
		testkit.Eventually(t, func() bool { return a.Stats().Members == 1 }, "two members to leave")
		require.Equal(t, 2, a.Stats().Topics)
	})
}
