package boltlog

import (
	"context"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/chi-sse/sse/hub"
)

// Reading never waits for writing. A transaction that reads is as short as a page: a long one
// would keep the pages that are dropped meanwhile, and hold up the file's growth.

const (
	followRecords = 1000    // how many records Follow reads at once
	mostRecords   = 1 << 14 // how many records a page has at the most
	pageSize      = 1 << 20 // about how many bytes of records a page has at the most
)

// Read implements [hub.Log]. A page has at most max records, and about 1 MiB.
func (l *Log) Read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
	b, err := l.read(ctx, topics, after, upTo, limit)
	if err != nil {
		return hub.Batch{}, fmt.Errorf("boltlog: read: %w", err)
	}
	return b, nil
}

func (l *Log) read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (b hub.Batch, err error) {
	if after.Epoch != upTo.Epoch {
		return b, hub.ErrEpoch
	}
	err = l.view(ctx, func(tx *bbolt.Tx, s *state) error {
		if after.Epoch != s.Epoch {
			return hub.ErrEpoch
		}
		if s.lacks(after.Offset) {
			return &hub.TruncatedError{First: s.First}
		}
		b.UpTo = after.Offset
		p := page{tx: tx, upTo: max(after.Offset, min(upTo.Offset, s.Last)), limit: max(1, min(limit, mostRecords))}
		if len(topics) == 0 {
			p.all(&b, nil, math.MaxInt)
		} else {
			p.of(&b, topics, s.Indexed)
		}
		return nil
	})
	return b, err
}

// view calls f in a transaction that reads.
func (l *Log) view(ctx context.Context, f func(tx *bbolt.Tx, s *state) error) error {
	if err := l.check(ctx); err != nil {
		return err
	}
	newest := l.newest.Load()
	err := guard(l.path, func() error {
		return l.db.View(func(tx *bbolt.Tx) error {
			s, ok := stateOf(tx)
			switch {
			case !ok:
				return &CorruptError{l.path, "its state cannot be decoded"}
			case s.Epoch != newest.Epoch || s.Last < newest.Last:
				return &MovedError{l.path} // an older file was written over it
			}
			return f(tx, &s)
		})
	})
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed // meanwhile
	}
	return err
}

// Follow implements [hub.Log]. It reads new records as soon as their transaction is
// committed. It also returns an error that matches [ErrClosed] after Close. The epoch does
// not change while the Log is open.
func (l *Log) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	told := false // that there are no newer ones
	for {
		changed := l.change()
		b, err := l.read(ctx, nil, after, hub.Position{Epoch: after.Epoch, Offset: none}, followRecords)
		if err != nil {
			return fmt.Errorf("boltlog: follow: %w", err)
		}
		if len(b.Records) > 0 || b.UpTo > after.Offset || !told {
			told = len(b.Records) == 0 || told
			if err := apply(b); err != nil {
				return err
			}
			after.Offset = max(after.Offset, b.UpTo)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("boltlog: follow: %w", ctx.Err())
		}
	}
}

const none = 1<<64 - 1

// Find implements [hub.Finder].
func (l *Log) Find(ctx context.Context, topic, id string) (pos hub.Position, ok bool, err error) {
	err = l.view(ctx, func(tx *bbolt.Tx, s *state) error {
		for _, kind := range [...]byte{hasID, hasKey} {
			sum := hashIn(kind, topic, id)
			var offset uint64
			eachUnindexed(tx.Bucket(recordsBucket), s, func(at uint64, h *head, _ bool) {
				if h.has(sum) {
					offset = at
				}
			})
			if offset == 0 {
				var err error
				if offset, err = l.lookUp(tx, sum); err != nil {
					return err
				}
			}
			if offset == 0 {
				continue
			}
			at := keyOf(offset)
			rec := decode(offset, tx.Bucket(recordsBucket).Get(at[:]))
			if rec.Kind == hub.EventRecord && rec.Event.ID == id { // a key need not be an id
				pos, ok = hub.Position{Epoch: s.Epoch, Offset: offset}, true
				return nil
			}
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("boltlog: find: %w", err)
	}
	return pos, ok, err
}

// lookUp returns the offset of the record that has the hash as that of its key or own id
// according to the bucket keys, or 0 if there is none.
func (l *Log) lookUp(tx *bbolt.Tx, sum hash) (uint64, error) {
	v := tx.Bucket(keysBucket).Get(sum[:])
	if v == nil {
		return 0, nil
	}
	offset := offsetIn(v)
	value := tx.Bucket(recordsBucket).Get(v)
	if value == nil {
		return 0, &CorruptError{l.path, fmt.Sprintf("a key belongs to offset %d, where there is no record", offset)}
	}
	if h, _, ok := open(offset, value); ok && !h.has(sum) {
		return 0, &CorruptError{l.path, fmt.Sprintf("a key belongs to offset %d, where there is another record", offset)}
	}
	return offset, nil
}
