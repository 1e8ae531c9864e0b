package pglog

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// The soak takes snapshots while others commit. This is what becomes of transactions that cannot be
// used, and of those that commit at certain moments.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	l, pool := newLog(t)
	ctx := t.Context()
	rr := pgx.TxOptions{IsoLevel: pgx.RepeatableRead}
	begin := func(opts pgx.TxOptions) pgx.Tx {
		t.Helper()
		tx, err := pool.BeginTx(ctx, opts)
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
		return tx
	}
	at := func(tx Tx) uint64 {
		t.Helper()
		pos, err := l.Snapshot(ctx, tx)
		require.NoError(t, err)
		return pos.Offset
	}
	refused := func(tx Tx, want string) {
		t.Helper()
		_, err := l.Snapshot(ctx, tx)
		e := new(TransactionError)
		require.ErrorAs(t, err, &e)
		require.Contains(t, e.Error(), want)
	}
	require.Zero(t, at(begin(rr)))

	open := begin(pgx.TxOptions{}) // its event comes later
	require.NoError(t, Publish(ctx, open, "a", sse.Event{Data: "open"}))
	require.NoError(t, Publish(ctx, pool, "a", sse.Event{Data: "1"}))
	require.NoError(t, Publish(ctx, pool, "a", sse.Event{Data: "2"}))
	early := begin(rr)
	require.Equal(t, uint64(2), at(early), "it numbers what it sees")
	require.NoError(t, open.Commit(ctx))
	require.NoError(t, Publish(ctx, pool, "a", sse.Event{Data: "4"}))
	require.Equal(t, uint64(4), at(begin(pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly})))
	refused(early, "before")
	refused(begin(pgx.TxOptions{}), "REPEATABLE READ")
	wrote := begin(rr)
	require.NoError(t, Publish(ctx, wrote, "a", sse.Event{Data: "5"}))
	refused(wrote, "written")
	publishes := begin(rr)
	require.Equal(t, uint64(4), at(publishes))
	require.NoError(t, Publish(ctx, publishes, "a", sse.Event{Data: "5"}), "it may write afterwards")
	require.NoError(t, publishes.Commit(ctx))

	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	require.NoError(t, err)
	require.Equal(t, uint64(5), at(SQL(tx)))
	require.NoError(t, tx.Rollback())

	// While a snapshot is being taken, whose transaction does not answer, nobody waits for long.
	stuck, cancel := context.WithCancel(ctx)
	defer cancel()
	_, err = l.Snapshot(stuck, blockedTx{begin(rr)})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotEmpty(t, add(t, l, rec("a", "6")))

	readOnly := openLog(t, pool, Config{ReadOnly: true})
	_, err = readOnly.Snapshot(ctx, begin(rr))
	require.ErrorIs(t, err, hub.ErrReadOnly)
}

// blockedTx is a transaction on a connection on which nothing comes.
type blockedTx struct{ pgx.Tx }

func (b blockedTx) QueryRow(ctx context.Context, _ string, _ ...any) pgx.Row {
	<-ctx.Done()
	return errRow{ctx.Err()}
}

type errRow struct{ err error }

func (r errRow) Scan(...any) error { return r.err }
