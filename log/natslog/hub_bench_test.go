package natslog

import (
	"testing"
	"time"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/sinks"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// These benchmarks compare a hub of a stream with a hub without a Log, and with the bare stream, in
// turn. The server is in the same process, and the connection is a TCP connection. The clients are
// in memory, so that the hub is most of the work.

// hubPlaces are the places where a stream is for a hub.
var hubPlaces = places[1:]

// A hub of a stream delivers nearly as much to 1,000 clients as one without.
func BenchmarkHubDeliver(b *testing.B) {
	const clients, events = 1000, 20_000
	for _, place := range hubPlaces {
		b.Run(place.name, func(b *testing.B) {
			var rates [2][]float64
			l := benchLog(b, place.cfg, place.replicas)
			for b.Loop() {
				for i, log := range []hub.Log{nil, l} {
					rates[i] = append(rates[i], sinks.Deliver(b, log, clients, events, 1000))
				}
			}
			b.ReportMetric(sinks.Median(rates[0]), "memory-deliveries/s")
			b.ReportMetric(sinks.Median(rates[1]), "stream-deliveries/s")
			b.ReportMetric(sinks.Median(rates[1])/sinks.Median(rates[0]), "stream/memory")
		})
	}
}

// At 100 events a second, a client has an event soon after Publish has returned.
func BenchmarkHubReceive(b *testing.B) {
	for _, place := range []struct {
		name     string
		cfg      embedded.Config
		replicas int
	}{places[0], places[1], places[2]} {
		b.Run(place.name, func(b *testing.B) {
			var appends, receives []float64
			h := sinks.New(b, hub.Config{}, benchLog(b, place.cfg, place.replicas))
			for b.Loop() {
				times := h.Pace(100, 10*time.Millisecond, h.PublishOne)
				appends, receives = append(appends, times.Acknowledged...), append(receives, times.Received...)
			}
			b.ReportMetric(1000*sinks.Median(appends), "append-p50-ms")
			b.ReportMetric(1000*sinks.Median(receives), "receive-p50-ms")
		})
	}
}

// A client catches up on cold events at least half as fast as a bare consumer reads them.
func BenchmarkHubCold(b *testing.B) {
	const events = 100_000 // more pages than a hub keeps
	for _, place := range hubPlaces {
		b.Run(place.name, func(b *testing.B) {
			log := benchLog(b, place.cfg, place.replicas)
			h := sinks.New(b, hub.Config{LogEvents: 10}, log)
			first := h.Publish(events+1, 1000)
			var bare, cold []float64
			for b.Loop() {
				began := time.Now()
				readBare(b, log, events)
				bare = append(bare, events/time.Since(began).Seconds())
				cold = append(cold, h.Return(1, first, events))
			}
			b.ReportMetric(sinks.Median(bare), "bare-events/s")
			b.ReportMetric(sinks.Median(cold), "hub-events/s")
			b.ReportMetric(sinks.Median(cold)/sinks.Median(bare), "hub/bare")
		})
	}
}

// A thousand clients that come back at once to the same cold place read each page once.
func BenchmarkHubReturn(b *testing.B) {
	const clients, events = 1000, 20_000
	for _, place := range hubPlaces {
		b.Run(place.name, func(b *testing.B) {
			log := &sinks.CountingLog{Log: benchLog(b, place.cfg, place.replicas)}
			var rates, reads []float64
			for b.Loop() {
				h := sinks.New(b, hub.Config{LogEvents: 10}, log)
				first := h.Publish(events+1, 1000)
				log.Reset()
				rates = append(rates, h.Return(clients, first, events))
				reads = append(reads, float64(log.Reads()))
				h.Close()
			}
			b.ReportMetric(sinks.Median(rates), "deliveries/s")
			b.ReportMetric(sinks.Median(reads), "pages-read")
		})
	}
}
