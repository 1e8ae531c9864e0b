package pglog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// soakSize returns how many transactions TestSoak has, and a hundredth as many snapshots:
// SSE_PGLOG_SOAK, or a few.
func soakSize(t testing.TB) int {
	t.Helper()
	text := os.Getenv("SSE_PGLOG_SOAK")
	if text == "" {
		return 3000
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

var errRollBack = errors.New("roll back")

// publisher is one of those of TestSoak. Each transaction adds a row to the table applied, whose
// numbers are its own, and publishes as many events with them.
type publisher struct {
	pool *pgxpool.Pool
	next *atomic.Int64 // the number of the next transaction
	most int64

	committed, rolledBack, unknown *atomic.Int64
}

// run makes transactions until all are made.
func (p *publisher) run(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	for n := p.next.Add(1); n <= p.most; n = p.next.Add(1) {
		rollBack := rand.IntN(2) == 0
		var opts pgx.TxOptions
		if rand.IntN(4) == 0 {
			opts.IsoLevel = pgx.RepeatableRead
		}
		committing := false
		err := pgx.BeginTxFunc(ctx, p.pool, opts, func(tx pgx.Tx) error {
			return p.transaction(ctx, tx, n, rollBack, &committing)
		})
		switch {
		case err == nil:
			p.committed.Add(1)
		case errors.Is(err, errRollBack) || !committing:
			p.rolledBack.Add(1)
		case ctx.Err() != nil:
			return
		default: // its backend was terminated
			p.unknown.Add(1)
		}
		if rollBack && err == nil {
			t.Errorf("transaction %d should have been rolled back", n)
		}
	}
}

func (p *publisher) transaction(ctx context.Context, tx pgx.Tx, n int64, rollBack bool, committing *bool) error {
	events := 1 + rand.IntN(3)
	if rand.IntN(10) == 0 { // what a savepoint takes back is not published either
		err := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			if err := Publish(ctx, inner, "a", sse.Event{Data: fmt.Sprint(n, " taken back")}); err != nil {
				return err
			}
			return errRollBack
		})
		if !errors.Is(err, errRollBack) {
			return err
		}
	}
	for i := range events {
		if i == 1 && rand.IntN(4) == 0 {
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		}
		if err := Publish(ctx, tx, "a", sse.Event{Data: fmt.Sprint(n, " ", i, " ", events)}); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, "INSERT INTO applied VALUES ($1, $2)", n, events); err != nil {
		return err
	}
	switch rand.IntN(100) {
	case 0:
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
	case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20:
		time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond)
	}
	if rollBack {
		return errRollBack
	}
	*committing = true
	return nil
}

// state is what a snapshot has seen.
type state struct {
	at            hub.Position
	count, events int64
	sum           int64
}

// takeSnapshot takes a snapshot of the table applied. A transaction may be refused because its
// backend was terminated; then it tries again.
func takeSnapshot(ctx context.Context, l *Log, pool *pgxpool.Pool) (s state, err error) {
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, pool, opts, func(tx pgx.Tx) (err error) {
		if s.at, err = l.Snapshot(ctx, tx); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // others commit meanwhile
		return tx.QueryRow(ctx, "SELECT count(*), coalesce(sum(events), 0), coalesce(sum(n), 0) FROM applied").Scan(&s.count, &s.events, &s.sum)
	})
	return s, err
}

