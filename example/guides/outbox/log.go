package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/chi-sse/sse/hub"
)

// outbox is a hub.Log over the table outbox. Only the application adds rows to the table. A
// row's number is both the event's offset and its id.
type outbox struct {
	db   *sql.DB
	wake chan struct{} // has room for one value, which makes Follow look at once
}

const pollEvery = 50 * time.Millisecond // for rows that other processes have added

func (o *outbox) Append(context.Context, []hub.Record) ([]hub.Position, error) {
	return nil, hub.ErrReadOnly
}

const selectBounds = `SELECT epoch, coalesce((SELECT min(id) FROM outbox), seq + 1), seq
	FROM outbox_epoch, sqlite_sequence WHERE sqlite_sequence.name = 'outbox'`

func (o *outbox) Bounds(ctx context.Context) (b hub.Bounds, err error) {
	err = o.db.QueryRowContext(ctx, selectBounds).Scan(&b.Epoch, &b.First, &b.Last)
	return b, err
}

func (o *outbox) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	for more := true; ; { // at first, and after rows, apply is also told that there are no more
		b, err := o.Read(ctx, nil, after, hub.Position{Epoch: after.Epoch, Offset: 1<<64 - 1}, 1000)
		if err == nil && (more || b.UpTo > after.Offset) {
			err = apply(b)
		}
		if err != nil {
			return err
		}
		if more = b.UpTo > after.Offset; more {
			after.Offset = b.UpTo
			continue
		}
		select {
		case <-o.wake:
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (o *outbox) Read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (page hub.Batch, err error) {
	tx, err := o.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // the bounds and the rows are of one moment
	if err != nil {
		return page, err
	}
	defer func() { _ = tx.Rollback() }()
	var b hub.Bounds
	err = tx.QueryRowContext(ctx, selectBounds).Scan(&b.Epoch, &b.First, &b.Last)
	switch {
	case err != nil:
		return page, err
	case after.Epoch != b.Epoch || upTo.Epoch != b.Epoch:
		return page, hub.ErrEpoch
	case after.Offset > b.Last:
		return page, fmt.Errorf("row %d was sent, but the outbox ends at row %d", after.Offset, b.Last)
	case after.Offset+1 < b.First:
		return page, &hub.TruncatedError{First: b.First}
	}
	page.UpTo = max(after.Offset, min(upTo.Offset, b.Last))
	names, _ := json.Marshal(topics) // a list of strings can always be encoded
	rows, err := tx.QueryContext(ctx, `SELECT id, id, topic, time, name, data FROM outbox WHERE id > ? AND id <= ? AND
		(? OR topic IN (SELECT value FROM json_each(?))) ORDER BY id LIMIT ?`, after.Offset, page.UpTo, len(topics) == 0, string(names), limit)
	if err != nil {
		return page, err
	}
	defer rows.Close()
	for rows.Next() {
		var r hub.Record
		if err := rows.Scan(&r.Offset, &r.Event.ID, &r.Topic, &r.Time, &r.Event.Name, &r.Event.Data); err != nil {
			return page, err
		}
		page.Records = append(page.Records, r)
	}
	if len(page.Records) == limit { // there may be more
		page.UpTo = page.Records[limit-1].Offset
	}
	return page, rows.Err()
}

func (o *outbox) Find(ctx context.Context, topic, id string) (pos hub.Position, found bool, err error) {
	const query = `SELECT epoch, coalesce((SELECT id FROM outbox WHERE id = ? AND topic = ?), 0) FROM outbox_epoch`
	err = o.db.QueryRowContext(ctx, query, id, topic).Scan(&pos.Epoch, &pos.Offset)
	return pos, pos.Offset > 0, err
}
