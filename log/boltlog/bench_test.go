package boltlog

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/sinks"
)

// payload is the data of an event of about 100 bytes.
var payload = strings.Repeat("0123456789", 10)

// BenchmarkSync is what the disk alone costs: a page is written over and synced, as bbolt does
// it twice for each transaction.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	require.NoError(b, err)
	defer f.Close()
	page := make([]byte, 4096)
	_, err = f.Write(page)
	require.NoError(b, err)
	for b.Loop() {
		_, err := f.WriteAt(page, 0)
		require.NoError(b, err)
		require.NoError(b, f.Sync())
	}
}

// BenchmarkAppend appends durably, from some publishers at the same time, in batches of some
// records.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ publishers, batch, topics int }{
		{1, 1, 1}, {64, 1, 64}, {256, 1, 64}, {1, 100, 1}, {1, 100, 64}, {8, 100, 64}, {1, 1000, 64}, {8, 1000, 64},
	} {
		b.Run(fmt.Sprintf("publishers=%d/batch=%d/topics=%d", c.publishers, c.batch, c.topics), func(b *testing.B) {
			benchmarkAppend(b, Config{}, c.publishers, c.batch, c.topics, false)
		})
	}
	b.Run("publishers=64/batch=1/keys", func(b *testing.B) { benchmarkAppend(b, Config{}, 64, 1, 64, true) })
	b.Run("publishers=64/batch=1/dropping", func(b *testing.B) {
		benchmarkAppend(b, Config{MaxEvents: 10_000}, 64, 1, 64, false)
	})
	b.Run("publishers=8/batch=100/dropping", func(b *testing.B) {
		benchmarkAppend(b, Config{MaxEvents: 10_000}, 8, 100, 64, false)
	})
}

func benchmarkAppend(b *testing.B, cfg Config, publishers, batch, topics int, keys bool) {
	b.Helper()
	cfg.indexEvery = indexEvery
	l := openLog(b, newPath(b), cfg)
	var next atomic.Int64
	done := make(chan error, publishers)
	b.ReportAllocs()
	b.ResetTimer()
	for range publishers {
		go func() {
			for {
				n := int(next.Add(int64(batch)))
				if n-batch >= b.N {
					done <- nil
					return
				}
				records := make([]hub.Record, batch)
				for i := range records {
					records[i] = rec(fmt.Sprint("topic", (n+i)%topics), payload)
					if keys {
						records[i].Key = fmt.Sprint("key", n+i)
					}
				}
				if _, err := l.Append(b.Context(), records); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range publishers {
		require.NoError(b, <-done)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// coldEvents is how many events the benchmarks of reading read.
const coldEvents = 100_000

// coldLog returns a log of 100,000 events in 100 topics. Every second one is of topic 0.
func coldLog(b *testing.B) *Log {
	b.Helper()
	l := openLog(b, newPath(b), Config{indexEvery: indexEvery})
	for i := 0; i < coldEvents; i += 1000 {
		batch := make([]hub.Record, 1000)
		for j := range batch {
			batch[j] = rec(fmt.Sprint("topic", (i+j)%2*(1+j%100)), payload)
		}
		add(b, l, batch...)
	}
	return l
}

// BenchmarkRead reads 100,000 cold events. "cursor" is a bare loop over the file that looks at
// nothing; "decode" is one that also checks and decodes what it finds; the others are pages of
// as many records as the hub reads at once.
func BenchmarkRead(b *testing.B) {
	l := coldLog(b)
	loop := func(visit func(offset uint64, v []byte)) {
		require.NoError(b, l.db.View(func(tx *bbolt.Tx) error {
			c := tx.Bucket(recordsBucket).Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				visit(offsetIn(k), v)
			}
			return nil
		}))
	}
	report := func(b *testing.B, n int) {
		b.Helper()
		b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("cursor", func(b *testing.B) {
		for b.Loop() {
			loop(func(uint64, []byte) {})
		}
		report(b, coldEvents)
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			n := 0
			loop(func(offset uint64, v []byte) {
				if r := decode(offset, v); r.Kind == hub.EventRecord {
					n++
				}
			})
			require.Equal(b, coldEvents, n)
		}
		report(b, coldEvents)
	})
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprint("topic", i)
	}
	for _, c := range []struct {
		name   string
		topics []string
		want   int
	}{{"all", nil, coldEvents}, {"one", many[:1], coldEvents / 2}, {"ten", many[:11], coldEvents/2 + coldEvents/20}, {"hundred", many, coldEvents}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				n, at := 0, hub.Position{Epoch: l.newest.Load().Epoch}
				for at.Offset < l.newest.Load().Last {
					page, err := l.Read(b.Context(), c.topics, at, hub.Position{Epoch: at.Epoch, Offset: none}, 512)
					require.NoError(b, err)
					n += len(page.Records)
					at.Offset = page.UpTo
				}
				require.Equal(b, c.want, n)
			}
			report(b, c.want)
		})
	}
}

