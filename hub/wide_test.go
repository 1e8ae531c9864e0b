package hub

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
)

// A delivery to a member with many topics looks only at those with news.
func TestDeliveryLooksOnlyAtNews(t *testing.T) {
	const n, rounds = 10_000, 100
	h, topics := quietHub(t, Config{}), topicNames(n)
	s := new(readerSession)
	m := openMember(t, h, s, Subscription{Topics: topics})
	var r reader
	require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
	require.Equal(t, uint64(0), r.looked, "placeCursor has looked at them")
	for i := range rounds {
		publishTo(t, h, topics[i*7919%n])
		publishTo(t, h, "another")
		require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
		require.Len(t, s.ids, i+1)
		m.skipOtherTopics()
		require.Equal(t, h.head.Load(), m.cursor.Load())
	}
	require.LessOrEqual(t, r.looked, uint64(3*rounds))
}

// Members with many topics get each event of their topics once and in order, whatever they
// subscribe to and unsubscribe from meanwhile.
func TestWideMembers(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 6))
		h, names := quietHub(t, Config{}), topicNames(3*wideTopics)
		var ms []*Member
		var sessions []*readerSession
		follows, want := make([]map[string]bool, 4), make([][]string, 4)
		for i := range follows {
			s := new(readerSession)
			topics := names[:r.IntN(len(names)+1)]
			ms, sessions = append(ms, openMember(t, h, s, Subscription{Topics: topics})), append(sessions, s)
			follows[i] = make(map[string]bool)
			for _, name := range topics {
				follows[i][name] = true
			}
		}
		readers := [2]reader{}
		deliver := func(i int) { require.Equal(t, statusDone, ms[i].deliver(h.head.Load(), &readers[r.IntN(2)])) }
		for range 2000 {
			i, name := r.IntN(len(ms)), names[r.IntN(len(names))]
			switch r.IntN(8) {
			case 0:
				deliver(i)
			case 1:
				require.NoError(t, ms[i].Subscribe(name))
				follows[i][name] = true
			case 2:
				deliver(i) // an unsent event of the topic would not be sent
				ms[i].Unsubscribe(name)
				delete(follows[i], name)
			case 3:
				if m := ms[i]; m.wide != nil && !m.unsent(m.wide, h.head.Load()) {
					require.Len(t, sessions[i].ids, len(want[i]))
				}
			default:
				pos := publishTo(t, h, name)
				for j := range ms {
					if follows[j][name] {
						want[j] = append(want[j], pos.String())
					}
				}
			}
		}
		for i, m := range ms {
			deliver(i)
			require.Equal(t, want[i], sessions[i].ids, "seed %d, member %d", seed, i)
			require.Len(t, m.Topics(), len(follows[i]))
			for _, name := range m.Topics() {
				require.True(t, follows[i][name])
			}
			if m.wide != nil {
				require.Empty(t, m.wide.news)
				require.Empty(t, m.wide.heads)
				require.Len(t, m.wide.index, len(m.links))
				for i, l := range m.links {
					require.EqualValues(t, i, m.wide.index[l.topic])
				}
			}
			m.leave(nil)
			m.Unsubscribe(names...)
			require.ErrorIs(t, m.Subscribe("a"), sse.ErrClosed)
		}
	}
}

// The same with workers, publishers and changes of the topics at once. Topic "fixed" stays.
func TestWideMembersConcurrently(t *testing.T) {
	h, names := quietHub(t, Config{}), topicNames(2*wideTopics)
	const members, publishers, each = 6, 3, 1000
	var sessions []*readerSession
	var ms []*Member
	for i := range members {
		s := new(readerSession)
		m := openMember(t, h, s, Subscription{Topics: append([]string{"fixed"}, names[:i*5]...)})
		m.releaseOrDeliver()
		ms, sessions = append(ms, m), append(sessions, s)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var want []string
	errs := reporter{t}
	for p := range publishers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(p), 7))
			for range each {
				if r.IntN(3) > 0 {
					_, err := h.Publish(context.Background(), names[r.IntN(len(names))], sse.Event{Data: "x"})
					errs.report(err)
					continue
				}
				pos, err := h.Publish(context.Background(), "fixed", sse.Event{Data: "x"})
				errs.report(err)
				mu.Lock()
				want = append(want, pos.String())
				mu.Unlock()
			}
		})
	}
	for i, m := range ms {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 8))
			for range each {
				name := names[r.IntN(len(names))]
				if r.IntN(2) == 0 {
					errs.report(m.Subscribe(name))
				} else {
					m.Unsubscribe(name)
				}
				if r.IntN(10) == 0 {
					if _, ok := (*owner)(m).BeginHeartbeat(nil); ok {
						(*owner)(m).EndHeartbeat()
					}
				}
			}
		})
	}
	all.Wait()
	for i, m := range ms {
		for !m.claim() { // until the workers are done
			runtime.Gosched()
		}
		require.Equal(t, statusDone, m.deliver(h.head.Load(), new(reader)))
		got := make(map[string]bool)
		last := Position{}
		for _, id := range sessions[i].ids {
			pos, err := ParsePosition(id)
			require.NoError(t, err)
			require.Greater(t, pos.Offset, last.Offset, "each event once, in order")
			last, got[id] = pos, true
		}
		for _, id := range want {
			require.True(t, got[id], "member %d, event %s", i, id)
		}
	}
}

