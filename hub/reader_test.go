package hub

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// readerSession keeps the ids of what it is sent.
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

// A reader gives the bytes that it has to the next member, if they are what is due to
// that one: whoever was served before, and whatever has come in between.
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
			require.True(t, h.admit(m, sub.Topics))
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
				publish() // behind what is asked for
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

// Nobody is left out of a pass because others come or leave in the middle of it.
func TestPassComplete(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 5))
		sh := new(shard)
		tp := &topic{name: "a"}
		var links []*link
		join := func() {
			l := &link{topic: tp, m: &Member{shard: sh}}
			tp.addLink(l)
			links = append(links, l)
		}
		leave := func() {
			if len(links) > 0 {
				i := r.IntN(len(links))
				tp.removeLink(links[i])
				links = slices.Delete(links, i, i+1)
			}
		}
		for range 1 + r.IntN(20) {
			join()
		}
		p := tp.part(sh)
		p.queued = true // as by a publication
		tp.last.Store(1)
		due := make(map[*Member]bool)
		for _, l := range links {
			due[l.m] = true
		}
		ms := make([]*Member, 1+r.IntN(4))
		published := uint64(1)
		for stint := 0; ; stint++ {
			n, _ := p.take(ms)
			for _, m := range ms[:n] {
				delete(due, m)
			}
			for range r.IntN(3) {
				switch r.IntN(3) {
				case 0:
					join()
				default:
					leave()
				}
			}
			if published < 3 && r.IntN(6) == 0 { // for all, in the middle of the pass
				published++
				tp.last.Store(published)
				for _, l := range links {
					due[l.m] = true
				}
			}
			if !p.more(0) {
				break
			}
			require.Less(t, stint, 1000, "seed %d", seed)
		}
		for _, l := range links {
			require.False(t, due[l.m], "seed %d: one of %d is left out", seed, len(links))
		}
	}
}

// A heartbeat that comes just when an event is due leaves it to those who send it.
func TestHeartbeatBeforeDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{})
		s := new(readerSession)
		m := newMember(h.Hub, s, Subscription{})
		require.True(t, h.admit(m, []string{"a"}))
		defer m.leave(nil)
		m.placeCursor("", Now)
		h.publishTo("b", "a", "b")
		synctest.Wait() // it is not sent, since m is not free
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
		require.False(t, ok, "it knows that: %s", frame)
	})
}

// What is said to be in the log is there.
func TestReadWhatIsPublished(t *testing.T) {
	h, err := New(Config{})
	require.NoError(t, err)
	s := new(readerSession)
	m := newMember(h, s, Subscription{}) // nobody else sends to it
	require.True(t, h.admit(m, []string{"a", "b"}))
	m.placeCursor("", Now)
	var publishers sync.WaitGroup
	const each = 5000
	for i := range 2 {
		publishers.Go(func() {
			for n := range each {
				_, _ = h.Publish(context.Background(), "ab"[(n+i)%2:][:1], sse.Event{Data: "x"}) // the head will tell
			}
		})
	}
	r := new(reader)
	for head := uint64(0); head < 2*each; {
		head = h.head.Load()
		require.Equal(t, statusDone, m.deliver(head, r))
		if n := len(s.ids); n > 0 { // it may have got more
			require.Equal(t, Position{h.epoch, uint64(n)}.String(), s.ids[n-1])
		}
		require.GreaterOrEqual(t, len(s.ids), int(head))
	}
	publishers.Wait()
}
