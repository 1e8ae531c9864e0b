package pglog

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/chi-sse/sse/hub"
)

const (
	followBatch = 512                    // how many records apply gets at once at the most
	pollEvery   = 100 * time.Millisecond // how often it is looked if no notification comes
	pollPooled  = 20 * time.Millisecond  // and if none can come
)

// Follow implements [hub.Log]. While it runs, it also numbers what was published, deletes what is
// too old, and has a connection for notifications. Any trouble but with that connection ends it,
// so that the hub knows.
func (l *Log) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	f := &follow{
		l: l, at: after, apply: apply, poll: pollEvery,
		published: make(chan struct{}, 1), numbered: make(chan struct{}, 1), failed: make(chan error, 1),
	}
	if l.listen == nil {
		f.poll = pollPooled
	}
	err := f.run(ctx)
	if f.applied != nil {
		return f.applied
	}
	if isError(err) && ctx.Err() == nil { // perhaps the tables were made anew
		if b, boundsErr := l.Bounds(ctx); boundsErr == nil && b.Epoch != after.Epoch {
			err = epochError(after, b.Epoch)
		}
	}
	return fmt.Errorf("pglog: follow: %w", withContext(ctx, err))
}

// follow is a call of Follow.
type follow struct {
	l       *Log
	at      hub.Position // everything up to here is applied
	apply   func(hub.Batch) error
	applied error // what apply has returned
	poll    time.Duration

	published chan struct{} // has a value if there may be something to number
	numbered  chan struct{} // has a value if there may be something to read
	failed    chan error    // has the error of a number or retain
}

// ring notifies all follows of l, through one of their channels.
func (l *Log) ring(of func(f *follow) chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f := range l.follows {
		select {
		case of(f) <- struct{}{}:
		default:
		}
	}
}

func (f *follow) run(ctx context.Context) error {
	if err := f.l.checkMark(ctx, f.at); err != nil {
		return err
	}
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	f.l.mu.Lock()
	f.l.follows[f] = true
	f.l.mu.Unlock()
	defer func() {
		f.l.mu.Lock()
		delete(f.l.follows, f)
		f.l.mu.Unlock()
	}()
	if f.l.listen != nil {
		all.Go(func() { f.listen(ctx) })
	}
	if !f.l.cfg.ReadOnly {
		all.Go(func() { f.number(ctx) })
		all.Go(func() { f.retain(ctx) })
	}
	return f.read(ctx)
}

// read applies what there is, and waits for more.
func (f *follow) read(ctx context.Context) error {
	timer := time.NewTimer(f.poll)
	defer timer.Stop()
	for idle := false; ; {
		p, err := f.l.page(ctx, nil, f.at, math.MaxInt64, followBatch)
		if err != nil {
			return err
		}
		last := p.of().Last
		if last < f.at.Offset {
			return f.l.rewound(ctx, f.at.Epoch, f.at.Offset, last)
		}
		if len(p.batch.Records) > 0 {
			if f.applied = f.apply(p.batch); f.applied != nil {
				return f.applied
			}
			f.l.saw(p.end)
			f.at.Offset = p.batch.UpTo
		}
		if f.at.Offset < last {
			continue
		}
		if !idle {
			idle = true
			if f.applied = f.apply(hub.Batch{UpTo: f.at.Offset}); f.applied != nil {
				return f.applied
			}
		}
		timer.Reset(f.poll)
		select {
		case <-f.numbered:
		case <-timer.C:
		case err := <-f.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// How long a hub waits until it looks again whether something is to be numbered. It waits longer
// each time that there is nothing, until it is notified.
const (
	minNumberWait = time.Millisecond
	maxNumberWait = pollEvery
)

// number numbers what transactions have published, as long as ctx is not done.
func (f *follow) number(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := minNumberWait
	for {
		began := time.Now()
		found, err := f.numberOnce(ctx)
		if err != nil {
			f.fail(err)
			return
		}
		if wait = min(wait*3/2, maxNumberWait, f.poll); found { // not more than half of the time, so that others can go on
			wait = min(max(minNumberWait, time.Since(began)), 5*minNumberWait)
		}
		timer.Reset(wait)
		select {
		case <-f.published:
			wait = minNumberWait
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// numberOnce numbers what there is, unless somebody else does, and reports whether there was
// something.
func (f *follow) numberOnce(ctx context.Context) (found bool, err error) {
	for more := true; more; {
		var free bool
		var count int64
		err := f.l.ask(ctx, func(ctx context.Context) error {
			return f.l.pool.QueryRow(ctx, f.l.queries.number, numberBatch).Scan(&free, &count, &more)
		})
		if err != nil {
			return found, err
		}
		if count > 0 {
			found = true
			f.l.ring(func(f *follow) chan struct{} { return f.numbered })
		}
	}
	return found, nil
}

// fail has read return err.
func (f *follow) fail(err error) {
	select {
	case f.failed <- err:
	default: // there is an error already
	}
}

const (
	retainEvery = 10 * time.Second
	retainBatch = 1000
)

// retain deletes what is too old, as long as ctx is not done. It is not more than half of the
// time at it, so that others can go on.
func (f *follow) retain(ctx context.Context) {
	age, keep := &[]float64{f.l.cfg.MaxAge.Seconds()}[0], &f.l.cfg.MaxRecords
	if *age < 0 {
		age = nil
	}
	if *keep == 0 {
		keep = nil
	}
	for wait := time.Duration(0); ; {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		began := time.Now()
		n, err := f.l.retainOnce(ctx, age, keep)
		switch {
		case err != nil:
			f.fail(err)
			return
		case n == nil: // the log is being changed
			wait = minWait
		case *n == 0:
			wait = retainEvery
		default:
			wait = time.Since(began)
		}
	}
}

func (l *Log) retainOnce(ctx context.Context, age *float64, keep *int64) (n *int64, err error) {
	err = l.ask(ctx, func(ctx context.Context) error {
		return l.pool.QueryRow(ctx, l.queries.retain, age, keep, retainBatch).Scan(&n)
	})
	return n, err
}
