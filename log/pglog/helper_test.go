package pglog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

// What the tests of all logs have.
var (
	rec      = logkit.Record
	recs     = logkit.Records
	add      = logkit.Append
	boundsOf = logkit.Bounds
	texts    = logkit.Texts
)

// openLog opens a Log, which the end of the test closes.
func openLog(t testing.TB, pool *pgxpool.Pool, cfg Config) *Log {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l, err := Open(ctx, pool, cfg)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

// migrate makes the tables of a log.
func migrate(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	require.NoError(t, DefaultSchema.Migrate(t.Context(), pool))
}

// newLog returns a Log in a new database, and a pool of connections to it.
func newLog(t testing.TB) (*Log, *pgxpool.Pool) {
	t.Helper()
	s := sharedServer(t)
	pool := connect(t, s.dsn(newDatabase(t, s), "postgres"))
	migrate(t, pool)
	return openLog(t, pool, Config{}), pool
}

// execute executes a statement.
func execute(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// reading is a Follow that goes on after trouble, as that of a hub does.
type reading struct {
	t    testing.TB
	mu   sync.Mutex
	got  []hub.Record
	errs []error
	end  chan struct{}
	stop func() // and waits for the end
}

// startReading follows l from its beginning.
func startReading(t testing.TB, l *Log) *reading {
	t.Helper()
	r := &reading{t: t, end: make(chan struct{})}
	at := hub.Position{Epoch: boundsOf(t, l).Epoch}
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = func() {
		cancel()
		<-r.end
	}
	t.Cleanup(r.stop)
	go func() {
		defer close(r.end)
		for ctx.Err() == nil {
			err := l.Follow(ctx, at, func(b hub.Batch) error {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.got = append(r.got, b.Records...)
				at.Offset = b.UpTo
				return nil
			})
			r.mu.Lock()
			r.errs = append(r.errs, err)
			r.mu.Unlock()
			if truncated, ok := errors.AsType[*hub.TruncatedError](err); ok {
				at.Offset = truncated.First - 1
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return r
}

// await waits until there are n records, and returns all.
func (r *reading) await(n int) []hub.Record {
	r.t.Helper()
	testkit.Eventually(r.t, func() bool { return len(r.records()) >= n }, fmt.Sprintf("%d records to be followed", n))
	return r.records()
}

func (r *reading) records() []hub.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.got)
}

// withTimeout returns a context for what the end of a test does.
func withTimeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 20*time.Second)
}
