package natslog

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// benchLog returns a Log of a single server, to which the Log has a TCP connection.
func benchLog(b *testing.B, cfg embedded.Config, replicas int) *Log {
	b.Helper()
	if replicas == 3 {
		return openLog(b, connectByTCP(b, startCluster(b).servers[0]), Config{Stream: "events", Create: &jetstream.StreamConfig{Replicas: 3}})
	}
	cfg.Listen = "127.0.0.1:0"
	return openLog(b, connectByTCP(b, startServer(b, cfg)), Config{Stream: "events", Create: &jetstream.StreamConfig{}})
}

// The places where a stream may be.
var places = []struct {
	name     string
	cfg      embedded.Config
	replicas int
}{
	{"sync", embedded.Config{}, 1},
	{"slow sync", embedded.Config{SlowSync: true}, 1},
	{"cluster", embedded.Config{}, 3},
}

// BenchmarkAppend measures acknowledged publications, and what the package jetstream needs for
// the same.
func BenchmarkAppend(b *testing.B) {
	for _, place := range places {
		l := benchLog(b, place.cfg, place.replicas)
		form, _ := rec("a", "some text").AppendBinary(nil) // its error is always nil
		publish := map[string]func() error{
			"log":  func() error { _, err := l.Append(b.Context(), recs("a", 1, 1)); return err },
			"bare": func() error { _, err := l.js.Publish(b.Context(), l.subject("a"), form); return err },
		}
		for _, publishers := range []int{1, 64} {
			for _, how := range []string{"bare", "log"} {
				b.Run(fmt.Sprintf("%s/publishers=%d/%s", place.name, publishers, how), func(b *testing.B) {
					logkit.Parallel(b, publishers, publish[how])
				})
			}
		}
		for _, n := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/batch=%d", place.name, n), func(b *testing.B) {
				records := recs("a", 1, n)
				for b.Loop() {
					_, err := l.Append(b.Context(), records)
					require.NoError(b, err)
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// BenchmarkRead reads 100,000 cold records: by a bare consumer, by Follow, and by Read in pages
// of 512 as a hub does, all topics or one of ten.
func BenchmarkRead(b *testing.B) {
	const n = 100_000
	for _, place := range places[1:] {
		l := benchLog(b, place.cfg, place.replicas)
		for i := 0; i < n; i += 1000 {
			records := recs("", i, 1000)
			for k := range records {
				records[k].Topic = strconv.Itoa(k % 10)
			}
			add(b, l, records...)
		}
		epoch := bounds(b, l).Epoch
		rate := func(b *testing.B, n int) {
			b.Helper()
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		}
		b.Run(place.name+"/bare", func(b *testing.B) {
			for b.Loop() {
				readBare(b, l, n)
			}
			rate(b, n)
		})
		b.Run(place.name+"/follow", func(b *testing.B) {
			for b.Loop() {
				ctx, cancel := context.WithCancel(b.Context())
				count := 0
				_ = l.Follow(ctx, hub.Position{Epoch: epoch}, func(batch hub.Batch) error {
					if count += len(batch.Records); count == n {
						cancel()
					}
					return nil
				})
				require.Equal(b, n, count)
			}
			rate(b, n)
		})
		for name, topics := range map[string][]string{"all": nil, "one": {"3"}} {
			b.Run(place.name+"/read="+name, func(b *testing.B) {
				count := 0
				for b.Loop() {
					for at := uint64(0); at < n; {
						page, err := l.Read(b.Context(), topics, hub.Position{Epoch: epoch, Offset: at}, hub.Position{Epoch: epoch, Offset: n}, 512)
						require.NoError(b, err)
						at, count = page.UpTo, count+len(page.Records)
					}
				}
				b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
}

// readBare reads n messages with an ordered consumer.
func readBare(b *testing.B, l *Log, n int) {
	b.Helper()
	c, err := l.js.OrderedConsumer(b.Context(), l.cfg.Stream, jetstream.OrderedConsumerConfig{})
	require.NoError(b, err)
	done := make(chan struct{})
	count := 0
	running, err := c.Consume(func(jetstream.Msg) {
		if count++; count == n {
			close(done)
		}
	})
	require.NoError(b, err)
	<-done
	running.Stop()
}

// BenchmarkDelivery measures how long a record needs from Append to apply, compared with Append
// alone.
func BenchmarkDelivery(b *testing.B) {
	for _, place := range places {
		l := benchLog(b, place.cfg, place.replicas)
		applied := make(chan uint64, 1000)
		start := hub.Position{Epoch: bounds(b, l).Epoch}
		go func() {
			_ = l.Follow(b.Context(), start, func(batch hub.Batch) error {
				for _, r := range batch.Records {
					applied <- r.Offset
				}
				return nil
			})
		}()
		b.Run(place.name, func(b *testing.B) {
			var acked time.Duration
			for b.Loop() {
				began := time.Now()
				add(b, l, rec("a", "1"))
				acked += time.Since(began)
				<-applied
			}
			b.ReportMetric(float64(acked.Nanoseconds())/float64(b.N), "ns/ack")
		})
	}
}
