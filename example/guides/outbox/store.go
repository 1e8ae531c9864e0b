package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	_ "modernc.org/sqlite" // the driver "sqlite", without cgo
)

// schema makes the tables. AUTOINCREMENT keeps the numbers of deleted rows from being used
// again. The numbers begin after the time at which the table is made, in microseconds, so that
// a table that is made anew does not use those of the old one. The epoch is a random number
// that is made with the table, and never 0.
const schema = `
CREATE TABLE IF NOT EXISTS orders (
	id       INTEGER PRIMARY KEY,
	item     TEXT NOT NULL,
	quantity INTEGER NOT NULL CHECK (quantity > 0)
);
CREATE TABLE IF NOT EXISTS outbox (
	id    INTEGER PRIMARY KEY AUTOINCREMENT,
	topic TEXT NOT NULL CHECK (topic <> ''),
	time  DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
	name  TEXT NOT NULL,
	data  TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS outbox_epoch (
	one   INTEGER PRIMARY KEY CHECK (one = 1),
	epoch INTEGER NOT NULL
);
INSERT OR IGNORE INTO outbox_epoch VALUES (1, 1 + abs(random() % 1000000000000000000));
INSERT INTO sqlite_sequence SELECT 'outbox', CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)
	WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'outbox');
`

// settings are those of each connection. With a write-ahead log, readers and the writer do
// not wait for each other. Writers wait for each other, but not for longer than 5 seconds.
const settings = "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_txlock=immediate"

// ordersTopic is the topic of all events about orders.
const ordersTopic = "orders"

// order is an order, and the data of the event "placed".
type order struct {
	ID       int64  `json:"id"`
	Item     string `json:"item"`
	Quantity int    `json:"quantity"`
}

// store keeps the orders in a SQLite file.
type store struct {
	db     *sql.DB
	outbox *outbox // for one hub
}

// openStore opens the file, and makes it if it does not exist.
func openStore(ctx context.Context, file string) (*store, error) {
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(file)+settings)
	if err != nil {
		return nil, err
	}
	s := &store{db: db, outbox: &outbox{db: db, wake: make(chan struct{}, 1)}}
	err = s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, schema)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", file, err), db.Close())
	}
	return s, nil
}

func (s *store) close() error { return s.db.Close() }

// change runs f in a transaction, which is committed if f returns nil. The hub then looks for
// new events.
func (s *store) change(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	select {
	case s.outbox.wake <- struct{}{}:
	default: // it will look anyway
	}
	return nil
}

// place adds an order, and the event that tells of it.
func (s *store) place(ctx context.Context, o *order) error {
	return s.change(ctx, func(tx *sql.Tx) error { return place(ctx, tx, o) })
}

func place(ctx context.Context, tx *sql.Tx, o *order) error {
	result, err := tx.ExecContext(ctx, `INSERT INTO orders (item, quantity) VALUES (?, ?)`, o.Item, o.Quantity)
	if err != nil {
		return err
	}
	if o.ID, err = result.LastInsertId(); err != nil {
		return err
	}
	return addEvent(ctx, tx, ordersTopic, "placed", o)
}

// addEvent adds an event to the outbox. It takes place if and only if tx is committed.
func addEvent(ctx context.Context, tx *sql.Tx, topic, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO outbox (topic, name, data) VALUES (?, ?, ?)`, topic, name, string(data))
	return err
}
