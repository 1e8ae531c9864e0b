package main

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/pglog"
)

// tables are the application's. Those of the log are pglog's.
const tables = `
CREATE TABLE IF NOT EXISTS orders (
	id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	item     text NOT NULL CHECK (item <> ''),
	quantity int  NOT NULL CHECK (quantity BETWEEN 1 AND 100),
	status   text NOT NULL DEFAULT 'placed',
	changes  int  NOT NULL DEFAULT 1 -- how often it has changed
);
`

// ordersTopic is the topic of all events about orders.
const ordersTopic = "orders"

// order is a row of the table, and the data of an event.
type order struct {
	ID       int64  `json:"id"`
	Item     string `json:"item"`
	Quantity int    `json:"quantity"`
	Status   string `json:"status"`
	Changes  int    `json:"changes"`
}

// store keeps the orders.
type store struct {
	pool *pgxpool.Pool
	log  *pglog.Log
}

// place adds an order.
func (s *store) place(ctx context.Context, item string, quantity int) (order, error) {
	return s.change(ctx, `INSERT INTO orders (item, quantity) VALUES ($1, $2) RETURNING *`, item, quantity)
}

// advance takes an order a step further. It returns pgx.ErrNoRows if there is none, or it has
// been shipped.
func (s *store) advance(ctx context.Context, id int64) (order, error) {
	return s.change(ctx, `UPDATE orders SET changes = changes + 1, status = CASE status WHEN 'placed' THEN 'packed' ELSE 'shipped' END
		WHERE id = $1 AND status <> 'shipped' RETURNING *`, id)
}

// change changes an order by a statement that returns it, and publishes what it is now. Either both
// are committed, or neither.
func (s *store) change(ctx context.Context, sql string, args ...any) (o order, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, sql, args...) // CollectExactlyOneRow returns its error
		if o, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[order]); err != nil {
			return err
		}
		data, err := json.Marshal(o)
		if err != nil {
			return err
		}
		return pglog.Publish(ctx, tx, ordersTopic, sse.Event{Name: "order", Data: string(data)})
	})
	return o, err
}

// snapshot returns all orders, and the position after which the events change them.
func (s *store) snapshot(ctx context.Context) (orders []order, at hub.Position, err error) {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, s.pool, options, func(tx pgx.Tx) error {
		if at, err = s.log.Snapshot(ctx, tx); err != nil { // before anything else
			return err
		}
		rows, _ := tx.Query(ctx, `SELECT * FROM orders`) // CollectRows returns its error
		orders, err = pgx.CollectRows(rows, pgx.RowToStructByPos[order])
		return err
	})
	return orders, at, err
}
