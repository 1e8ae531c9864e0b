package hub

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// These tests count what the hub looks at, because its cost is bounded by what it sends.

// openMember makes a member of h that the test has claimed, so that no worker sends to it.
func openMember(t *testing.T, h *Hub, s engine.Session, sub Subscription) *Member {
	t.Helper()
	m := newMember(h, s, sub)
	require.NoError(t, h.admit(m, sub.Topics))
	m.placeCursor("", Now)
	m.joinTopics()
	return m
}

func quietHub(t *testing.T, cfg Config) *Hub {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	h, err := New(cfg)
	require.NoError(t, err)
	return h
}

func publishTo(t *testing.T, h *Hub, topic string) Position {
	t.Helper()
	pos, err := h.Publish(t.Context(), topic, sse.Event{Data: "x"})
	require.NoError(t, err)
	return pos
}

// A catch-up over many topics reads each entry once, and each topic about as often as it has
// the next event.
func TestCatchUpReadsWhatItSends(t *testing.T) {
	const events = 20_000
	for _, n := range []int{1, 2, wideTopics, wideTopics + 1, 64, 1000, 10_000} {
		h, topics := quietHub(t, Config{}), topicNames(n)
		var want []string
		for i := range events {
			want = append(want, publishTo(t, h, topics[i*7919%n]).String())
		}
		s := new(readerSession)
		m := openMember(t, h, s, Subscription{Topics: topics})
		m.seek(0)
		var r reader
		require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
		require.Equal(t, want, s.ids)
		require.LessOrEqual(t, r.looked, uint64(2*events+events/100+n), "%d topics", n)
	}
}

func topicNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("topic ", i)
	}
	return names
}

// A Filter that panics leaves nothing in the reader for the next member.
func TestReaderAfterPanic(t *testing.T) {
	h := quietHub(t, Config{})
	bad, good := new(readerSession), new(readerSession)
	m1 := openMember(t, h, &endedSession{bad, false}, Subscription{Topics: []string{"a", "b"}, Filter: func(*Message) bool { panic("of the filter") }})
	m2 := openMember(t, h, good, Subscription{Topics: []string{"c", "d"}})
	for range batchEvents { // more than are read at a time
		publishTo(t, h, "a")
		publishTo(t, h, "b")
	}
	want := []string{publishTo(t, h, "c").String(), publishTo(t, h, "d").String()}
	var r reader
	require.Equal(t, statusEnded, m1.deliver(h.head.Load(), &r))
	require.Equal(t, statusDone, m2.deliver(h.head.Load(), &r))
	require.Equal(t, want, good.ids)
}

// endedSession is a session that can be ended.
type endedSession struct {
	*readerSession
	ended bool
}

func (s *endedSession) End(error) { s.ended = true }

func TestMaxTopics(t *testing.T) {
	_, err := New(Config{MaxTopics: -1})
	require.EqualError(t, err, "hub: Config.MaxTopics must be positive, or zero for its default")
	for _, limit := range []int{3, wideTopics + 3} {
		h, names := quietHub(t, Config{MaxTopics: limit}), topicNames(limit+1)
		m := openMember(t, h, new(readerSession), Subscription{Topics: append(slices.Clone(names[:limit]), names[:limit]...)})
		require.Len(t, m.Topics(), limit, "a topic that is named twice counts once")
		require.NoError(t, m.Subscribe(names[1]))
		m.Unsubscribe(names[2])
		err = m.Subscribe(names[2], names[limit], "more")
		var tooMany *TooManyTopicsError
		require.ErrorAs(t, err, &tooMany)
		require.Equal(t, limit, tooMany.Max)
		require.EqualError(t, err, fmt.Sprintf("hub: subscribe: a member may follow at most %d topics (Config.MaxTopics)", limit))
		require.ElementsMatch(t, names[:limit], m.Topics())

		m2 := newMember(h, new(readerSession), Subscription{})
		require.ErrorAs(t, h.admit(m2, names), &tooMany)
		m2.leave(nil)
		require.Equal(t, Stats{Topics: limit, Members: 1, Gaps: map[GapReason]uint64{}}, h.Stats())
	}
}

// Names that clients make up leave no topics, and no memory, when their followers have gone.
func TestMadeUpTopics(t *testing.T) {
	h := quietHub(t, Config{MaxTopics: 1 << 20})
	publishTo(t, h, "real")
	stay := openMember(t, h, new(readerSession), Subscription{Topics: []string{"real", "empty"}})
	require.Equal(t, 2, h.Stats().Topics)
	before := heap()
	const many = 200_000
	m := openMember(t, h, new(readerSession), Subscription{Topics: []string{"real"}})
	for i := range many {
		require.NoError(t, m.Subscribe(fmt.Sprint("made up ", i)))
		if i%2 == 0 {
			m.Unsubscribe(fmt.Sprint("made up ", i))
		}
	}
	require.Equal(t, many/2+2, h.Stats().Topics)
	m.leave(errors.New("gone"))
	require.ErrorIs(t, m.Subscribe("after the end"), sse.ErrClosed)
	require.Equal(t, 2, h.Stats().Topics)
	require.Less(t, h.mostTopics, 2000)
	require.Less(t, int64(heap()-before), int64(1<<20))
	require.ElementsMatch(t, []string{"real", "empty"}, stay.Topics())

	// A client can also make up a topic that an event has left, or is about to leave.
	for i := range 1000 {
		name := fmt.Sprint("made up ", i)
		openMember(t, h, new(readerSession), Subscription{Topics: []string{name, name}}).leave(nil)
	}
	require.Equal(t, 2, h.Stats().Topics)
}

// The line in the log about a gap is short, however many topics the member follows.
func TestGapLogNamesFewTopics(t *testing.T) {
	h := quietHub(t, Config{})
	m := openMember(t, h, new(readerSession), Subscription{Topics: topicNames(1000)})
	names := m.topicsForLog()
	require.Len(t, names, 17)
	require.Equal(t, "and 984 more", names[16])
}

// SlowLatest without a Filter and a Key looks only at the newest event of each topic.
func TestSlowLatestReadsTheNewest(t *testing.T) {
	const events = 20_000
	for _, n := range []int{1, 2, 64} {
		h, topics := quietHub(t, Config{}), topicNames(n)
		var want []string
		for i := range events {
			want = append(want, publishTo(t, h, topics[i%n]).String())
		}
		s := new(readerSession)
		m := openMember(t, h, s, Subscription{Topics: topics, Slow: SlowLatest})
		m.seek(0)
		var r reader
		require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
		require.Equal(t, want[events-n:], s.ids)
		require.LessOrEqual(t, r.looked, uint64(5*n))
	}
}
