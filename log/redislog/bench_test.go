package redislog

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
)

// benchLog returns a Log of a server without files, or with one that is written every second.
func benchLog(b *testing.B, args ...string) *Log {
	b.Helper()
	return openLog(b, startServer(b, args...).client(nil), Config{MaxEvents: -1, MaxBytes: -1})
}

// The places where a stream may be.
var places = []struct {
	name string
	args []string
}{
	{"memory", nil},
	{"everysec", []string{"--appendonly", "yes", "--appendfsync", "everysec"}},
	{"always", []string{"--appendonly", "yes", "--appendfsync", "always"}},
}

// BenchmarkAppend measures acknowledged publications, and bare XADDs.
func BenchmarkAppend(b *testing.B) {
	for _, place := range places {
		l := benchLog(b, place.args...)
		bare, ok := l.node.source.(*redis.Client)
		require.True(b, ok)
		form, _ := rec("a", "some text").AppendBinary(nil) // its error is always nil
		publish := map[string]func() error{
			"log": func() error { _, err := l.Append(b.Context(), recs("a", 1, 1)); return err },
			"bare": func() error {
				return bare.Do(b.Context(), "XADD", "bare", "*", "e", form).Err()
			},
		}
		for _, publishers := range []int{1, 64, 1000} {
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

// A key costs little.
func BenchmarkAppendKeys(b *testing.B) {
	l := benchLog(b)
	var n atomic.Int64
	logkit.Parallel(b, 64, func() error {
		r := rec("a", "some text")
		r.Key = strconv.FormatInt(n.Add(1), 10)
		_, err := l.Append(b.Context(), []hub.Record{r})
		return err
	})
}

// BenchmarkRead reads 100,000 cold records: by bare XRANGE, by Follow, and by Read in pages of 512
// as a hub does, all topics or one of ten.
func BenchmarkRead(b *testing.B) {
	const n = 100_000
	l := benchLog(b)
	for i := 0; i < n; i += 1000 {
		records := recs("", i, 1000)
		for k := range records {
			records[k].Topic = "t" + strconv.Itoa(k%10)
		}
		add(b, l, records...)
	}
	bounds := bounds(b, l)
	rate := func(b *testing.B, n int) {
		b.Helper()
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	}
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			require.Equal(b, n, readBare(b, l))
		}
		rate(b, n)
	})
	b.Run("follow", func(b *testing.B) {
		for b.Loop() {
			ctx, cancel := context.WithCancel(b.Context())
			count := 0
			_ = l.Follow(ctx, hub.Position{Epoch: bounds.Epoch}, func(batch hub.Batch) error {
				if count += len(batch.Records); count == n {
					cancel()
				}
				return nil
			})
			require.Equal(b, n, count)
		}
		rate(b, n)
	})
	for name, topics := range map[string][]string{"all": nil, "one": {"t3"}, "none": {"none"}} {
		b.Run("read="+name, func(b *testing.B) {
			for b.Loop() {
				for at := uint64(0); at < bounds.Last; {
					page, err := l.Read(b.Context(), topics, hub.Position{Epoch: bounds.Epoch, Offset: at}, hub.Position{Epoch: bounds.Epoch, Offset: bounds.Last}, 512)
					require.NoError(b, err)
					at = page.UpTo
				}
			}
			rate(b, n) // those that were looked through
		})
	}
}

// readBare reads all entries with the client's own XRANGE, and returns how many there were.
func readBare(b *testing.B, l *Log) int {
	b.Helper()
	c, ok := l.node.source.(*redis.Client)
	require.True(b, ok)
	from, count := "-", 0
	for {
		page, err := c.XRangeN(b.Context(), l.keys[keyEvents], from, "+", 512).Result()
		require.NoError(b, err)
		if len(page) == 0 {
			return count
		}
		count += len(page)
		from = "(" + page[len(page)-1].ID
	}
}

// BenchmarkDelivery measures how long a record needs from Append to apply, compared with Append
// alone.
func BenchmarkDelivery(b *testing.B) {
	for _, place := range places {
		l := benchLog(b, place.args...)
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
