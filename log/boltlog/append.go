package boltlog

import (
	"context"
	"fmt"
	"slices"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// request is an Append that waits for the writer.
type request struct {
	items []item
	size  int
	taken bool // the writer has it; Log.mu guards it

	done      chan struct{} // closed when the rest is set
	positions []hub.Position
	err       error
}

// Append implements [hub.Log]. Appends that run at the same time share one transaction, so
// many cost about as much time as one.
//
// If ctx ends while the Append waits for its transaction, nothing is appended; if it ends
// during the transaction, the error also matches [hub.ErrUnknown]. Append returns an
// *event.TooLargeError if the records are larger than Config.MaxBytes, an *event.FieldError
// for an event with ResetID, a [*FullError], a [*MovedError], a [*CorruptError], or an error
// that matches [ErrClosed].
func (l *Log) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	positions, err := l.append(ctx, records)
	if err != nil {
		return nil, fmt.Errorf("boltlog: append: %w", err)
	}
	return positions, nil
}

func (l *Log) append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	if err := l.check(ctx); err != nil {
		return nil, err
	}
	r, err := l.newRequest(records)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	l.queue = append(l.queue, r)
	l.mu.Unlock()
	l.nudge()
	select {
	case <-r.done:
		return r.positions, r.err
	case <-ctx.Done():
	}
	if l.withdraw(r) {
		return nil, ctx.Err()
	}
	select {
	case <-r.done:
		return r.positions, r.err
	default:
		return nil, fmt.Errorf("%w: %w", hub.ErrUnknown, ctx.Err())
	}
}

// newRequest encodes the records.
func (l *Log) newRequest(records []hub.Record) (*request, error) {
	r := &request{items: make([]item, len(records)), done: make(chan struct{})}
	for i := range records {
		if records[i].Kind >= hub.InvalidRecord {
			return nil, fmt.Errorf("record %d has the kind %d; the kind must be EventRecord or ControlRecord", i, records[i].Kind)
		}
		it, err := encode(&records[i])
		if err != nil {
			return nil, err
		}
		r.items[i] = it
		r.size += int(recordSize(it.value))
	}
	if limit := l.largest(); int64(r.size) > limit {
		return nil, &event.TooLargeError{What: "append", Limit: int(limit)}
	}
	return r, nil
}

// largest returns the size of the largest Append. bbolt holds values below 2 GiB.
func (l *Log) largest() int64 { return min(l.cfg.MaxBytes, 1<<30) }

// withdraw takes r out of the queue. It returns false if the writer has it.
func (l *Log) withdraw(r *request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.taken {
		return false
	}
	l.queue = slices.DeleteFunc(l.queue, func(other *request) bool { return other == r })
	return true
}

// A group is what shares a transaction. Larger ones would not be faster for each record.
const (
	groupRecords = 4096
	groupSize    = 8 << 20 // in bytes
)

// takeGroup takes the requests for the next transaction out of the queue.
func (l *Log) takeGroup() (group []*request, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, records, size := 0, 0, 0
	for ; n < len(l.queue); n++ {
		r := l.queue[n]
		if records += len(r.items); n > 0 && records > groupRecords {
			break
		}
		if size += r.size; n > 0 && size > groupSize {
			break
		}
		r.taken = true
	}
	group = slices.Clone(l.queue[:n])
	l.queue = slices.Delete(l.queue, 0, n)
	return group, l.closed
}

// queued returns the number of requests that wait.
func (l *Log) queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}
