package pglog

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
)

// lines are the lines of Logs.
var lines sync.Map

// connectByLine returns a pool whose connections go over a line.
func connectByLine(t testing.TB, dsn string) (*pgxpool.Pool, *line) {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	l := newLine()
	cfg.ConnConfig.DialFunc = l.dial
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, l
}

func TestConformance(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	open := func(t testing.TB, database string) *Log {
		t.Helper()
		pool, line := connectByLine(t, s.dsn(database, "postgres"))
		migrate(t, pool)
		l := openLog(t, pool, Config{})
		lines.Store(l, line)
		return l
	}
	// admin executes a statement in the database of a Log.
	admin := func(t testing.TB, log hub.Log, sql string, args ...any) {
		t.Helper()
		_, err := log.(*Log).pool.Exec(context.Background(), sql, args...)
		require.NoError(t, err)
	}
	logtest.Run(t, logtest.Config{
		Open: func(t testing.TB) hub.Log {
			t.Helper()
			return open(t, newDatabase(t, s))
		},
		Reopen: func(t testing.TB, log hub.Log) hub.Log {
			t.Helper()
			return open(t, log.(*Log).pool.Config().ConnConfig.Database)
		},
		Shared: true,
		Renew: func(t testing.TB, log hub.Log) {
			t.Helper()
			require.NoError(t, pgx.BeginFunc(context.Background(), log.(*Log).pool, func(tx pgx.Tx) error {
				_, err := tx.Exec(context.Background(), "LOCK TABLE sse.state; DROP SCHEMA sse CASCADE") // in the order in which others lock them
				require.NoError(t, err)
				return DefaultSchema.Migrate(context.Background(), tx)
			}))
		},
		Truncate: func(t testing.TB, log hub.Log, first uint64) {
			t.Helper()
			for dropped := int64(1); dropped > 0; {
				b := boundsOf(t, log.(*Log))
				keep := int64(b.Last) - int64(first) + 1
				var n *int64
				require.NoError(t, log.(*Log).pool.QueryRow(context.Background(), "SELECT sse.retain(NULL, $1, 1000)", keep).Scan(&n))
				if n != nil {
					dropped = *n
				}
			}
		},
		LoseAnswer: func(t testing.TB, log hub.Log) {
			t.Helper()
			loseAnswer(t, log.(*Log), s)
		},
		Insert: func(t testing.TB, log hub.Log, topic string, data []byte) {
			t.Helper()
			before := boundsOf(t, log.(*Log)).Last
			admin(t, log, "INSERT INTO sse.inbox (topic, record) VALUES ($1, $2)", []byte(topic), data)
			for boundsOf(t, log.(*Log)).Last == before {
				admin(t, log, "SELECT sse.number(100)")
			}
		},
		Million:  os.Getenv("SSE_LOG_MILLION") != "",
		Patience: time.Minute,
	})
}

// loseAnswer makes the next publication of l lose its answer: its connections are cut when the
// server has committed it.
func loseAnswer(t testing.TB, l *Log, s *server) {
	t.Helper()
	found, _ := lines.Load(l)
	line := found.(*line)
	before := boundsOf(t, l).Last
	watcher := connect(t, s.dsn(l.pool.Config().ConnConfig.Database, "postgres"))
	require.NoError(t, watcher.Ping(t.Context()))
	line.set(func() { line.trap = "unknown" }) // the data of the next publication
	go func() {
		defer line.hold(false)
		for t.Context().Err() == nil {
			var last uint64
			if err := watcher.QueryRow(t.Context(), "SELECT last FROM sse.state ORDER BY n DESC LIMIT 1").Scan(&last); err == nil && last > before {
				break
			}
			time.Sleep(time.Millisecond)
		}
		line.cut()
	}()
}
