package pglog

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/sinks"
)

// The server's files are in memory, unless SSE_PGLOG_DISK=1 is set: then each commit waits for the
// disk, and the disk is what is measured.

// benchPool returns a pool of up to 40 connections to a new database, in which there is a log.
func benchPool(b *testing.B, settings string) *pgxpool.Pool {
	b.Helper()
	s := sharedServer(b)
	cfg, err := pgxpool.ParseConfig(s.dsn(newDatabase(b, s), "postgres") + settings)
	require.NoError(b, err)
	cfg.MaxConns = 40
	pool, err := pgxpool.NewWithConfig(b.Context(), cfg)
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	migrate(b, pool)
	execute(b, pool, "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL)")
	return pool
}

var filling = strings.Repeat("x", 100)

// order adds a row to a table and publishes an event of it, in a transaction.
func order(ctx context.Context, pool *pgxpool.Pool, publish bool) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO orders (item) VALUES ($1)", "tea"); err != nil || !publish {
			return err
		}
		return Publish(ctx, tx, "a", sse.Event{Data: filling})
	})
}

// batchOrder is order in one round trip.
func batchOrder(ctx context.Context, pool *pgxpool.Pool) error {
	var b pgx.Batch
	b.Queue("INSERT INTO orders (item) VALUES ($1)", "tea")
	if err := Queue(&b, "a", sse.Event{Data: filling}); err != nil {
		return err
	}
	return pool.SendBatch(ctx, &b).Close()
}

// BenchmarkPublish measures transactions on 32 connections, while a Log numbers and follows them:
// a publication alone, an insertion into a table with a publication, the same in one round trip, and
// the insertion alone.
func BenchmarkPublish(b *testing.B) {
	for _, setting := range []string{"on", "off"} {
		for _, kind := range []string{"alone", "order", "batch", "bare"} {
			b.Run("synchronous_commit="+setting+"/"+kind, func(b *testing.B) {
				pool := benchPool(b, "&synchronous_commit="+setting)
				l := openLog(b, pool, Config{})
				var followed atomic.Int64
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan struct{})
				epoch := boundsOf(b, l).Epoch
				go func() {
					defer close(done)
					_ = l.Follow(ctx, hub.Position{Epoch: epoch}, func(batch hub.Batch) error {
						followed.Add(int64(len(batch.Records)))
						return nil
					})
				}()
				before := processorTime(b)
				logkit.Parallel(b, 32, func() error {
					switch kind {
					case "alone":
						return Publish(b.Context(), pool, "a", sse.Event{Data: filling})
					case "batch":
						return batchOrder(b.Context(), pool)
					}
					return order(b.Context(), pool, kind == "order")
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "transactions/s")
				for began := time.Now(); kind != "bare" && followed.Load() < int64(b.N); time.Sleep(time.Millisecond) {
					require.Less(b, time.Since(began), time.Minute)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "followed/s")
				b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/transaction")
				cancel()
				<-done
			})
		}
	}
}

// processorTime returns how much of the processors this process and the processes of the shared server
// have used, which says more than the time on a machine that has other work.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var self syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &self))
	total := time.Duration(self.Utime.Nano() + self.Stime.Nano())
	found, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(b, err)
	for _, path := range found {
		text, err := os.ReadFile(path)
		_, rest, ok := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); err == nil && ok && fields[1] == strconv.Itoa(shared.Pid()) {
			for _, field := range fields[11:13] { // in hundredths of a second
				ticks, err := strconv.Atoi(field)
				require.NoError(b, err)
				total += time.Duration(ticks) * 10 * time.Millisecond
			}
		}
	}
	return total
}

// BenchmarkAppend measures what hubs publish.
func BenchmarkAppend(b *testing.B) {
	l := openLog(b, benchPool(b, ""), Config{})
	for _, publishers := range []int{1, 64} {
		b.Run("publishers="+strconv.Itoa(publishers), func(b *testing.B) {
			logkit.Parallel(b, publishers, func() error { _, err := l.Append(b.Context(), recs("a", 1, 1)); return err })
		})
	}
	b.Run("batch=1000", func(b *testing.B) {
		records := recs("a", 1, 1000)
		for b.Loop() {
			add(b, l, records...)
		}
		b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}

// arrivals is a client in memory that notes when each event came.
type arrivals struct {
	header http.Header
	mu     sync.Mutex
	at     map[string]time.Time
}

func (a *arrivals) Header() http.Header              { return a.header }
func (a *arrivals) WriteHeader(int)                  {}
func (a *arrivals) FlushError() error                { return nil }
func (a *arrivals) SetWriteDeadline(time.Time) error { return nil }

func (a *arrivals) Write(p []byte) (int, error) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for line := range strings.Lines(string(p)) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			a.at[strings.TrimSpace(data)] = now
		}
	}
	return len(p), nil
}

