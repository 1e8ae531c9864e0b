package boltlog

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse/hub"
)

// Log is a [hub.Log] in a file. [Open] opens one. It is also a [hub.Finder].
type Log struct {
	path   string
	cfg    Config
	db     *bbolt.DB
	bolt   *os.File
	file   os.FileInfo // of bolt
	marks  *os.File    // the mark file
	newest atomic.Pointer[state]

	// The writer's; see write.go.
	clock    *clock
	mark     mark
	state    state           // as of the last commit
	next     uint64          // lowest offset that the next record may have
	reserved uint64          // highest offset that may be used now
	recent   map[hash]uint64 // offsets of the records that are not in the bucket keys
	burst    bool            // old records are being dropped
	broken   error           // why nothing can be committed any longer
	stuck    bool            // a panic has left bbolt's locks as they were
	done     chan struct{}
	closeErr error
	commit   func(*bbolt.Tx) error // (*bbolt.Tx).Commit; tests replace it

	mu      sync.Mutex
	queue   []*request
	closed  bool
	wake    chan struct{} // has room for one; tells the writer of news
	changed chan struct{} // closed when something was committed, or the Log is closed
}

var (
	_ hub.Log    = (*Log)(nil)
	_ hub.Finder = (*Log)(nil)
)

// Close closes the Log. Appends that wait fail with [ErrClosed], and so does every later call.
// Close returns an error if the file could not be closed in order; what was appended is in it
// nevertheless. Shut down the hubs of the Log first.
func (l *Log) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	l.nudge()
	<-l.done
	if !first {
		return nil
	}
	return l.closeErr
}

// Bounds implements [hub.Log].
func (l *Log) Bounds(ctx context.Context) (hub.Bounds, error) {
	if err := l.check(ctx); err != nil {
		return hub.Bounds{}, fmt.Errorf("boltlog: bounds: %w", err)
	}
	s := l.newest.Load()
	return hub.Bounds{Epoch: s.Epoch, First: s.First, Last: s.Last}, nil
}

// check returns the error of ctx, or ErrClosed.
func (l *Log) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	return nil
}

// nudge wakes the writer.
func (l *Log) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// announce tells the followers that there is news.
func (l *Log) announce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// change returns a channel that is closed with the next news.
func (l *Log) change() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// guard calls f, which calls bbolt. bbolt panics when it meets a damaged page, and such a page
// can make it read beyond its mapping. guard returns either as a CorruptError.
func guard(path string, f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if p := recover(); p != nil {
			err = &CorruptError{path, fmt.Sprint(p)}
		}
	}()
	return f()
}
