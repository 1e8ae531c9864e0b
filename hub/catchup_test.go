package hub

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// offsetsOf returns the offsets of the ids that s was sent.
func offsetsOf(t *testing.T, s *readerSession) (offsets []uint64) {
	t.Helper()
	for _, id := range s.ids {
		pos, err := ParsePosition(id)
		require.NoError(t, err)
		offsets = append(offsets, pos.Offset)
	}
	return offsets
}

// blockSession records the blocks that it is sent: events, and ids alone.
type blockSession struct {
	engine.Session
	blocks []string
}

func (s *blockSession) TryWrite(f *engine.Frames) (bool, error) {
	s.blocks = append(s.blocks, strings.SplitAfter(strings.TrimSuffix(string(f.Bytes()), "\n\n"), "\n\n")...)
	return false, nil
}

// Sessions of few and of many topics are subscribed to further ones from older positions,
// while events are published. Each event is sent once. Whatever its last event id is, a client
// that resumes from there misses nothing.
func TestSubscribeFromLosesNothing(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		names := topicNames(3 * wideTopics)
		followed := []int{0, 1, 2, wideTopics - 1, wideTopics, wideTopics + 1, 2 * wideTopics}[r.IntN(7)]
		h, s := quietHub(t, Config{}), new(blockSession)
		sub := Subscription{Topics: names[:followed]}
		odd := r.IntN(3) == 0
		if odd {
			sub.Filter = func(m *Message) bool { return m.Position.Offset%2 > 0 }
		}
		m := openMember(t, h, s, sub)
		due, sent := make([]map[uint64]bool, len(names)), make(map[uint64]bool)
		for i := range due {
			due[i] = make(map[uint64]bool)
		}
		var shared reader
		deliver := func() {
			n := len(s.blocks)
			require.Equal(t, statusDone, m.deliver(h.head.Load(), &shared))
			for _, block := range s.blocks[n:] {
				_, id, _ := strings.Cut(strings.TrimSpace(block), "id: ")
				pos, err := ParsePosition(id)
				require.NoError(t, err)
				last := pos.Offset
				if !strings.HasPrefix(block, "id: ") {
					require.False(t, sent[last], "seed %d: %d was sent twice", seed, last)
					sent[last] = true
				}
				for i := range followed {
					for offset := range due[i] {
						require.True(t, sent[offset] || offset > last, "seed %d: %d is missing at %d", seed, offset, last)
					}
				}
			}
			require.Equal(t, h.head.Load(), m.cursor.Load())
			for offset := range sent {
				require.LessOrEqual(t, offset, m.lastID.Load(), "seed %d: the last id is old", seed)
			}
		}
		for range 150 {
			switch n := r.IntN(20); {
			case n == 0 && followed < len(names):
				more := min(1+r.IntN(3), len(names)-followed)
				start, from := Beginning, uint64(0)
				if r.IntN(3) == 0 {
					from = uint64(r.IntN(int(h.head.Load()) + 1))
					start = After(Position{h.spans.last().epoch, from})
				}
				require.NoError(t, m.SubscribeFrom(start, names[followed:followed+more]...))
				for range more {
					for offset := range due[followed] {
						if offset <= from {
							delete(due[followed], offset)
						}
					}
					followed++
				}
				if r.IntN(2) == 0 {
					m.skipOtherTopics()
				}
				deliver()
			case n < 8:
				deliver()
			default:
				i, data := r.IntN(len(names)), "x"
				if r.IntN(5) == 0 {
					data = strings.Repeat("x", batchSize/3)
				}
				pos, err := h.Publish(t.Context(), names[i], sse.Event{Data: data})
				require.NoError(t, err)
				if !odd || pos.Offset%2 > 0 {
					due[i][pos.Offset] = true
				}
			}
		}
		deliver()
		total := 0
		for i := range followed {
			total += len(due[i])
			for offset := range due[i] {
				require.True(t, sent[offset])
			}
		}
		require.Len(t, sent, total)
	}
}

// A catch-up is in the hub's order over all topics, and after each of its events everything
// before it has been sent. It ends with the position, also if the session ends in the middle.
func TestSubscribeFromIsInOrder(t *testing.T) {
	for _, topics := range []int{1, wideTopics - 2, wideTopics + 5} {
		for _, ends := range []bool{false, true} {
			h, names := quietHub(t, Config{}), topicNames(topics+3)
			s := &publishingSession{written: func() {}}
			m := openMember(t, h, &endingSession{s, false}, Subscription{Topics: names[:topics]})
			const events = 5000
			for i := range events {
				_, err := h.Publish(t.Context(), names[i%len(names)], sse.Event{Data: strings.Repeat("x", 200)})
				require.NoError(t, err)
			}
			var r reader
			require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
			before := len(s.ids)
			require.NoError(t, m.SubscribeFrom(Beginning, names[topics:]...))
			writes := 0
			limit := h.head.Load()
			s.written = func() {
				if writes++; writes == 2 {
					if ends {
						m.ending.Store(&ending{kind: endShutdown, limit: limit})
					}
					publishTo(t, h, names[0])
				}
			}
			st := m.deliver(h.head.Load(), &r)
			for st == statusDone && m.cursor.Load() < h.head.Load() || st == statusDone && ends {
				st = m.deliver(h.head.Load(), &r)
			}
			require.Greater(t, writes, 2)
			var want []uint64
			for i := range uint64(events) {
				if i%uint64(len(names)) >= uint64(topics) {
					want = append(want, i+1)
				}
			}
			want = append(want, limit)
			if ends {
				require.Equal(t, statusEnded, st)
			} else {
				want = append(want, limit+1)
			}
			require.Equal(t, want, offsetsOf(t, &s.readerSession)[before:])
		}
	}
}

