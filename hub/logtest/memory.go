package logtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/chi-sse/sse/hub"
)

// Memory is a [hub.Log] in memory, for tests: several hubs of one process can share it, and
// its trouble can be chosen.
type Memory struct {
	mu      sync.Mutex
	epoch   uint64
	records []hub.Record // in order
	dropped uint64       // offset of the last record that was dropped, or 0
	next    uint64       // offset of the next record
	step    uint64       // between two offsets
	keys    map[[2]string]uint64
	trouble error         // what every call returns, or nil
	silent  bool          // the next Append returns ErrUnknown
	changed chan struct{} // closed when something changes
	reads   int
	keep    int
}

// NewMemory returns an empty log, whose offsets rise by step, which must be positive.
func NewMemory(step uint64) *Memory {
	return &Memory{epoch: 100_000_000_000 + rand.Uint64N(1e12), next: step, step: step, keys: make(map[[2]string]uint64), changed: make(chan struct{})}
}

// Reads returns how often Read was called.
func (l *Memory) Reads() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reads
}

// Trouble makes every call fail with err until Trouble is called with nil.
func (l *Memory) Trouble(err error) {
	l.change(func() { l.trouble = err })
}

// Truncate drops the records before the offset.
func (l *Memory) Truncate(first uint64) {
	l.change(func() {
		n := 0
		for n < len(l.records) && l.records[n].Offset < first {
			n++
		}
		l.drop(n)
	})
}

// drop drops the oldest n records.
func (l *Memory) drop(n int) {
	if n > 0 {
		l.dropped = l.records[n-1].Offset
		l.records = slices.Delete(l.records, 0, n)
	}
}

// first returns the offset of the first record, or just after the last one if there is none.
func (l *Memory) first() uint64 {
	if len(l.records) > 0 {
		return l.records[0].Offset
	}
	return l.last() + 1
}

func (l *Memory) last() uint64 { return l.next - l.step }

// LoseAnswer makes the next Append append its records and return an error that matches
// [hub.ErrUnknown].
func (l *Memory) LoseAnswer() {
	l.change(func() { l.silent = true })
}

// Keep makes the log drop all but the newest n events. Zero keeps all.
func (l *Memory) Keep(n int) {
	l.change(func() { l.keep = n })
}

// Renew drops all records and begins another epoch.
func (l *Memory) Renew() {
	l.change(func() {
		l.epoch++
		l.records, l.dropped, l.next, l.keys = nil, 0, l.step, make(map[[2]string]uint64)
	})
}

// Insert appends a record as it is, also an invalid one, and returns its position.
func (l *Memory) Insert(rec hub.Record) hub.Position {
	var pos hub.Position
	l.change(func() { pos = l.append(rec) })
	return pos
}

// Damage makes the record at the offset one that cannot be decoded, and has no topic.
func (l *Memory) Damage(offset uint64) {
	l.change(func() {
		for i, r := range l.records {
			if r.Offset == offset {
				l.records[i] = hub.Record{Kind: hub.InvalidRecord, Offset: offset, Time: r.Time}
			}
		}
	})
}

func (l *Memory) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Memory) append(rec hub.Record) hub.Position {
	rec.Offset, rec.Time = l.next, time.Now()
	l.records = append(l.records, rec)
	l.next += l.step
	if l.keep > 0 {
		l.drop(max(0, len(l.records)-l.keep))
	}
	if rec.Key != "" {
		l.keys[[2]string{rec.Topic, rec.Key}] = rec.Offset
	}
	return hub.Position{Epoch: l.epoch, Offset: rec.Offset}
}

// Bounds implements [hub.Log].
func (l *Memory) Bounds(ctx context.Context) (hub.Bounds, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.check(ctx); err != nil {
		return hub.Bounds{}, err
	}
	return hub.Bounds{Epoch: l.epoch, First: l.first(), Last: l.last()}, nil
}

func (l *Memory) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.trouble
}

// Append implements [hub.Log].
func (l *Memory) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	var positions []hub.Position
	var err error
	l.change(func() {
		if err = l.check(ctx); err != nil {
			return
		}
		for _, rec := range records {
			if offset, ok := l.keys[[2]string{rec.Topic, rec.Key}]; ok && rec.Key != "" {
				positions = append(positions, hub.Position{Epoch: l.epoch, Offset: offset})
				continue
			}
			positions = append(positions, l.append(rec))
		}
		if l.silent {
			l.silent, positions, err = false, nil, fmt.Errorf("the answer is lost: %w", hub.ErrUnknown)
		}
	})
	return positions, err
}

// Follow implements [hub.Log].
func (l *Memory) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	first := true
	for {
		l.mu.Lock()
		changed := l.changed
		b, err := l.read(ctx, nil, after, none, 1000)
		l.mu.Unlock()
		if err != nil {
			return err
		}
		if len(b.Records) > 0 || first {
			first = len(b.Records) > 0 // says so when there are no newer ones
			if err := apply(b); err != nil {
				return err
			}
			after.Offset = max(after.Offset, b.UpTo)
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Find implements [hub.Finder].
func (l *Memory) Find(ctx context.Context, topic, id string) (hub.Position, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.check(ctx); err != nil {
		return hub.Position{}, false, err
	}
	for _, r := range slices.Backward(l.records) {
		if r.Topic == topic && r.Event.ID == id {
			return hub.Position{Epoch: l.epoch, Offset: r.Offset}, true, nil
		}
	}
	return hub.Position{}, false, nil
}

const none = 1<<64 - 1

// Read implements [hub.Log].
func (l *Memory) Read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if upTo.Epoch != after.Epoch {
		return hub.Batch{}, hub.ErrEpoch
	}
	return l.read(ctx, topics, after, upTo.Offset, limit)
}

func (l *Memory) read(ctx context.Context, topics []string, after hub.Position, upTo uint64, limit int) (hub.Batch, error) {
	if err := l.check(ctx); err != nil {
		return hub.Batch{}, err
	}
	if after.Epoch != l.epoch {
		return hub.Batch{}, hub.ErrEpoch
	}
	if after.Offset < l.dropped {
		return hub.Batch{}, &hub.TruncatedError{First: l.first()}
	}
	var b hub.Batch
	i, _ := slices.BinarySearchFunc(l.records, after.Offset+1, func(r hub.Record, offset uint64) int {
		if r.Offset < offset {
			return -1
		}
		return 1
	})
	b.UpTo = max(after.Offset, min(upTo, l.last()))
	for ; i < len(l.records) && l.records[i].Offset <= upTo; i++ {
		rec := l.records[i]
		everywhere := rec.Kind == hub.InvalidRecord && rec.Topic == ""
		if len(topics) > 0 && !everywhere && !slices.Contains(topics, rec.Topic) {
			continue
		}
		if len(b.Records) == limit {
			b.UpTo = b.Records[limit-1].Offset
			break
		}
		b.Records = append(b.Records, rec)
	}
	return b, nil
}
