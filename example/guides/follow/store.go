package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	_ "modernc.org/sqlite" // the driver "sqlite", without cgo

	"github.com/chi-sse/sse/client"
)

const schema = `
CREATE TABLE IF NOT EXISTS parcels (
	id       INTEGER PRIMARY KEY,
	item     TEXT NOT NULL,
	quantity INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS checkpoint (
	stream        TEXT PRIMARY KEY,
	last_event_id TEXT NOT NULL
);
INSERT OR IGNORE INTO checkpoint VALUES ('orders', '');
`

// settings are those of each connection. NORMAL does not wait for the disk at each commit. A
// power failure may undo the last transactions, each as a whole.
const settings = "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"

// store keeps the parcels and the checkpoint in a SQLite file.
type store struct{ db *sql.DB }

// openStore opens the file, and makes it if it does not exist.
func openStore(ctx context.Context, file string) (*store, error) {
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(file)+settings)
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", file, err), db.Close())
	}
	return &store{db}, nil
}

func (s *store) close() error { return s.db.Close() }

// follow makes a parcel for each order in the stream at url, exactly once.
func (s *store) follow(ctx context.Context, url string) error {
	var last string
	err := s.db.QueryRowContext(ctx, `SELECT last_event_id FROM checkpoint WHERE stream = 'orders'`).Scan(&last)
	if err != nil {
		return err
	}
	return follow(ctx, url, last, func(last string, ev client.Event) error { return s.handle(ctx, last, ev) })
}

// handle makes the parcel for ev and moves the checkpoint from the event with the id last to
// ev, both or neither.
func (s *store) handle(ctx context.Context, last string, ev client.Event) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()

	if err := makeParcel(ctx, tx, ev); err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx, `UPDATE checkpoint SET last_event_id = ? WHERE stream = 'orders' AND last_event_id = ?`, ev.ID, last)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errors.New("another process follows the stream too"), err)
	}
	return tx.Commit()
}

// makeParcel is what the program does with an order.
func makeParcel(ctx context.Context, tx *sql.Tx, ev client.Event) error {
	var order struct {
		Item     string
		Quantity int
	}
	if err := json.Unmarshal([]byte(ev.Data), &order); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO parcels (item, quantity) VALUES (?, ?)`, order.Item, order.Quantity)
	return err
}
