package redislog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chi-sse/sse/hub"
)

const (
	pageBytes = 4 << 20 // about how many bytes a request for entries returns
	maxScan   = 8       // how many full pages Read looks through at the most
	minScan   = 512     // how many entries such a page has, if it is of some topics
)

// field is the name of what an entry has.
const field = "e"

// Read implements [hub.Log]. A stream has no index of topics, so it reads all, and leaves out what
// is not asked for. It stops after some thousand records, even if it has found none.
func (l *Log) Read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
	b, err := l.read(ctx, topics, after, upTo, max(limit, 1))
	if err != nil {
		return hub.Batch{}, fmt.Errorf("redislog: read: %w", err)
	}
	return b, nil
}

func (l *Log) read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
	if after.Epoch != upTo.Epoch {
		return hub.Batch{}, epochError(upTo, after.Epoch)
	}
	base, size, ok := l.baseOf(after.Epoch)
	if !ok || upTo.Offset <= after.Offset {
		v, err := l.look(ctx)
		if err == nil {
			err = v.check(after)
		}
		if err != nil || upTo.Offset <= after.Offset {
			return hub.Batch{UpTo: after.Offset}, err
		}
		base, size = v.base, v.size
	}
	r := &reading{l: l, key: l.keys[keyEvents], base: base, size: size}
	most := limit
	switch {
	case len(topics) == 1 && topics[0] == "":
		r.key, topics = l.keys[keyOrders], nil
	case len(topics) > 0:
		most = max(limit, minScan)
	}
	b := hub.Batch{UpTo: after.Offset}
	for range maxScan {
		at := hub.Position{Epoch: after.Epoch, Offset: b.UpTo}
		var page page
		if err := l.node.do(ctx, func(ctx context.Context, c *redis.Client) (err error) {
			page, err = r.page(ctx, c, at, upTo.Offset, most)
			return err
		}); err != nil {
			return b, err
		}
		b.Hole = b.Hole || page.Hole
		b.UpTo = page.UpTo
		for _, rec := range page.Records {
			if len(topics) > 0 && !slices.Contains(topics, rec.Topic) && (rec.Topic != "" || rec.Kind != hub.InvalidRecord) {
				continue
			}
			if b.Records = append(b.Records, rec); len(b.Records) == limit {
				if rec.Offset != page.Records[len(page.Records)-1].Offset {
					b.UpTo = rec.Offset
				}
				return b, nil
			}
		}
		if !page.full {
			break
		}
	}
	return b, nil
}

// baseOf returns the base of the epoch, and about how many bytes a record has, if the epoch is that
// of the last look.
func (l *Log) baseOf(epoch uint64) (base, size uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.base, l.size, epoch == l.epoch
}

// reading reads pages of a stream.
type reading struct {
	l    *Log
	key  string // of the stream
	base uint64 // of the epoch
	size uint64 // about how many bytes a record has
}

// page is a stretch of the log.
type page struct {
	hub.Batch
	view view
	full bool // there may be more before the offset up to which it was asked for
}

// page reads what comes after a position, up to an offset, but no more than most records.
func (r *reading) page(ctx context.Context, c *redis.Client, after hub.Position, upTo uint64, most int) (p page, err error) {
	count := int64(max(1, min(uint64(most), pageBytes/max(r.size, 1))))
	var entries *redis.Cmd
	if err := r.l.settled(ctx, c, func() (view, error) {
		var looked *redis.Cmd
		_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			looked = look.EvalShaRO(ctx, p, r.l.keys[:2])
			entries = p.Do(ctx, "XRANGE", r.key, "("+idOf(after.Offset, r.base).String(), idOf(upTo, r.base).String(), "COUNT", count)
			return nil
		})
		if looked.Err() == nil && err != nil && entries.Err() == nil {
			return view{}, err
		}
		p.view, err = parseView(looked)
		return p.view, err
	}); err != nil {
		return p, err
	}
	if err := p.view.check(after); err != nil {
		return p, err
	}
	list, err := entries.Slice()
	if err != nil && !errors.Is(err, redis.Nil) {
		return p, err
	}
	if p.Batch, err = r.batch(list, after.Offset); err != nil {
		return p, err
	}
	p.full = len(list) == int(count)
	if !p.full {
		p.UpTo = max(p.UpTo, min(upTo, p.view.last))
	}
	p.Hole = p.view.holed(after.Offset)
	return p, nil
}

// batch returns the records of a list of entries of the stream.
func (r *reading) batch(list []any, after uint64) (hub.Batch, error) {
	b := hub.Batch{UpTo: after}
	if len(list) == 0 {
		return b, nil
	}
	b.Records = make([]hub.Record, 0, len(list))
	size := 0
	for _, one := range list {
		entry, _ := one.([]any)
		if len(entry) != 2 {
			return b, fmt.Errorf("the server's answer has an entry with %d parts", len(entry))
		}
		text, _ := entry[0].(string)
		at, ok := parseID(text)
		offset, inside := offsetOf(at, r.base)
		if !ok || !inside || offset <= b.UpTo {
			return b, idError(text)
		}
		b.UpTo = offset
		data, ok := form(entry[1])
		size += len(data)
		if !ok {
			r.l.cfg.Logger.Warn("redislog: an entry of the stream is not a hub's; it is left out", "log", r.l.cfg.Name, "id", text)
			continue
		}
		b.Records = append(b.Records, hub.Record{})
		rec := &b.Records[len(b.Records)-1]
		_ = rec.UnmarshalBinary([]byte(data)) // the Kind says so
		rec.Offset, rec.Time = offset, time.UnixMilli(int64(at.ms))
	}
	r.size = max(r.l.noteSize(uint64(size/len(list))), 1)
	return b, nil
}

// form returns what a hub has written into an entry.
func form(fields any) (string, bool) {
	if list, ok := fields.([]any); ok && len(list) == 2 && list[0] == field {
		text, ok := list[1].(string)
		return text, ok
	}
	return "", false
}
