package pglog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chi-sse/sse/hub"
)

const (
	maxRecords  = 1000      // how many records an Append may have, and a statement
	maxBytes    = 16 << 20  // how many bytes a statement has, unless it has one Append
	maxAppend   = 256 << 20 // how many bytes an Append may have
	numberBatch = 20_000    // about how many records are numbered at once
)

// Append implements [hub.Log]. The records are appended in a transaction of their own, after all
// that was committed before. Calls at the same time share a transaction. An Append has at most
// 1,000 records. A key is remembered as long as the log has its record.
//
// While the server is out of reach, Append tries again until ctx ends; set a deadline. It returns a
// [*LimitError] if the records, a record, its topic or its key is too large, an *event.FieldError
// for an event with ResetID, an error that matches [hub.ErrReadOnly] if Config.ReadOnly is set or
// the user may not append, or an error of the server.
func (l *Log) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	positions, err := l.append(ctx, records)
	if err != nil {
		return nil, fmt.Errorf("pglog: append: %w", withContext(ctx, err))
	}
	return positions, nil
}

func (l *Log) append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case l.cfg.ReadOnly:
		return nil, errReadOnly
	case len(records) > maxRecords:
		return nil, &LimitError{"records of an append", len(records), maxRecords}
	case len(records) == 0:
		return nil, nil
	}
	a := &appending{items: make([]item, len(records)), done: make(chan struct{}), gone: ctx.Done()}
	for i := range records {
		if records[i].Kind >= hub.InvalidRecord {
			return nil, fmt.Errorf("record %d has the kind %d; the kind must be EventRecord or ControlRecord", i, records[i].Kind)
		}
		if records[i].Event.ResetID {
			return nil, errResetID
		}
		var err error
		if a.items[i], err = newItem(&records[i]); err != nil {
			return nil, err
		}
		a.size += len(a.items[i].record)
	}
	if a.size > maxAppend {
		return nil, &LimitError{"bytes of an append", a.size, maxAppend}
	}
	l.appends.add(a)
	select {
	case <-a.done:
		return a.positions, a.err
	case <-ctx.Done():
	}
	if waiting, err := l.appends.remove(a); waiting {
		return nil, errors.Join(ctx.Err(), err)
	}
	select {
	case <-a.done: // it was done at the same time
		return a.positions, a.err
	default:
		return nil, fmt.Errorf("%w: %w", hub.ErrUnknown, ctx.Err())
	}
}

// appending is a call of Append.
type appending struct {
	items     []item
	size      int
	gone      <-chan struct{} // closed when nobody waits for it
	done      chan struct{}   // closed when positions and err are set
	positions []hub.Position
	err       error
}

// appends are the calls of Append that wait. A goroutine appends those that have come meanwhile, as
// long as there are any.
type appends struct {
	l *Log

	mu      sync.Mutex
	waiting []*appending
	running bool
	err     error // why they still wait, or nil
}

func (q *appends) add(a *appending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, a)
	if !q.running {
		q.running = true
		go q.run()
	}
}

// remove removes a, and reports whether it has waited still, and why.
func (q *appends) remove(a *appending) (waiting bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, a)
	if i < 0 {
		return false, nil
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true, q.err
}

// isIdle notes why calls still wait, and reports whether there are none; then run must end.
func (q *appends) isIdle(err error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	q.running = len(q.waiting) > 0
	return !q.running
}

// take takes calls for a statement.
func (q *appends) take() []*appending {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, records, size := 0, 0, 0
	for _, a := range q.waiting {
		records += len(a.items)
		size += a.size
		if n > 0 && (records > maxRecords || size > maxBytes) {
			break
		}
		n++
	}
	some := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return some
}

// putBack has the calls wait again, except for those that nobody waits for.
func (q *appends) putBack(some []*appending) {
	some = slices.DeleteFunc(some, func(a *appending) bool {
		select {
		case <-a.gone:
			return true
		default:
			return false
		}
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.Insert(q.waiting, 0, some...)
}

// The waits between two attempts to append.
const (
	minWait = 5 * time.Millisecond
	maxWait = 250 * time.Millisecond
)

// run appends what waits, and tries again while nothing can be appended.
func (q *appends) run() {
	wait := minWait
	for err := error(nil); !q.isIdle(err); {
		if err = q.step(); err == nil {
			wait = minWait
			continue
		}
		time.Sleep(wait)
		wait = min(2*wait, maxWait)
	}
}

// step appends what the calls append that wait, in one transaction. It returns an error if they go
// on waiting.
func (q *appends) step() error {
	conn, err := q.l.acquire(context.Background())
	if err != nil && q.l.closed.Load() {
		finish(q.take(), nil, err)
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Release()
	some := q.take()
	if len(some) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // end it when nobody waits any longer
		for _, a := range some {
			select {
			case <-a.gone:
			case <-ctx.Done():
				return
			}
		}
		cancel()
	}()
	positions, err := q.l.appendAll(ctx, conn, some)
	if err != nil && isTemporary(err) {
		q.putBack(some)
		return err
	}
	finish(some, positions, unknown(err))
	return nil
}

// finish says how the calls have ended.
func finish(some []*appending, positions []hub.Position, err error) {
	for _, a := range some {
		if a.err = err; err == nil {
			a.positions = positions[:len(a.items):len(a.items)]
			positions = positions[len(a.items):]
		}
		close(a.done)
	}
}

// appendAll appends the records of the calls, and returns their positions.
func (l *Log) appendAll(ctx context.Context, db queryer, some []*appending) ([]hub.Position, error) {
	var topics, keys, records [][]byte
	for _, a := range some {
		for _, it := range a.items {
			topics, keys, records = append(topics, it.topic), append(keys, it.key), append(records, it.record)
		}
	}
	var epoch int64
	var numbers []int64
	for numbers == nil { // that is so if much was committed before
		if err := db.QueryRow(ctx, l.queries.append, topics, keys, records, numberBatch).Scan(&epoch, &numbers); err != nil {
			return nil, err
		}
	}
	if len(numbers) != len(records) {
		return nil, fmt.Errorf("the server has returned %d numbers for %d records", len(numbers), len(records))
	}
	positions := make([]hub.Position, len(numbers))
	for i, n := range numbers {
		positions[i] = hub.Position{Epoch: uint64(epoch), Offset: uint64(n)}
	}
	l.ring(func(f *follow) chan struct{} { return f.numbered })
	return positions, nil
}

// acquire returns a connection of the pool, or an error after which nothing was changed.
func (l *Log) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return l.pool.Acquire(ctx)
}

// isTemporary reports whether err is one after which nothing was changed, and another attempt may
// succeed.
func isTemporary(err error) bool {
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return connecting || pgconn.SafeToRetry(err) || isCode(err, codeReadOnly, codeStarting, codeConnections, codeSerialization, codeDeadlock)
}

// unknown returns err, which matches hub.ErrUnknown if the transaction may have been committed all
// the same.
func unknown(err error) error {
	if err == nil || isError(err) {
		return refused(err)
	}
	return fmt.Errorf("%w: %w", hub.ErrUnknown, err)
}
