package hub

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// The sessions of the benchmarks do nothing, so the figures are the hub's alone.

// benchSession is a session that counts the bytes that it is sent.
type benchSession struct {
	engine.Session
	bytes int
}

func (s *benchSession) MayBlock() bool { return false }

func (s *benchSession) TryWrite(f *engine.Frames) (bool, error) {
	s.bytes += f.Len()
	return false, nil
}

func benchHub(b *testing.B) *Hub {
	b.Helper()
	h, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	return h
}

func (h *Hub) benchJoin(s engine.Session, topic string) {
	m := newMember(h, s, Subscription{})
	if h.admit(m, []string{topic}) != nil {
		panic("not admitted")
	}
	m.placeCursor("", Now)
	m.joinTopics()
	m.releaseOrDeliver()
}

var benchEvent = sse.Event{Name: "price", Data: `{"symbol":"ACME","bid":42.17,"ask":42.19,"at":"2025-06-01T12:00:00Z"}`}

func (h *Hub) benchPublish(topic string) {
	if _, err := h.Publish(context.Background(), topic, benchEvent); err != nil {
		panic(err)
	}
}

// benchWait waits until the hub has delivered the given number of events in all.
func (h *Hub) benchWait(delivered uint64) {
	for spins := 0; ; spins++ {
		n := uint64(0)
		for _, sh := range h.shards {
			n += sh.delivered.Load()
		}
		if n >= delivered {
			return
		}
		if runtime.Gosched(); spins > 100 { // let the workers have the processor
			time.Sleep(20 * time.Microsecond)
		}
	}
}

// perDelivery reports the time and the allocations of one delivery, where each operation
// makes n deliveries.
func perDelivery(b *testing.B, n int, before *runtime.MemStats) {
	b.Helper()
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	all := float64(b.N) * float64(n)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/all, "ns/delivery")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/all, "allocs/delivery")
}

// benchTopics returns n topic names.
func benchTopics(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = "topic/" + itoa(i)
	}
	return names
}

// BenchmarkPublish publishes to topics that nobody follows. The last row is with Config.IDKey.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 100_000, 0} {
		name := "topics=" + itoa(n)
		if n == 0 {
			name = "topics=1,opaque"
		}
		b.Run(name, func(b *testing.B) {
			h := benchHub(b)
			if n == 0 {
				n = 1
				h.idKey, _ = newIDKey(&Config{IDKey: testIDKey})
			}
			topics := benchTopics(n)
			for i := range 2 * DefaultLogEvents { // until the log is full
				h.benchPublish(topics[i%n])
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				h.benchPublish(topics[i%n])
				i++
			}
		})
	}
}

// BenchmarkDeliver publishes an event and waits until all followers have it, again and
// again. ns/publish is the time that Publish takes.
func BenchmarkDeliver(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run("followers="+itoa(n), func(b *testing.B) {
			h := benchHub(b)
			for range n {
				h.benchJoin(new(benchSession), "a")
			}
			h.benchRounds(b, n, func(int) string { return "a" })
		})
	}
}

// benchRounds publishes an event and waits for its n deliveries, again and again.
func (h *Hub) benchRounds(b *testing.B, n int, topic func(i int) string) {
	b.Helper()
	delivered := uint64(0)
	for i := range 100 {
		h.benchPublish(topic(i))
		delivered += uint64(n)
		h.benchWait(delivered)
	}
	b.ReportAllocs()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	i, publishing := 0, time.Duration(0)
	for b.Loop() {
		began := time.Now()
		h.benchPublish(topic(i))
		publishing += time.Since(began)
		delivered += uint64(n)
		h.benchWait(delivered)
		i++
	}
	b.ReportMetric(float64(publishing.Nanoseconds())/float64(b.N), "ns/publish")
	perDelivery(b, n, &before)
}

// BenchmarkTopics makes the same deliveries with one topic in the hub, and with many that
// have one follower each. Events are published one by one, or in bursts, as by several
// publishers. The follower of a single topic gets a burst in few writes.
func BenchmarkTopics(b *testing.B) {
	const many, burst = 100_000, 1000
	for _, n := range []int{1, many} {
		start := func(b *testing.B) (h *Hub, topic func(i int) string) {
			b.Helper()
			h, topics := benchHub(b), benchTopics(n)
			for _, topic := range topics {
				h.benchJoin(new(benchSession), topic)
			}
			return h, func(i int) string { return topics[i*7919%n] }
		}
		b.Run("topics="+itoa(n)+"/single", func(b *testing.B) {
			h, topic := start(b)
			h.benchRounds(b, 1, topic)
		})
		b.Run("topics="+itoa(n)+"/bursts", func(b *testing.B) {
			h, topic := start(b)
			delivered, i := uint64(0), 0
			round := func() {
				for range burst {
					h.benchPublish(topic(i))
					i++
				}
				delivered += burst
				h.benchWait(delivered)
			}
			round()
			b.ReportAllocs()
			var before runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				round()
			}
			perDelivery(b, burst, &before)
		})
	}
	b.Run("topics=1/followers="+itoa(many), func(b *testing.B) {
		h := benchHub(b)
		for range many {
			h.benchJoin(new(benchSession), "a")
		}
		h.benchRounds(b, many, func(int) string { return "a" })
	})
}

// BenchmarkMillion has a million subscribers.
func BenchmarkMillion(b *testing.B) {
	const million = 1_000_000
	for _, n := range []int{1, 1000, million} {
		b.Run("topics="+itoa(n), func(b *testing.B) {
			h, topics := benchHub(b), benchTopics(n)
			sessions := make([]benchSession, million)
			before := heap()
			began := time.Now()
			for i := range sessions {
				h.benchJoin(&sessions[i], topics[i%n])
			}
			joined := time.Since(began)
			size := heap() - before
			broadcast := min(n, 1000) // number of topics that are published to
			delivered := uint64(0)
			for b.Loop() {
				for _, topic := range topics[:broadcast] {
					h.benchPublish(topic)
				}
				delivered += uint64(broadcast * (million / n))
				h.benchWait(delivered)
			}
			b.ReportMetric(float64(size)/million, "B/subscriber")
			b.ReportMetric(float64(joined.Nanoseconds())/million, "ns/join")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(delivered), "ns/delivery")
			runtime.KeepAlive(sessions)
			runtime.KeepAlive(h)
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var st runtime.MemStats
	runtime.ReadMemStats(&st)
	return st.HeapAlloc
}