// TestSoak publishes in transactions on 32 connections. Half of them are rolled back, and some are
// open for long. Meanwhile backends of all kinds are terminated, hubs append, and snapshots are
// taken. Nothing that was rolled back is seen, nothing that was committed is lost, all have one
// order, and a snapshot has exactly what was published up to its position.
func TestSoak(t *testing.T) {
	t.Parallel()
	n := soakSize(t)
	s := sharedServer(t)
	dsn := s.dsn(newDatabase(t, s), "postgres")
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.MaxConns = 40
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	migrate(t, pool)
	execute(t, pool, "CREATE TABLE applied (n bigint PRIMARY KEY, events int NOT NULL)")
	logs := []*Log{openLog(t, pool, Config{}), openLog(t, pool, Config{})}
	readers := []*reading{startReading(t, logs[0]), startReading(t, logs[1])}

	began := time.Now()
	p := &publisher{pool: pool, next: new(atomic.Int64), most: int64(n), committed: new(atomic.Int64), rolledBack: new(atomic.Int64), unknown: new(atomic.Int64)}
	var publishers, others sync.WaitGroup
	for range 32 {
		publishers.Go(func() { p.run(t) })
	}
	done := make(chan struct{})
	every := func(pause time.Duration, f func()) {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(pause):
					f()
				}
			}
		})
	}
	var states []state
	var mu sync.Mutex
	for range 4 {
		every(time.Millisecond, func() {
			got, err := takeSnapshot(t.Context(), logs[rand.IntN(2)], pool)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				states = append(states, got)
			} else if isError(err) && !isCode(err, "57P01") || errors.As(err, new(*TransactionError)) {
				t.Errorf("Snapshot: %v", err) // it was not because a backend was terminated
			}
		})
	}
	var appended atomic.Int64
	every(5*time.Millisecond, func() {
		if _, err := logs[rand.IntN(2)].Append(t.Context(), recs("b", 0, 1+rand.IntN(3))); err == nil {
			appended.Add(1)
		}
	})
	var killed atomic.Int64
	every(150*time.Millisecond, func() {
		_, err := pool.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) x")
		if err == nil {
			killed.Add(1)
		}
	})
	publishers.Wait()
	close(done)
	others.Wait()
	took := time.Since(began)

	want := make(map[int64]int) // how many events each transaction has
	rows, err := pool.Query(t.Context(), "SELECT n, events FROM applied")
	require.NoError(t, err)
	total := 0
	for rows.Next() {
		var n int64
		var events int
		require.NoError(t, rows.Scan(&n, &events))
		want[n] = events
		total += events
	}
	require.NoError(t, rows.Err())
	require.GreaterOrEqual(t, int64(len(want)), p.committed.Load())
	require.LessOrEqual(t, int64(len(want)), p.committed.Load()+p.unknown.Load())
	end := add(t, logs[0], rec("b", "end"))[0]
	all := readers[0].await(int(end.Offset))
	require.Equal(t, all, readers[1].await(int(end.Offset)), "all readers have one order")

	prefix := checkTransactions(t, all, want)
	require.Len(t, want, prefix[len(prefix)-1].count)
	for _, got := range states {
		require.Equal(t, end.Epoch, got.at.Epoch)
		at := prefix[got.at.Offset]
		require.Equal(t, progress{int(got.count), int(got.events), got.sum}, at, "a snapshot at %d", got.at.Offset)
	}
	require.NotEmpty(t, states)
	t.Logf("%d transactions in %v: %d committed, %d rolled back, %d unknown; %d events; %d appends of hubs; %d snapshots; %d backends terminated",
		n, took.Round(time.Millisecond), p.committed.Load(), p.rolledBack.Load(), p.unknown.Load(), total, appended.Load(), len(states), killed.Load())
}

// progress is how many transactions have published up to a position, how many events, and the sum
// of their numbers.
type progress struct {
	count, events int
	sum           int64
}

// checkTransactions checks that the records are those of the transactions, each of which is in one
// piece. It returns the progress at each offset.
func checkTransactions(t testing.TB, all []hub.Record, want map[int64]int) []progress {
	t.Helper()
	prefix := make([]progress, 1, len(all)+1)
	seen := make(map[int64]bool)
	for i, r := range all {
		require.Equal(t, uint64(i+1), r.Offset)
		now := prefix[i]
		if r.Topic == "a" {
			var n int64
			var k, of int
			_, err := fmt.Sscanf(r.Event.Data, "%d %d %d", &n, &k, &of)
			require.NoError(t, err, r.Event.Data)
			require.Equal(t, want[n], of, "the transaction %d, of which an event is seen", n)
			if k == 0 {
				require.False(t, seen[n], "the transaction %d is seen twice", n)
				seen[n] = true
				now.count++
				now.sum += n
			} else {
				require.True(t, strings.HasPrefix(all[i-1].Event.Data, fmt.Sprint(n, " ", k-1, " ")), "%q comes after %q", r.Event.Data, all[i-1].Event.Data)
			}
			now.events++
		}
		prefix = append(prefix, now)
	}
	require.Len(t, seen, len(want), "no transaction is lost")
	return prefix
}
