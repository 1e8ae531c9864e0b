package hub

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// endingRecorder records the ids of the events that it is sent, and the causes of its end.
type endingRecorder struct {
	readerSession
	ends []error
}

func (s *endingRecorder) Grace() time.Duration { return time.Hour }
func (s *endingRecorder) Progress() uint64     { return 0 }
func (s *endingRecorder) End(cause error)      { s.ends = append(s.ends, cause) }
func (s *endingRecorder) Interrupt()           {}

// A delivery stops at the limit of an ending, even if its reader has later events at hand
// from another member.
func TestDeliverUpToTheLimit(t *testing.T) {
	t.Parallel()
	h, err := New(Config{})
	require.NoError(t, err)
	var ms [2]*Member
	var sessions [2]endingRecorder
	for i := range ms {
		ms[i] = newMember(h, &sessions[i], Subscription{}) // claimed, so no worker sends to it
		require.NoError(t, h.admit(ms[i], []string{"a"}))
		ms[i].placeCursor("", Now)
	}
	for range 5 {
		_, err := h.Publish(t.Context(), "a", sse.Event{Data: "x"})
		require.NoError(t, err)
	}
	r := new(reader)
	ms[1].ending.Store(&ending{kind: endKick, limit: 3, cause: ErrKicked})
	require.Equal(t, statusDone, ms[0].deliver(h.head.Load(), r))
	require.Equal(t, statusEnded, ms[1].deliver(h.head.Load(), r))
	require.Len(t, sessions[0].ids, 5)
	require.Len(t, sessions[1].ids, 3)
	require.Equal(t, []error{ErrKicked}, sessions[1].ends)
}

// A member that is admitted while the hub shuts down, too late for Shutdown to see it, ends
// by itself.
func TestAdmitDuringAShutdown(t *testing.T) {
	t.Parallel()
	h, err := New(Config{})
	require.NoError(t, err)
	m := newMember(h, new(endingRecorder), Subscription{})
	m.shard.mu.Lock() // admit waits before Shutdown could see the member
	admitted := make(chan error, 1)
	go func() { admitted <- h.admit(m, []string{"a"}) }()
	for h.Stats().Members == 0 {
		time.Sleep(time.Millisecond)
	}
	h.closed.Store(true)
	m.shard.mu.Unlock()
	require.NoError(t, <-admitted)
	require.Equal(t, sse.ErrShutdown, m.ending.Load().cause)
}

// A later shutdown moves the limit of an earlier one, even while it is being delivered.
func TestEndSoonTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{})
		s := new(endingRecorder)
		var m *Member
		again := sync.OnceFunc(func() {
			h.publishTo("a")
			require.True(t, m.endSoon(sse.ErrShutdown))
			h.publishTo("a")
		})
		m = newMember(h.Hub, s, Subscription{Filter: func(*Message) bool { again(); return true }})
		require.NoError(t, h.admit(m, []string{"a"}))
		defer m.leave(nil)
		m.placeCursor("", Now)
		h.publishTo("a")
		require.True(t, m.endSoon(sse.ErrShutdown))
		h.publishTo("a")
		require.Equal(t, statusEnded, m.deliver(h.head.Load(), new(reader)))
		require.Len(t, s.ids, 3)
		require.Equal(t, []error{sse.ErrShutdown}, s.ends)

		m.leave(nil)
		require.False(t, m.endSoon(sse.ErrShutdown), "it has left")
		require.Equal(t, sse.ErrClosed, m.ending.Load().cause)
	})
}
