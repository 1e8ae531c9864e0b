package boltlog

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// One goroutine, the writer, makes all transactions that write. While it waits for the disk,
// requests queue up, and the next transaction has them all: a group.

// blockSize is how many offsets are reserved at once. After a crash as many may be skipped. Each
// block costs a sync of the mark file.
const blockSize = 1 << 15

// write is the writer. It returns after Close.
func (l *Log) write() {
	defer close(l.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-l.wake:
		case <-timer.C:
		}
		for {
			l.gather()
			group, closed := l.takeGroup()
			if closed {
				l.finish(group)
				return
			}
			if len(group) > 0 {
				l.appendGroup(group)
			} else if err := l.dropSome(); err != nil {
				l.cfg.Logger.Error("boltlog: old events cannot be dropped", "path", l.path, "error", err)
				break
			}
			if l.queued() == 0 && !l.over(&l.state, l.clock.tell()) {
				break
			}
		}
		timer.Reset(l.untilDrop())
	}
}

// gather lets the publishers that the last group has woken append again, so that the next
// group has them all and not only the fastest.
func (l *Log) gather() {
	for n := -1; n != l.queued(); {
		n = l.queued()
		runtime.Gosched()
	}
}

// finish ends the writer: requests fail, and both files are closed.
func (l *Log) finish(group []*request) {
	for len(group) > 0 {
		for _, r := range group {
			r.err = ErrClosed
			close(r.done)
		}
		group, _ = l.takeGroup()
	}
	err := l.broken
	if err == nil {
		mark := newMark()
		err = l.update(func(w *writing) error {
			w.state.Reserved = w.state.Last // none is skipped when the file is opened next
			w.state.OldMark, w.state.Mark = w.state.Mark, mark
			return nil
		})
		if err == nil {
			l.mark.mark = mark
			err = l.useReserved()
		}
	}
	if err = errors.Join(err, l.closeFiles()); err != nil {
		l.closeErr = fmt.Errorf("boltlog: close: %w", asFull(l.path, err))
	}
	l.announce()
}

// appendGroup appends what the group requests, and tells the requests how it went.
func (l *Log) appendGroup(group []*request) {
	count := uint64(0)
	for _, r := range group {
		count += uint64(len(r.items))
	}
	err := l.reserve(count)
	if err == nil {
		now := l.clock.tell()
		err = l.update(func(w *writing) error {
			for _, r := range group {
				if err := w.append(r, now); err != nil {
					return err
				}
			}
			if w.state.Last == l.state.Last {
				return errNothing // all have been appended earlier
			}
			if w.state.Reserved < w.state.Last+blockSize/2 {
				w.state.Reserved = w.state.Last + blockSize // for later groups
			}
			if w.state.Last-w.state.Indexed >= uint64(l.cfg.indexEvery) {
				if err := w.flush(); err != nil {
					return err
				}
			}
			return w.drop(now, max(2*int(count), dropLeast))
		})
	}
	if errors.Is(err, errNothing) {
		err = nil
	}
	for _, r := range group {
		if err != nil {
			r.positions, r.err = nil, err
		}
		close(r.done)
	}
}

// errNothing ends a transaction that has nothing to commit.
var errNothing = errors.New("nothing to commit")

// reserve makes the next count offsets usable.
//
// An offset is used only if an earlier transaction, which is durable, has reserved it. So even
// if the last transaction gets lost, because a disk did not keep what it had said to be
// synced, or the newer of bbolt's two meta pages is damaged and bbolt goes back to the older
// one, the file says of each offset that it may have been used, and it is not used again.
func (l *Log) reserve(count uint64) error {
	last := max(l.state.Last, l.next-1) + count
	if last > l.state.Reserved {
		err := l.update(func(w *writing) error {
			w.state.Reserved = last + blockSize
			return nil
		})
		if err != nil {
			return err
		}
	}
	if last > l.reserved {
		return l.useReserved()
	}
	return nil
}

// useReserved makes what the last commit has reserved usable: the mark file must say it too.
func (l *Log) useReserved() error {
	l.mark.reserved, l.mark.last = l.state.Reserved, l.state.Last
	if err := l.mark.write(l.marks, true); err != nil {
		return err
	}
	l.reserved = l.state.Reserved
	return nil
}
