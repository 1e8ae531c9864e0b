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
			rates[i] = append(rates[i], sinks.Deliver(b, log, clients, events, 100))
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
	for b.Loop() {
		times := h.Pace(100, 10*time.Millisecond, h.PublishOne)
		appends, receives = append(appends, times.Acknowledged...), append(receives, times.Received...)
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
		cold = append(cold, h.Return(1, first, n))
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
		rates = append(rates, h.Return(clients, first, events-1))
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
