package hub

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A heartbeat does not send a position while an event is unsent: a delivery sends the
// event.
func TestHeartbeatBeforeDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{})
		s := new(readerSession)
		m := newMember(h.Hub, s, Subscription{})
		require.NoError(t, h.admit(m, []string{"a"}))
		defer m.leave(nil)
		m.placeCursor("", Now)
		h.publishTo("b", "a", "b")
		synctest.Wait() // nothing is sent, since the test has claimed m
		m.state.Store(stateIdle)

		frame, ok := (*owner)(m).BeginHeartbeat(nil)
		require.False(t, ok, "%s", frame)
		synctest.Wait()
		require.Equal(t, statusDone, m.deliver(h.head.Load(), new(reader)))
		require.Equal(t, []string{h.at(2).String()}, s.ids)

		frame, ok = (*owner)(m).BeginHeartbeat(nil)
		require.True(t, ok)
		require.Equal(t, "id: "+h.Position().String()+"\n\n", string(frame))
		(*owner)(m).EndHeartbeat()

		h.publishTo("a")
		synctest.Wait()
		require.Equal(t, []string{h.at(2).String(), h.at(4).String()}, s.ids)
		frame, ok = (*owner)(m).BeginHeartbeat(nil)
		require.False(t, ok, "the client knows the position: %s", frame)
	})
}
