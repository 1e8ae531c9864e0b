package hub

import (
	"strconv"
	"testing"
	"time"

	"github.com/chi-sse/sse/internal/engine"
)

// benchOpen makes a member of h with s as its session. It is claimed, and follows
// sub.Topics from the next event on.
func (h *Hub) benchOpen(s engine.Session, sub Subscription) *Member {
	m := newMember(h, s, sub)
	if h.admit(m, sub.Topics) != nil {
		panic("not admitted")
	}
	m.placeCursor("", Now)
	m.joinTopics()
	return m
}

// BenchmarkCatchUp sends one member 65,000 events, which are spread over its topics.
func BenchmarkCatchUp(b *testing.B) {
	const events = 65_000
	for _, n := range []int{1, 2, 4, 16, 64, 1000, 10_000} {
		b.Run("topics="+itoa(n), func(b *testing.B) {
			h, topics := benchHub(b), benchTopics(n)
			for i := range events {
				h.benchPublish(topics[i*7919%n])
			}
			s := new(benchSession)
			m := h.benchOpen(s, Subscription{Topics: topics})
			r := new(reader)
			b.ReportAllocs()
			for b.Loop() {
				m.seek(0)
				if st := m.deliver(h.head.Load(), r); st != statusDone {
					b.Fatal(st)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
		})
	}
}

// BenchmarkFollowMany publishes an event to one of the topics of a member, and delivers it.
func BenchmarkFollowMany(b *testing.B) {
	for _, n := range []int{1, 2, 16, 100, 1000, 10_000} {
		b.Run("topics="+itoa(n), func(b *testing.B) {
			h, topics := benchHub(b), benchTopics(n)
			s := new(benchSession)
			h.benchOpen(s, Subscription{Topics: topics}).releaseOrDeliver()
			h.benchRounds(b, 1, func(i int) string { return topics[i*7919%n] })
		})
	}
}

// BenchmarkServeTopics makes a member that follows many topics, until it has joined them, and
// then lets it leave. The topics are new, or another member follows them, or they have an
// event in the log. ns/serve and ns/leave are for one topic.
func BenchmarkServeTopics(b *testing.B) {
	for _, n := range []int{1, 10, 100, 10_000, 30_000, 60_000} {
		for _, topicsAre := range []string{"new", "followed", "published"} {
			b.Run("topics="+itoa(n)+"/"+topicsAre, func(b *testing.B) {
				h, topics := benchHub(b), benchTopics(n)
				s := new(benchSession)
				switch topicsAre {
				case "followed":
					for range h.shards { // the one after next is in the same shard
						h.benchOpen(s, Subscription{Topics: topics})
					}
				case "published":
					for _, topic := range topics {
						h.benchPublish(topic)
					}
				}
				var serve, leave time.Duration
				b.ReportAllocs()
				for b.Loop() {
					began := time.Now()
					m := h.benchOpen(s, Subscription{Topics: topics})
					served := time.Now()
					m.leave(nil)
					leave += time.Since(served)
					serve += served.Sub(began)
				}
				all := float64(b.N) * float64(n)
				b.ReportMetric(float64(serve.Nanoseconds())/all, "ns/serve")
				b.ReportMetric(float64(leave.Nanoseconds())/all, "ns/leave")
			})
		}
	}
}

// BenchmarkUnsubscribe unsubscribes a member from all its topics, in the order in which it
// has subscribed, which was hard for a list.
func BenchmarkUnsubscribe(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run("topics="+itoa(n), func(b *testing.B) {
			h, topics := benchHub(b), benchTopics(n)
			s := new(benchSession)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				m := h.benchOpen(s, Subscription{Topics: topics})
				b.StartTimer()
				for i := range topics {
					m.Unsubscribe(topics[n-1-i])
				}
				b.StopTimer()
				m.leave(nil)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/topic")
		})
	}
}

// BenchmarkSlowLatest sends a member the newest event of each key, of 20,000 events.
func BenchmarkSlowLatest(b *testing.B) {
	const events = 20_000
	for _, keys := range []int{1, 100, events} {
		b.Run("keys="+itoa(keys), func(b *testing.B) {
			h := benchHub(b)
			for range events {
				h.benchPublish("a")
			}
			calls := 0
			m := h.benchOpen(new(benchSession), Subscription{
				Topics: []string{"a"}, Slow: SlowLatest,
				Filter: func(*Message) bool { calls++; return true },
				Key:    func(m *Message) string { return strconv.Itoa(int(m.Position.Offset) % keys) },
			})
			r := new(reader)
			b.ReportAllocs()
			for b.Loop() {
				m.seek(0)
				if st := m.deliver(h.head.Load(), r); st != statusDone {
					b.Fatal(st)
				}
			}
			b.ReportMetric(float64(calls)/float64(b.N), "filters/op")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
		})
	}
}
