package boltlog

import (
	"testing"
	"time"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/sinks"
)

// These benchmarks compare a hub of a file with a hub without a Log, and with the bare file.
// The sessions write to memory, so that the hub is most of the work.

// A hub of a file delivers nearly as much to 1,000 clients as one without.
func BenchmarkHubDeliver(b *testing.B) {
	const clients, events = 1000, 10_000
	var rates [2][]float64
	for b.Loop() {
		for i, log := range []hub.Log{nil, benchLog(b)} {
			h := sinks.New(b, hub.Config{}, log)
			h.Connect(clients, "", events)
			for h.Count("a") < clients {
				time.Sleep(time.Millisecond)
			}
			began := time.Now()
			h.Publish(events, 100)
			h.Await()
			rates[i] = append(rates[i], clients*events/time.Since(began).Seconds())
		}
	}
	b.ReportMetric(sinks.Median(rates[0]), "memory-deliveries/s")
	b.ReportMetric(sinks.Median(rates[1]), "file-deliveries/s")
	b.ReportMetric(sinks.Median(rates[1])/sinks.Median(rates[0]), "file/memory")
}

// At 100 events a second, a client has an event soon after Publish has returned.
func BenchmarkHubReceive(b *testing.B) {
	var appends, receives []float64
	h := sinks.New(b, hub.Config{}, benchLog(b))
	s := h.Connect(1, "", 1<<62)[0]
	for h.Count("a") < 1 {
		time.Sleep(time.Millisecond)
	}
	for b.Loop() {
		next := time.Now().Add(10 * time.Millisecond)
		had := s.Events()
		began := time.Now()
		h.Publish(1, 1)
		appends = append(appends, time.Since(began).Seconds())
		for s.Events() == had {
			time.Sleep(20 * time.Microsecond)
		}
		receives = append(receives, float64(s.Last()-began.UnixNano())/1e9)
		time.Sleep(time.Until(next))
	}
	b.ReportMetric(1000*sinks.Median(appends), "append-p50-ms")
	b.ReportMetric(1000*sinks.Median(receives), "receive-p50-ms")
}

// A client catches up on cold events nearly as fast as the file can be read.
func BenchmarkHubCold(b *testing.B) {
	const events = 100_000
	log := benchLog(b)
	h := sinks.New(b, hub.Config{LogEvents: 10}, log)
	first := h.Publish(events+1, 1000+1)
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
		h.Connect(1, first.String(), n)
		h.Await()
		cold = append(cold, float64(n)/time.Since(began).Seconds())
		time.Sleep(16 * time.Second) // until the hub has dropped the pages
	}
	b.ReportMetric(sinks.Median(bare), "bare-events/s")
	b.ReportMetric(sinks.Median(cold), "hub-events/s")
	b.ReportMetric(sinks.Median(cold)/sinks.Median(bare), "hub/bare")
}

// A thousand clients that come back at once to the same cold place read each page once.
func BenchmarkHubReturn(b *testing.B) {
	const clients, events = 1000, 20_000
	log := &sinks.CountingLog{Log: benchLog(b)}
	h := sinks.New(b, hub.Config{LogEvents: 10}, log)
	first := h.Publish(events+1, 1000)
	var rates, reads []float64
	for b.Loop() {
		log.Reset()
		began := time.Now()
		h.Connect(clients, first.String(), events-1)
		h.Await()
		rates = append(rates, clients*events/time.Since(began).Seconds())
		reads = append(reads, float64(log.Reads()))
		time.Sleep(16 * time.Second)
	}
	b.ReportMetric(sinks.Median(rates), "deliveries/s")
	b.ReportMetric(sinks.Median(reads), "pages-read")
}

func benchLog(t testing.TB) *Log {
	t.Helper()
	return openLog(t, newPath(t), Config{indexEvery: 10_000})
}
