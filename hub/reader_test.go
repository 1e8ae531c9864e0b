package hub

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// readerSession records the ids of the events that it is sent.
type readerSession struct {
	engine.Session
	ids []string
}

func (s *readerSession) MayBlock() bool { return false }

func (s *readerSession) TryWrite(f *engine.Frames) (bool, error) {
	for block := range strings.SplitSeq(strings.TrimSuffix(string(f.Bytes()), "\n\n"), "\n\n") {
		_, id, _ := strings.Cut(block, "id: ")
		s.ids = append(s.ids, id)
	}
	return false, nil
}

// One reader serves members of several kinds in turn, while events are published. Each
// member gets its own events, although the reader reuses its frames where it can.
func TestReaderShared(t *testing.T) {
	for seed := range uint64(120) {
		r := rand.New(rand.NewPCG(seed, 4))
		h, err := New(Config{})
		require.NoError(t, err)
		topics := []string{"a", "b"}
		var ms []*Member
		var sessions []*readerSession
		for i := range 2 + r.IntN(5) {
			s := new(readerSession)
			sub := Subscription{Topics: topics[i%2 : i%2+1]}
			switch r.IntN(6) {
			case 0:
				sub.Topics = topics
			case 1:
				sub.Filter = func(*Message) bool { return true }
			}
			m := newMember(h, s, sub)
			require.NoError(t, h.admit(m, sub.Topics))
			m.placeCursor("", Now)
			ms, sessions = append(ms, m), append(sessions, s)
		}
		published := make(map[string][]string)
		publish := func() {
			topic := topics[r.IntN(2)]
			e := sse.Event{Data: "x"}
			if r.IntN(10) == 0 {
				e.Data = strings.Repeat("x", batchSize/3)
			}
			pos, err := h.Publish(t.Context(), topic, e)
			require.NoError(t, err)
			for _, name := range []string{topic, "a b"} {
				published[name] = append(published[name], pos.String())
			}
		}
		var shared reader
		deliver := func(m *Member) {
			before := h.head.Load()
			if r.IntN(3) == 0 {
				publish() // after the offset that deliver is asked for
			}
			require.Equal(t, statusDone, m.deliver(before, &shared))
		}
		for range 60 {
			for range []int{0, 1, 1, 2, 5, 3 * batchEvents / 2}[r.IntN(5+r.IntN(50)/49)] {
				publish()
			}
			deliver(ms[r.IntN(len(ms))])
		}
		for i, m := range ms {
			require.Equal(t, statusDone, m.deliver(h.head.Load(), &shared))
			require.Equal(t, published[strings.Join(m.Topics(), " ")], sessions[i].ids, "seed %d, member %d", seed, i)
		}
	}
}

// The id that ends a catch-up is for one member only, although the reader reuses its frames.
func TestReaderAfterACatchUp(t *testing.T) {
	h, err := New(Config{})
	require.NoError(t, err)
	for range 3 {
		_, err = h.Publish(t.Context(), "a", sse.Event{Data: "x"})
		require.NoError(t, err)
	}
	var shared reader
	ids := []string{Position{h.spans.last().epoch, 1}.String(), Position{h.spans.last().epoch, 2}.String(), Position{h.spans.last().epoch, 3}.String()}
	s := new(readerSession)
	m := newMember(h, s, Subscription{}) // the test has claimed it, so no worker sends to it
	require.NoError(t, h.admit(m, nil))
	m.placeCursor("", Now)
	require.NoError(t, m.SubscribeFrom(After(Position{h.spans.last().epoch, 1}), "a"))
	require.Equal(t, statusDone, m.deliver(h.head.Load(), &shared))
	require.Equal(t, []string{ids[1], ids[2], ids[2]}, s.ids)

	s = new(readerSession)
	m = openMember(t, h, s, Subscription{Topics: []string{"a"}})
	m.seek(0)
	require.Equal(t, statusDone, m.deliver(h.head.Load(), &shared))
	require.Equal(t, ids, s.ids)
}

// Every event up to the head is in the log when a reader looks for it.
func TestReadWhatIsPublished(t *testing.T) {
	h, err := New(Config{})
	require.NoError(t, err)
	s := new(readerSession)
	m := newMember(h, s, Subscription{}) // the test has claimed it, so no worker sends to it
	require.NoError(t, h.admit(m, []string{"a", "b"}))
	m.placeCursor("", Now)
	var publishers sync.WaitGroup
	const each = 5000
	for i := range 2 {
		publishers.Go(func() {
			for n := range each {
				_, _ = h.Publish(context.Background(), "ab"[(n+i)%2:][:1], sse.Event{Data: "x"}) // a failure would show in the head
			}
		})
	}
	r := new(reader)
	for head := uint64(0); head < 2*each; {
		head = h.head.Load()
		require.Equal(t, statusDone, m.deliver(head, r))
		if n := len(s.ids); n > 0 { // the member follows all topics, so its nth id is n
			require.Equal(t, Position{h.spans.last().epoch, uint64(n)}.String(), s.ids[n-1])
		}
		require.GreaterOrEqual(t, len(s.ids), int(head))
	}
	publishers.Wait()
}

// A session of many topics gets its events in the hub's order, although the reader collects
// them in batches.
func TestMergedBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 10_000})
		r := rand.New(rand.NewPCG(3, 3))
		var want []string
		for i := range 3*batchEvents + 100 {
			// Topic b has all its events after the first batch of topic a, topic c has all
			// of them within it.
			topic := "a"
			switch {
			case i > batchEvents+50 && r.IntN(2) == 0:
				topic = "b"
			case i < batchEvents && r.IntN(10) == 0:
				topic = "c"
			}
			h.publish(topic, sse.Event{Data: itoa(i)})
			want = append(want, itoa(i))
		}
		for _, topics := range [][]string{{"a", "b", "c"}, {"b", "c", "a"}, {"c", "b", "a"}} {
			data, gap := h.resumeAfter(h.at(0), topics...).data()
			require.Equal(t, want, data)
			assert.Empty(t, gap)
		}
		data, _ := h.resumeAfter(h.at(10), "a", "c").data()
		require.True(t, slices.IsSortedFunc(data, func(a, b string) int {
			m, _ := strconv.Atoi(a)
			n, _ := strconv.Atoi(b)
			return m - n
		}))
	})
}
