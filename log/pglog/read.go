package pglog

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chi-sse/sse/hub"
)

const (
	maxPage   = 8 << 20 // how many bytes of records are read at once, or one record
	maxTopics = 64      // above, all records are read, and those that are not wanted left out
	minScan   = 512     // how many are read at least then
)

// page is what is read at once.
type page struct {
	bounds
	batch hub.Batch
	end   mark  // the last record, if there is one
	many  int64 // how many records there were before those beyond maxPage were left out
}

// Read implements [hub.Log].
func (l *Log) Read(ctx context.Context, topics []string, after, upTo hub.Position, most int) (hub.Batch, error) {
	b, err := l.read(ctx, topics, after, upTo, max(most, 1))
	if err != nil {
		return hub.Batch{}, fmt.Errorf("pglog: read: %w", withContext(ctx, err))
	}
	return b, nil
}

func (l *Log) read(ctx context.Context, topics []string, after, upTo hub.Position, most int) (hub.Batch, error) {
	if after.Epoch != upTo.Epoch {
		return hub.Batch{}, epochError(upTo, after.Epoch)
	}
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	if len(topics) <= maxTopics {
		p, err := l.page(ctx, topics, after, upTo.Offset, most)
		return p.batch, err
	}
	p, err := l.page(ctx, nil, after, upTo.Offset, max(most, minScan))
	if err != nil {
		return hub.Batch{}, err
	}
	b := p.batch
	b.Records = slices.DeleteFunc(b.Records, func(r hub.Record) bool {
		_, wanted := slices.BinarySearch(topics, r.Topic)
		return !wanted
	})
	if len(b.Records) > most {
		b.Records = b.Records[:most]
		b.UpTo = b.Records[most-1].Offset
	}
	return b, nil
}

// page reads records of the topics, or of all, after a position and up to an offset.
func (l *Log) page(ctx context.Context, topics []string, after hub.Position, upTo uint64, most int) (page, error) {
	upTo = min(upTo, math.MaxInt64)
	args := []any{int64(min(after.Offset, math.MaxInt64)), int64(upTo), most, maxPage}
	query := l.queries.page
	if len(topics) > 0 {
		names := make([][]byte, len(topics))
		for i, topic := range topics {
			names[i] = []byte(topic)
		}
		query, args = l.queries.topics, append(args, names)
	}
	var p page
	err := l.ask(ctx, func(ctx context.Context) (err error) {
		p, err = l.scanPage(ctx, query, args)
		return err
	})
	if err != nil {
		return page{}, err
	}
	b := p.of()
	if err := check(b, after); err != nil {
		return page{}, err
	}
	n := len(p.batch.Records)
	if n > 0 {
		p.end = mark{b.Epoch, p.batch.Records[n-1].Offset, p.batch.Records[n-1].Time}
	}
	p.batch.UpTo = max(after.Offset, min(upTo, b.Last))
	if n > 0 && (n == most || int64(n) < p.many) { // there may be more
		p.batch.UpTo = p.end.offset
	}
	return p, nil
}

// scanPage executes a query of a page, and scans its rows.
func (l *Log) scanPage(ctx context.Context, query string, args []any) (p page, err error) {
	rows, err := l.pool.Query(ctx, query, args...)
	if err != nil {
		return p, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := p.scan(rows); err != nil {
			return p, err
		}
	}
	return p, rows.Err()
}

// scan scans a row. If there are no records, there is one row without any.
func (p *page) scan(rows pgx.Rows) error {
	var number, many *int64
	var at *time.Time
	var topic, record []byte
	err := rows.Scan(&p.epoch, &p.first, &p.last, &number, &at, &topic, &record, &many)
	if err != nil || number == nil {
		return err
	}
	var r hub.Record
	if r.UnmarshalBinary(record) != nil || r.Topic != string(topic) {
		r = hub.Record{Kind: hub.InvalidRecord, Topic: string(topic)}
	}
	r.Offset, r.Time = uint64(*number), *at
	p.batch.Records = append(p.batch.Records, r)
	p.many = *many
	return nil
}

// check returns an error if what comes after the position cannot be had from a log with the
// bounds.
func check(b hub.Bounds, after hub.Position) error {
	switch {
	case b.Epoch != after.Epoch:
		return epochError(after, b.Epoch)
	case b.First > after.Offset+1:
		return &hub.TruncatedError{First: b.First}
	}
	return nil
}