// BenchmarkCommitToClient measures how long an event needs from when Commit has returned to a client
// of a hub, at 500 transactions a second on 8 connections: alone, and while a transaction stays open
// that has published, for SSE_PGLOG_OPEN or 10 seconds. Of the latter it measures the first and the
// last fifth. Each runs once.
func BenchmarkCommitToClient(b *testing.B) {
	open := 10 * time.Second
	if text := os.Getenv("SSE_PGLOG_OPEN"); text != "" {
		var err error
		open, err = time.ParseDuration(text)
		require.NoError(b, err)
	}
	pool := benchPool(b, "")
	h, err := hub.Open(b.Context(), hub.Config{Log: openLog(b, pool, Config{}), Logger: quiet})
	require.NoError(b, err)
	r := sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: -1}, OpenDelay: -1, Logger: quiet})
	r.SSE("/", func(s *sse.ServerSession) error { return h.Serve(s, hub.Subscription{Topics: []string{"a"}}) })
	client := &arrivals{header: http.Header{}, at: make(map[string]time.Time)}
	ctx, leave := context.WithCancel(b.Context())
	var served sync.WaitGroup
	served.Go(func() { r.ServeHTTP(client, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)) })
	defer func() {
		leave()
		served.Wait()
		require.NoError(b, h.Shutdown(context.Background()))
	}()
	var next atomic.Int64
	measure := func(d time.Duration) (took []float64) { // in milliseconds, in their order
		first := next.Load() + 1
		commits := make(map[int64]time.Time)
		var mu sync.Mutex
		var all sync.WaitGroup
		end := time.Now().Add(d)
		for range 8 {
			all.Go(func() {
				for at := time.Now(); at.Before(end); {
					n := next.Add(1)
					err := pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) error { return Publish(b.Context(), tx, "a", sse.Event{Data: strconv.FormatInt(n, 10)}) })
					if err != nil {
						b.Error(err)
					}
					mu.Lock()
					commits[n] = time.Now()
					mu.Unlock()
					at = at.Add(time.Second * 8 / 500)
					time.Sleep(time.Until(at))
				}
			})
		}
		all.Wait()
		require.NoError(b, awaitArrivals(client, int(next.Load())))
		client.mu.Lock()
		defer client.mu.Unlock()
		for n := first; n <= next.Load(); n++ {
			took = append(took, 1000*client.at[strconv.FormatInt(n, 10)].Sub(commits[n]).Seconds())
		}
		return took
	}
	report := func(took []float64, name string) {
		took = slices.Sorted(slices.Values(took))
		b.ReportMetric(took[len(took)/2], name+"-p50-ms")
		b.ReportMetric(took[len(took)*99/100], name+"-p99-ms")
	}
	report(measure(open), "alone")
	tx, err := pool.Begin(b.Context())
	require.NoError(b, err)
	require.NoError(b, Publish(b.Context(), tx, "b", sse.Event{Data: "open"}))
	took := measure(open)
	require.NoError(b, tx.Rollback(b.Context()))
	report(took[:len(took)/5], "first")
	report(took[len(took)*4/5:], "last")
}

func awaitArrivals(a *arrivals, n int) error {
	for range 10_000 {
		a.mu.Lock()
		have := len(a.at)
		a.mu.Unlock()
		if have >= n {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return context.DeadlineExceeded
}

// A hub of a Log delivers nearly as much to 1,000 clients as one without.
func BenchmarkHubDeliver(b *testing.B) {
	const clients, events = 1000, 20_000
	var rates [2][]float64
	l := openLog(b, benchPool(b, ""), Config{})
	for b.Loop() {
		for i, log := range []hub.Log{nil, l} {
			h := sinks.New(b, hub.Config{}, log)
			h.Join(clients, events)
			began := time.Now()
			h.Publish(events, 1000)
			h.Await()
			rates[i] = append(rates[i], clients*events/time.Since(began).Seconds())
			h.Close()
		}
	}
	b.ReportMetric(sinks.Median(rates[0]), "memory-deliveries/s")
	b.ReportMetric(sinks.Median(rates[1]), "log-deliveries/s")
	b.ReportMetric(sinks.Median(rates[1])/sinks.Median(rates[0]), "log/memory")
}

// BenchmarkRead reads 100,000 cold records by Follow, and by Read in pages of 512 as a hub does, all
// topics or one of ten.
func BenchmarkRead(b *testing.B) {
	const n = 100_000
	l := openLog(b, benchPool(b, ""), Config{})
	for i := 0; i < n; i += 1000 {
		records := recs("", i, 1000)
		for k := range records {
			records[k].Topic = strconv.Itoa(k % 10)
		}
		add(b, l, records...)
	}
	epoch := boundsOf(b, l).Epoch
	b.Run("follow", func(b *testing.B) {
		for b.Loop() {
			count := 0
			_ = l.Follow(b.Context(), hub.Position{Epoch: epoch}, func(batch hub.Batch) error {
				if count += len(batch.Records); count == n {
					return context.Canceled
				}
				return nil
			})
			require.Equal(b, n, count)
		}
		b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
	for name, topics := range map[string][]string{"all": nil, "one": {"3"}, "three": {"3", "4", "5"}} {
		b.Run("read="+name, func(b *testing.B) {
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
