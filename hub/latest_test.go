package hub

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/engine"
)

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
		require.Equal(t, Position{h.spans.last().epoch, 1500}.String(), got[0], "the gap")
		require.Len(t, got, 1+2000)
		require.Equal(t, h.Position().String(), got[len(got)-1])
		for offset, times := range asked {
			require.Equal(t, 1, times, "event %d", offset)
		}
		require.Len(t, asked, 3500)
	})
}