// BenchmarkOpen opens a file of 100,000 events, which reads and checks it.
func BenchmarkOpen(b *testing.B) {
	l := coldLog(b)
	require.NoError(b, l.Close())
	info, err := os.Stat(l.path)
	require.NoError(b, err)
	for b.Loop() {
		require.NoError(b, openLog(b, l.path, Config{}).Close())
	}
	b.ReportMetric(float64(info.Size()), "file-bytes")
}

// bareFile is a bbolt file that is written and read without a Log.
func bareFile(b *testing.B) *bbolt.DB {
	b.Helper()
	db, err := bbolt.Open(newPath(b), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	require.NoError(b, err)
	b.Cleanup(func() { db.Close() })
	return db
}

// BenchmarkAppendBare compares the Log with transactions of a bare bbolt file that have as many
// records of the same size. The two take turns, so that they have the same machine.
func BenchmarkAppendBare(b *testing.B) {
	for _, c := range []struct{ publishers, batch int }{{64, 1}, {8, 100}, {1, 1000}, {8, 1000}} {
		b.Run(fmt.Sprintf("publishers=%d/batch=%d", c.publishers, c.batch), func(b *testing.B) {
			const rounds = 20 // in each turn
			l, db := openLog(b, newPath(b), Config{indexEvery: indexEvery}), bareFile(b)
			r := rec("topic0", payload)
			it, err := encode(&r)
			require.NoError(b, err)
			var bare, log []float64
			next := uint64(0)
			for b.Loop() {
				began := time.Now()
				for range rounds {
					require.NoError(b, db.Update(func(tx *bbolt.Tx) error {
						bucket, err := tx.CreateBucketIfNotExists(recordsBucket)
						if err != nil {
							return err
						}
						bucket.FillPercent = 0.95
						for range c.publishers * c.batch {
							next++
							at := keyOf(next)
							if err := bucket.Put(at[:], it.value); err != nil {
								return err
							}
						}
						return nil
					}))
				}
				count := float64(rounds * c.publishers * c.batch)
				bare = append(bare, count/time.Since(began).Seconds())
				began = time.Now()
				var publishers sync.WaitGroup
				for range c.publishers {
					publishers.Go(func() {
						for range rounds {
							records := make([]hub.Record, c.batch)
							for i := range records {
								records[i] = rec(fmt.Sprint("topic", i%64), payload)
							}
							if _, err := l.Append(b.Context(), records); err != nil {
								b.Error(err)
							}
						}
					})
				}
				publishers.Wait()
				log = append(log, count/time.Since(began).Seconds())
			}
			b.ReportMetric(sinks.Median(bare), "bare-events/s")
			b.ReportMetric(sinks.Median(log), "log-events/s")
			b.ReportMetric(sinks.Median(log)/sinks.Median(bare), "log/bare")
		})
	}
}
