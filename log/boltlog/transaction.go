package boltlog

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse/hub"
)

// writing is a transaction that writes.
type writing struct {
	log                          *Log
	tx                           *bbolt.Tx
	states, records, index, keys *bbolt.Bucket
	state                        state

	keyed   map[hash]uint64 // what the transaction adds to Log.recent
	flushed bool            // it has emptied Log.recent instead
}

// begin sets w's buckets. It makes those that a new file lacks.
func (w *writing) begin() (err error) {
	for _, b := range [...]struct {
		name   []byte
		bucket **bbolt.Bucket
	}{{logBucket, &w.states}, {recordsBucket, &w.records}, {indexBucket, &w.index}, {keysBucket, &w.keys}} {
		if *b.bucket = w.tx.Bucket(b.name); *b.bucket != nil {
			continue
		}
		if *b.bucket, err = w.tx.CreateBucket(b.name); err != nil {
			return err
		}
	}
	w.records.FillPercent = 0.95 // offsets only rise
	w.index.FillPercent = 0.8    // likewise in each topic
	return nil
}

// update makes a transaction that f may write in, writes w.state, and commits. If its error
// matches hub.ErrUnknown, it may have been committed; after any other one it was not.
func (l *Log) update(f func(w *writing) error) error {
	if l.broken != nil {
		return l.broken
	}
	if info, err := os.Stat(l.path); err != nil || !os.SameFile(info, l.file) {
		return &MovedError{l.path}
	}
	w := &writing{log: l, state: l.state, keyed: make(map[hash]uint64)}
	id, changed, ended := 0, false, false
	err := guard(l.path, func() (err error) {
		if w.tx, err = l.db.Begin(true); err != nil {
			ended = true
			return err
		}
		id = w.tx.ID()
		if err = l.checkState(w.tx); err == nil {
			err = l.makeRoom(w.tx.Size())
		}
		if err == nil {
			err = w.begin()
		}
		if err == nil {
			err = f(w)
		}
		if err == nil {
			err = w.states.Put(stateKey, w.state.encode())
		}
		if err != nil {
			err = errors.Join(err, w.tx.Rollback())
		} else {
			changed = true
			err = l.commit(w.tx)
		}
		ended = true
		return err
	})
	switch {
	case err == nil:
		l.state = w.state
		if w.flushed {
			clear(l.recent)
		} else {
			maps.Copy(l.recent, w.keyed)
		}
		stored := w.state
		l.newest.Store(&stored)
		l.mark.last = stored.Last
		_ = l.mark.write(l.marks, false) // if it cannot be written, the next reservation fails
		l.announce()
		return nil
	case errors.Is(err, errReplaced):
		l.broken = &MovedError{l.path}
		return l.broken
	case errors.Is(err, errCut):
		l.broken = &CorruptError{l.path, "it has been cut while it was open"}
		return l.broken
	case !ended: // a panic
		l.stuck = true
		l.broken = err
		if !changed {
			return err
		}
		return fmt.Errorf("%w: %w", hub.ErrUnknown, err)
	case changed && l.committed(id):
		// bbolt has written its meta page and could not sync it. What is on the disk is
		// known when the file is opened next.
		l.broken = fmt.Errorf("an earlier transaction may be lost; close the log and open it again: %w", err)
		return fmt.Errorf("%w: %w", hub.ErrUnknown, err)
	}
	return asFull(l.path, err)
}

// errReplaced ends a transaction in a file that is no longer as the last one has left it.
var errReplaced = errors.New("the file has another state")

// checkState returns errReplaced if tx does not see what the last transaction has written.
func (l *Log) checkState(tx *bbolt.Tx) error {
	if l.newest.Load() == nil {
		return nil // this is the first one
	}
	if s, ok := stateOf(tx); !ok || s != l.state {
		return errReplaced
	}
	return nil
}

// errCut ends a transaction that would fill what is missing of the file with zeros.
var errCut = errors.New("the file is too short")

// makeRoom makes the file longer before bbolt needs it, if it uses most of it: used bytes.
//
// bbolt only sets the length. Then each commit gives the file blocks of the disk, and a sync
// also writes the file system's journal, which takes about as long as the rest. So the room is
// written here once, with zeros. If there is no room, bbolt finds out when it needs it.
func (l *Log) makeRoom(used int64) error {
	const least, most = 256 << 10, 16 << 20
	info, err := l.bolt.Stat()
	switch {
	case err != nil:
		return err
	case info.Size() < used:
		return errCut
	case info.Size()-used > min(info.Size(), most)/8:
		return nil
	}
	size := min(max(info.Size(), least), most)
	zeros := make([]byte, size)
	if _, err = l.bolt.WriteAt(zeros, info.Size()); err == nil {
		_ = l.bolt.Sync() // bbolt syncs again, and finds out about errors
	}
	return nil
}

// committed reports whether the transaction with the id, whose commit has failed, may have
// been committed nevertheless.
func (l *Log) committed(id int) bool {
	newest := id
	err := guard(l.path, func() error {
		return l.db.View(func(tx *bbolt.Tx) error {
			newest = tx.ID()
			return nil
		})
	})
	return err != nil || newest >= id
}

// append appends the items of r.
func (w *writing) append(r *request, now time.Time) error {
	s := &w.state
	r.positions = make([]hub.Position, len(r.items))
	for i := range r.items {
		it := &r.items[i]
		if it.flags&hasKey != 0 {
			offset, err := w.lookUp(it.key)
			if err != nil {
				return err
			}
			if offset != 0 {
				r.positions[i] = hub.Position{Epoch: s.Epoch, Offset: offset}
				continue
			}
		}
		offset := max(s.Last+1, w.log.next)
		if err := w.put(it, offset, uint64(now.UnixNano())); err != nil {
			return err
		}
		r.positions[i] = hub.Position{Epoch: s.Epoch, Offset: offset}
	}
	return nil
}

// put puts it at the offset.
func (w *writing) put(it *item, offset, now uint64) error {
	s := &w.state
	if s.Events == 0 {
		s.First, s.FirstTime = offset, now
	}
	s.Last, s.LastTime = offset, now
	s.Events++
	s.Bytes += recordSize(it.value)
	it.complete(offset, now)
	for _, sum := range it.sums() {
		w.keyed[sum] = offset
	}
	at := keyOf(offset)
	return w.records.Put(at[:], it.value)
}

// lookUp returns the offset of the record that has the hash as that of its key or own id, or
// 0 if there is none.
func (w *writing) lookUp(sum hash) (uint64, error) {
	for _, recent := range [...]map[hash]uint64{w.keyed, w.log.recent} {
		if offset := recent[sum]; offset > w.state.Dropped {
			return offset, nil
		}
	}
	return w.log.lookUp(w.tx, sum)
}

// sums returns the keys of h in the bucket keys.
func (h *head) sums() []hash {
	var sums [2]hash
	n := 0
	if h.flags&hasKey != 0 {
		sums[n] = h.key
		n++
	}
	if h.flags&hasID != 0 {
		sums[n] = h.id
		n++
	}
	return sums[:n]
}
