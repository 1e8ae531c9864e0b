package boltlog

import (
	"slices"
	"testing"
	"time"

	"github.com/chi-sse/sse/hub"
)

// These benchmarks compare a hub of a file with a hub without a Log, and with the bare file.
// The sessions write to memory, so that the hub is most of the work.

// A hub of a file delivers nearly as much to 1,000 clients as one without.
func BenchmarkHubDeliver(b *testing.B) {
	const clients, events = 1000, 10_000
	var rates [2][]float64
	for b.Loop() {
		for i, log := range []hub.Log{nil, benchLog(b)} {
			h := newBenchHub(b, hub.Config{}, log)
			h.connect(clients, "", events)
			for h.Count("a") < clients {
				time.Sleep(time.Millisecond)
			}
			began := time.Now()
			h.publish(events, 100)
			h.await()
			rates[i] = append(rates[i], clients*events/time.Since(began).Seconds())
		}
	}
	b.ReportMetric(median(rates[0]), "memory-deliveries/s")
	b.ReportMetric(median(rates[1]), "file-deliveries/s")
	b.ReportMetric(median(rates[1])/median(rates[0]), "file/memory")
}

// At 100 events a second, a client has an event soon after Publish has returned.
func BenchmarkHubReceive(b *testing.B) {
	var appends, receives []float64
	h := newBenchHub(b, hub.Config{}, benchLog(b))
	s := h.connect(1, "", 1<<62)[0]
	for h.Count("a") < 1 {
		time.Sleep(time.Millisecond)
	}
	for b.Loop() {
		next := time.Now().Add(10 * time.Millisecond)
		had := s.events.Load()
		began := time.Now()
		h.publish(1, 1)
		appends = append(appends, time.Since(began).Seconds())
		for s.events.Load() == had {
			time.Sleep(20 * time.Microsecond)
		}
		receives = append(receives, float64(s.last.Load()-began.UnixNano())/1e9)
		time.Sleep(time.Until(next))
	}
	b.ReportMetric(1000*median(appends), "append-p50-ms")
	b.ReportMetric(1000*median(receives), "receive-p50-ms")
}

// A client catches up on cold events nearly as fast as the file can be read.
func BenchmarkHubCold(b *testing.B) {
	const events = 100_000
	log := benchLog(b)
	h := newBenchHub(b, hub.Config{LogEvents: 10}, log)
	first := h.publish(events+1, 1000+1)
	end := h.Position()
	var bare, cold []float64
	for b.Loop() {
		began := time.Now()
		n := 0
		for at := first; at.Offset < end.Offset; {
			page, err := log.Read(b.Context(), []string{"a"}, at, end, 512)
			if err != nil {
				b.Fatal(err)
			}
			n += len(page.Records)
			at.Offset = page.UpTo
		}
		bare = append(bare, float64(n)/time.Since(began).Seconds())
		began = time.Now()
		h.connect(1, first.String(), int64(n))
		h.await()
		cold = append(cold, float64(n)/time.Since(began).Seconds())
		time.Sleep(16 * time.Second) // until the hub has dropped the pages
	}
	b.ReportMetric(median(bare), "bare-events/s")
	b.ReportMetric(median(cold), "hub-events/s")
	b.ReportMetric(median(cold)/median(bare), "hub/bare")
}

// A thousand clients that come back at once to the same cold place read each page once.
func BenchmarkHubReturn(b *testing.B) {
	const clients, events = 1000, 20_000
	log := &countingLog{Log: benchLog(b)}
	h := newBenchHub(b, hub.Config{LogEvents: 10}, log)
	first := h.publish(events+1, 1000)
	var rates, reads []float64
	for b.Loop() {
		log.reads.Store(0)
		began := time.Now()
		h.connect(clients, first.String(), events-1)
		h.await()
		rates = append(rates, clients*events/time.Since(began).Seconds())
		reads = append(reads, float64(log.reads.Load()))
		time.Sleep(16 * time.Second)
	}
	b.ReportMetric(median(rates), "deliveries/s")
	b.ReportMetric(median(reads), "pages-read")
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