// endingSession is a session that can be ended.
type endingSession struct {
	*publishingSession
	ended bool
}

func (s *endingSession) End(error) { s.ended = true }

// Under SlowLatest, older events join what has been selected and not sent yet, in order. They
// do not replace newer events with the same key.
func TestSubscribeFromWithASelection(t *testing.T) {
	for _, topics := range []int{1, wideTopics + 1} {
		h, names := quietHub(t, Config{}), topicNames(topics+1)
		older := names[topics]
		s := &publishingSession{written: func() {}}
		key := func(m *Message) string { return itoa(int(m.Position.Offset) % 4000) }
		m := openMember(t, h, s, Subscription{Topics: names[:topics], Slow: SlowLatest, Key: key})
		for i := range 8000 {
			topic := older
			if i%2 == 1 || i >= 5000 {
				topic = names[i/2%topics]
			}
			publishTo(t, h, topic)
		}
		writes, first := 0, 0
		s.written = func() {
			if writes++; writes == 1 {
				first = len(s.ids)
				require.NoError(t, m.SubscribeFrom(Beginning, older))
			}
		}
		var r reader
		require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
		got := offsetsOf(t, &s.readerSession)
		require.Equal(t, []uint64{8000, 8000}, got[len(got)-2:], "the event, and the id alone")
		require.Greater(t, writes, 2)
		require.True(t, slices.IsSorted(got[first:]))
		sent := map[string]uint64{}
		for _, offset := range got[:first] { // those are gone, and older ones with the key follow
			sent[key(&Message{Position: Position{Offset: offset}})] = offset
		}
		for _, offset := range got[first:] {
			k := key(&Message{Position: Position{Offset: offset}})
			require.True(t, sent[k] != offset || offset == h.head.Load(), "%d was sent twice", offset)
			sent[k] = offset
		}
		for offset := uint64(4001); offset <= 8000; offset++ {
			k := key(&Message{Position: Position{Offset: offset}})
			require.NotZero(t, sent[k])
			if !slices.Contains(got[:first], offset) {
				require.Equal(t, offset, sent[k], "the newest of the key")
			}
		}
		require.Nil(t, m.latest.byKey)
	}
}

// If the older events have left the log before the first was sent, that is a gap after what
// the session had been sent.
func TestSubscribeFromLost(t *testing.T) {
	for _, topics := range []int{1, wideTopics + 1} {
		h, names := quietHub(t, Config{LogEvents: 10}), topicNames(topics+1)
		s := new(readerSession)
		m := openMember(t, h, s, Subscription{Topics: names[:topics]})
		publishTo(t, h, names[topics])
		last := publishTo(t, h, names[0])
		var r reader
		require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
		require.NoError(t, m.SubscribeFrom(Beginning, names[topics]))
		for range 20 {
			publishTo(t, h, "other")
		}
		require.Equal(t, statusGap, m.deliver(h.head.Load(), &r))
		require.Equal(t, last.Offset, m.cursor.Load())
		require.Equal(t, []string{last.String()}, s.ids)
	}
}

// Older events that the filter rejects, more than are read for one write, do not end the
// catch-up.
func TestSubscribeFromFiltersMuch(t *testing.T) {
	for _, topics := range []int{1, wideTopics + 1} {
		h, names := quietHub(t, Config{}), topicNames(topics+1)
		s := new(readerSession)
		m := openMember(t, h, s, Subscription{Topics: names[:topics], Filter: func(m *Message) bool { return len(m.Event.Data) == 1 }})
		for range 20 {
			_, err := h.Publish(t.Context(), names[topics], sse.Event{Data: strings.Repeat("x", batchSize/3)})
			require.NoError(t, err)
		}
		older := publishTo(t, h, names[topics])
		last := publishTo(t, h, names[0])
		var r reader
		require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
		require.NoError(t, m.SubscribeFrom(Beginning, names[topics]))
		require.Equal(t, statusDone, m.deliver(h.head.Load(), &r))
		require.Equal(t, []string{last.String(), older.String(), last.String()}, s.ids)
	}
}