// After Unsubscribe, the unsent events of the topic are not sent: neither those of a topic in
// the heap of a member with many topics, nor those that SlowLatest has selected.
func TestUnsubscribedIsNotSent(t *testing.T) {
	h, names := quietHub(t, Config{}), topicNames(2*wideTopics)
	s := new(readerSession)
	m := openMember(t, h, s, Subscription{Topics: names})
	publishTo(t, h, names[0])
	want := publishTo(t, h, names[1])
	m.seek(0)
	m.Unsubscribe(names[0])
	require.Equal(t, statusDone, m.deliver(h.head.Load(), new(reader)))
	require.Equal(t, []string{want.String()}, s.ids)

	h = quietHub(t, Config{})
	latest := new(publishingSession)
	m = openMember(t, h, latest, Subscription{
		Topics: []string{"a", "b"}, Slow: SlowLatest,
		Key: func(m *Message) string { return m.Position.String() },
	})
	for range 2000 {
		publishTo(t, h, "a")
		publishTo(t, h, "b")
	}
	sent := 0
	latest.written = func() {
		if sent == 0 {
			sent = len(latest.ids)
			m.Unsubscribe("a")
		}
	}
	require.Equal(t, statusDone, m.deliver(h.head.Load(), new(reader)))
	require.Len(t, latest.ids, sent+(4000-sent)/2)
}

// After a gap, a member with many topics gets every event after the gap.
func TestWideMemberAfterGap(t *testing.T) {
	for _, slow := range []SlowPolicy{SlowSkip, SlowLatest} {
		h, names := quietHub(t, Config{LogEvents: 100}), topicNames(2*wideTopics)
		s := new(readerSession)
		m := openMember(t, h, s, Subscription{
			Topics: names, Slow: slow,
			Filter: func(*Message) bool { return true },
		})
		if slow == SlowLatest {
			m.latest.key = func(m *Message) string { return m.Position.String() }
		}
		var r reader
		for round := range 20 {
			for i := range 150 {
				publishTo(t, h, names[(round+i)%len(names)])
				if i == 20 {
					m.seek(h.head.Load() - 10) // so that the heap is not empty
				}
			}
			require.Equal(t, statusGap, m.deliver(h.head.Load(), &r))
			require.Equal(t, statusDone, m.applySlowPolicy(&r))
			gap, err := ParsePosition(s.ids[len(s.ids)-1])
			require.NoError(t, err)
			n, after := len(s.ids), h.head.Load()-gap.Offset
			for i := range 50 {
				publishTo(t, h, names[i%len(names)])
			}
			if slow == SlowLatest {
				after -= 50 // they leave the log
			}
			require.Equal(t, map[SlowPolicy]uint64{SlowSkip: 0, SlowLatest: 50}[slow], after)
			if slow == SlowLatest {
				require.Equal(t, statusGap, m.deliver(h.head.Load(), &r))
				require.Equal(t, statusDone, m.applySlowPolicy(&r))
				n = len(s.ids)
			}
			require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
			require.Len(t, s.ids, n+50+int(after))
		}
	}
}

// A wide member that has one topic left still gets positions from heartbeats.
func TestWideMemberOfOneTopic(t *testing.T) {
	h, names := quietHub(t, Config{}), topicNames(2*wideTopics)
	s := new(readerSession)
	m := openMember(t, h, s, Subscription{Topics: names})
	var r reader
	publishTo(t, h, names[0])
	m.seek(0) // names[0] is in the heap
	m.Unsubscribe(names[1:]...)
	require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
	for i := range 3 {
		require.Len(t, s.ids, i+1)
		publishTo(t, h, names[1])
		m.skipOtherTopics()
		require.Equal(t, h.head.Load(), m.cursor.Load())
		publishTo(t, h, names[0])
		m.skipOtherTopics()
		require.Less(t, m.cursor.Load(), h.head.Load())
		require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
	}
}

// reporter reports errors of goroutines other than the test's.
type reporter struct{ t *testing.T }

func (r reporter) report(err error) {
	if err != nil {
		r.t.Error(err)
	}
}

// The news of a member that nobody delivers to stay bounded, however often its topics change.
func TestNewsAreBounded(t *testing.T) {
	h, names := quietHub(t, Config{}), topicNames(2*wideTopics)
	m := openMember(t, h, new(readerSession), Subscription{Topics: names})
	for range 10_000 {
		m.Unsubscribe(names[0])
		require.NoError(t, m.Subscribe(names[0]))
		publishTo(t, h, names[0])
		m.shard.announce()
	}
	require.LessOrEqual(t, len(m.wide.news), 2*len(names))
	for range 100 { // a publication between the two halves of Unsubscribe
		l := m.removeLink(names[1])
		publishTo(t, h, names[1])
		m.shard.announce()
		require.Equal(t, newsGone, l.news)
		m.unlink(l, hooksUnsubscribed)
		require.NoError(t, m.Subscribe(names[1]))
	}
	require.LessOrEqual(t, len(m.wide.news), 2*len(names))
	require.Equal(t, statusDone, m.deliver(h.head.Load(), new(reader)))
}
