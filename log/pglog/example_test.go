package pglog_test

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/pglog"
)

var (
	ctx    context.Context
	pool   *pgxpool.Pool
	db     *sql.DB
	events *pglog.Log
)

// An order and its event are committed together, or neither is.
func ExamplePublish() {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE orders SET state = 'paid' WHERE id = 7"); err != nil {
			return err
		}
		return pglog.Publish(ctx, tx, "orders", sse.Event{Name: "paid", Data: "7"})
	})
	if err != nil {
		panic(err)
	}
}

// A change and its event take one round trip to the server, and are one transaction.
func ExampleQueue() {
	var b pgx.Batch
	b.Queue("UPDATE orders SET state = 'paid' WHERE id = 7")
	if err := pglog.Queue(&b, "orders", sse.Event{Name: "paid", Data: "7"}); err != nil {
		panic(err)
	}
	if err := pool.SendBatch(ctx, &b).Close(); err != nil {
		panic(err)
	}
}

// Transactions of database/sql can publish too.
func ExampleSQL() {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		panic(err)
	}
	defer func() { _ = tx.Rollback() }() // it does nothing after Commit
	if _, err := tx.ExecContext(ctx, "UPDATE orders SET state = 'paid' WHERE id = 7"); err != nil {
		panic(err)
	}
	if err := pglog.Publish(ctx, pglog.SQL(tx), "orders", sse.Event{Name: "paid", Data: "7"}); err != nil {
		panic(err)
	}
	if err := tx.Commit(); err != nil {
		panic(err)
	}
}

// A client first gets the number of orders, and then each change once.
func ExampleLog_Snapshot() {
	_ = hub.Subscription{Topics: []string{"orders"}, Snapshot: func(s *sse.ServerSession, _ hub.Position) (at hub.Position, err error) {
		opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
		err = pgx.BeginTxFunc(s.Context(), pool, opts, func(tx pgx.Tx) error {
			if at, err = events.Snapshot(s.Context(), tx); err != nil {
				return err
			}
			var count string
			if err := tx.QueryRow(s.Context(), "SELECT count(*)::text FROM orders").Scan(&count); err != nil {
				return err
			}
			return s.Send(sse.Event{Name: "state", Data: count})
		})
		return at, err
	}}
}
