package boltlog

import (
	"bytes"
	"time"

	"go.etcd.io/bbolt"
)

// Each transaction that appends drops about twice as many old records as it appends, if so
// many are beyond a bound. So the bounds hold under load without transactions of their own.
// Those are made only when there is nothing to append: when records have become too old, or
// when the file was opened with lower bounds.

// dropAtOnce is how many records a transaction drops that does nothing else. Appends wait for
// it.
const dropAtOnce = 1000

// over reports whether s is beyond a bound.
func (l *Log) over(s *state, now time.Time) bool {
	if s.Events == 0 || l.broken != nil {
		return false
	}
	return s.Events > uint64(l.cfg.MaxEvents) || s.Bytes > uint64(l.cfg.MaxBytes) ||
		now.UnixNano()-int64(s.FirstTime) > int64(l.cfg.MaxAge)
}

// untilDrop returns how long the writer may wait before it looks for records that are too old.
func (l *Log) untilDrop() time.Duration {
	wait := min(time.Minute, l.cfg.MaxAge/100)
	if l.state.Events > 0 {
		oldest := time.Unix(0, int64(l.state.FirstTime))
		wait = max(wait, min(time.Hour, l.cfg.MaxAge-l.clock.tell().Sub(oldest)))
	}
	return max(time.Second, wait)
}

// dropSome drops some records that are beyond a bound, if there are any.
func (l *Log) dropSome() error {
	now := l.clock.tell()
	if !l.over(&l.state, now) {
		return nil
	}
	return l.update(func(w *writing) error { return w.drop(now, dropAtOnce) })
}

// drop drops the oldest records that are beyond a bound, but at most limit.
func (w *writing) drop(now time.Time, limit int) error {
	type old struct {
		offset uint64
		head   head
		ok     bool
	}
	var olds []old
	s := &w.state
	c := w.records.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		offset := offsetIn(k)
		h, _, ok := open(offset, v)
		s.First = offset
		if ok {
			s.FirstTime = h.time
		}
		if len(olds) == limit || !w.log.over(s, now) {
			break
		}
		olds = append(olds, old{offset, h, ok})
		s.Events--
		s.Bytes -= recordSize(v)
		s.Dropped = offset
	}
	if s.Events == 0 {
		s.First = s.Last + 1
	}
	for i := range olds {
		if err := w.remove(olds[i].offset, &olds[i].head, olds[i].ok); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the record at the offset from all buckets. If not ok, it is damaged.
func (w *writing) remove(offset uint64, h *head, ok bool) error {
	at := keyOf(offset)
	if err := w.records.Delete(at[:]); err != nil {
		return err
	}
	if !ok {
		return w.removeEverywhere(offset)
	}
	index := indexKey(h.topic, offset)
	if err := w.index.Delete(index[:]); err != nil {
		return err
	}
	for _, sum := range h.sums() {
		if bytes.Equal(w.keys.Get(sum[:]), at[:]) { // otherwise it is that of a later event
			w.state.Keys--
			if err := w.keys.Delete(sum[:]); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeEverywhere searches for what points to the record at the offset, and removes it. It
// reads both buckets, which takes long and happens once for each damaged record.
func (w *writing) removeEverywhere(offset uint64) error {
	at := keyOf(offset)
	n, err := removeIf(w.index, func(k, _ []byte) bool { return bytes.HasSuffix(k, at[:]) })
	if err != nil || n == 0 {
		return err
	}
	n, err = removeIf(w.keys, func(_, v []byte) bool { return bytes.Equal(v, at[:]) })
	w.state.Keys -= uint64(n)
	return err
}

// removeIf removes those entries of b for which f returns true, and returns their number.
func removeIf(b *bbolt.Bucket, f func(k, v []byte) bool) (n int, err error) {
	var found [][]byte
	err = b.ForEach(func(k, v []byte) error {
		if f(k, v) {
			found = append(found, bytes.Clone(k))
		}
		return nil
	})
	for _, k := range found {
		if err == nil {
			err = b.Delete(k)
		}
	}
	return len(found), err
}
