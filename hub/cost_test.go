package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
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

func topicNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("topic ", i)
	}
	return names
}

// Under SlowLatest, Filter and Key are asked once for each event, however many writes it
// takes to send those that are left, and whatever is published meanwhile.
func TestLatestAsksOnce(t *testing.T) {
	const events = 20_000
	for _, keys := range []int{1, 300, 7000, events} {
		for _, topics := range []int{1, 3, wideTopics + 1} {
			h, names := quietHub(t, Config{}), topicNames(topics)
			filtered, keyed := make(map[uint64]int), make(map[uint64]int)
			last := make(map[string]string)
			key := func(m *Message) string { return itoa(int(m.Position.Offset) % keys) }
			sub := Subscription{
				Topics: names, Slow: SlowLatest,
				Filter: func(m *Message) bool { filtered[m.Position.Offset]++; return m.Position.Offset%3 > 0 },
				Key:    func(m *Message) string { keyed[m.Position.Offset]++; return key(m) },
			}
			publish := func(i int) {
				pos := publishTo(t, h, names[i%topics])
				if pos.Offset%3 > 0 {
					last[key(&Message{Position: pos})] = pos.String()
				}
			}
			s := &publishingSession{}
			m := openMember(t, h, s, sub)
			for i := range events {
				publish(i)
			}
			more := 100
			s.written = func() {
				if more > 0 {
					more--
					publish(more)
				}
			}
			for r := new(reader); m.cursor.Load() < h.head.Load(); {
				require.Equal(t, statusDone, m.deliver(h.head.Load(), r))
			}
			for offset := uint64(1); offset <= h.head.Load(); offset++ {
				accepted := 0
				if offset%3 > 0 {
					accepted = 1
				}
				if filtered[offset] != 1 || keyed[offset] != accepted {
					t.Fatalf("event %d, %d keys: Filter %d times, Key %d times", offset, keys, filtered[offset], keyed[offset])
				}
			}
			sent := make(map[string]int)
			for _, id := range s.ids {
				sent[id]++
			}
			for k, id := range last {
				if sent[id] != 1 {
					t.Fatalf("the newest of key %s of %d was sent %d times", k, keys, sent[id])
				}
			}
			require.Nil(t, m.latest.byKey, "nothing is kept when all is sent")
		}
	}
}

// publishingSession is a readerSession that calls written after each write.
type publishingSession struct {
	readerSession
	written func()
}

func (s *publishingSession) TryWrite(f *engine.Frames) (bool, error) {
	pending, err := s.readerSession.TryWrite(f)
	s.written()
	return pending, err
}

// What is selected under SlowLatest and leaves the log is a gap. What is still in the log is
// sent after it, and not asked for again.
func TestLatestLosesSelected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := quietHub(t, Config{LogEvents: 2000})
		asked := make(map[uint64]int)
		s := new(publishingSession)
		m := openMember(t, h, s, Subscription{
			Topics: []string{"a"}, Slow: SlowLatest,
			Key: func(m *Message) string { asked[m.Position.Offset]++; return m.Position.String() },
		})
		for range 2000 {
			publishTo(t, h, "a")
		}
		writes := 0
		s.written = func() {
			if writes++; writes == 1 {
				for range 1500 { // the log has only 500 of the selected events left
					publishTo(t, h, "a")
				}
			}
		}
		var r reader
		st := m.deliver(h.head.Load(), &r)
		require.Equal(t, statusGap, st)
		n := len(s.ids)
		require.Equal(t, statusDone, m.applySlowPolicy(&r))
		require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
		got := s.ids[n:]
		require.Equal(t, Position{h.epoch, 1500}.String(), got[0], "the gap")
		require.Len(t, got, 1+2000)
		require.Equal(t, h.Position().String(), got[len(got)-1])
		for offset, times := range asked {
			require.Equal(t, 1, times, "event %d", offset)
		}
		require.Len(t, asked, 3500)
	})
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
	for p := range publishers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(p), 7))
			for range each {
				if r.IntN(3) > 0 {
					_, err := h.Publish(context.Background(), names[r.IntN(len(names))], sse.Event{Data: "x"})
					assert.NoError(t, err)
					continue
				}
				pos, err := h.Publish(context.Background(), "fixed", sse.Event{Data: "x"})
				assert.NoError(t, err)
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
					assert.NoError(t, m.Subscribe(name))
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
		m.unlink(l, nil)
		require.NoError(t, m.Subscribe(names[1]))
	}
	require.LessOrEqual(t, len(m.wide.news), 2*len(names))
	require.Equal(t, statusDone, m.deliver(h.head.Load(), new(reader)))
}

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
	m = nil
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
