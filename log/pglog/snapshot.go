package pglog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chi-sse/sse/hub"
)

// snapshotTimeout is how long a Snapshot keeps others from publishing at the most. The server ends
// it after that time too.
const snapshotTimeout = 2 * time.Second

// Snapshot returns the position at which tx sees the database: tx sees what the transactions have
// written that published the events up to the position, and nothing of those that published later
// events. It is for hub.Subscription.Snapshot.
//
// tx must be a transaction with the isolation REPEATABLE READ, or SERIALIZABLE, in the same
// database, which has written nothing; and Snapshot must be the first that it is used for. Read the
// state afterwards. The user of tx needs the right to read the table state.
//
// While Snapshot runs, nothing is numbered. That takes a few round trips; if it takes longer than two
// seconds, it fails.
//
// Snapshot returns a [*TransactionError] if tx cannot be used, an error that matches
// [hub.ErrReadOnly] if Config.ReadOnly is set, or an error of the server.
func (l *Log) Snapshot(ctx context.Context, tx Tx) (hub.Position, error) {
	if l.cfg.ReadOnly {
		return hub.Position{}, fmt.Errorf("pglog: snapshot: %w", errReadOnly)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var pos hub.Position
	err := pgx.BeginTxFunc(ctx, l.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}, func(own pgx.Tx) (err error) {
		pos, err = l.snapshot(ctx, own, tx)
		return err
	})
	if err != nil {
		return hub.Position{}, fmt.Errorf("pglog: snapshot: %w", withContext(ctx, refused(err)))
	}
	return pos, nil
}

// snapshot keeps others from numbering, by own, while the snapshot of tx is taken, and numbers what it
// sees.
func (l *Log) snapshot(ctx context.Context, own pgx.Tx, tx Tx) (hub.Position, error) {
	if _, err := own.Exec(ctx, "SET LOCAL idle_in_transaction_session_timeout = "+fmt.Sprint(snapshotTimeout.Milliseconds())); err != nil {
		return hub.Position{}, err
	}
	var n, seenN int64
	if err := own.QueryRow(ctx, l.queries.hold).Scan(&n); err != nil {
		return hub.Position{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	var isolation, seen string
	var clean bool
	if err := tx.QueryRow(ctx, l.queries.snapshot).Scan(&isolation, &clean, &seen, &seenN); err != nil {
		return hub.Position{}, err
	}
	switch {
	case isolation != "repeatable read" && isolation != "serializable":
		return hub.Position{}, &TransactionError{"be REPEATABLE READ; it is " + isolation}
	case !clean:
		return hub.Position{}, &TransactionError{"not have written anything"}
	case seenN != n:
		if err := own.Conn().Ping(ctx); err != nil { // it was not held
			return hub.Position{}, err
		}
		return hub.Position{}, &TransactionError{"not have been used before the Snapshot"}
	}
	var epoch, last int64
	if err := own.QueryRow(ctx, l.queries.seen, seen, numberBatch).Scan(&epoch, &last); err != nil {
		return hub.Position{}, err
	}
	return hub.Position{Epoch: uint64(epoch), Offset: uint64(last)}, nil
}
