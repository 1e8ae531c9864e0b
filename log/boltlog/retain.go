package boltlog

import (
	"math"
	"time"
)

// Records are dropped in bursts: dropping changes pages all over the file, so many at once cost
// little more than a few. A burst begins when a bound is passed, and ends when there is some
// room. Meanwhile each transaction that appends also drops at least twice as many records; so
// the bounds hold under load. If there is nothing to append, transactions drop only.

const (
	dropAtOnce = 1000 // how many records a transaction drops that does nothing else
	dropLeast  = 500  // how many one drops that also appends, at the least
)

// over reports whether s is beyond a bound. In a burst, the bounds are lower.
func (l *Log) over(s *state, now time.Time) bool {
	if s.Events == 0 || l.broken != nil {
		return false
	}
	events, size, age := uint64(l.cfg.MaxEvents), uint64(l.cfg.MaxBytes), int64(l.cfg.MaxAge)
	if l.burst {
		events -= min(1024, events/16)
		size -= min(1<<20, size/16)
	} else if age < math.MaxInt64-int64(time.Minute) {
		age += int64(l.lateness())
	}
	return s.Events > events || s.Bytes > size || now.UnixNano()-int64(s.FirstTime) > age
}

// lateness returns how much longer than Config.MaxAge a record may stay.
func (l *Log) lateness() time.Duration {
	return max(time.Second, min(time.Minute, l.cfg.MaxAge/100))
}

// untilDrop returns how long the writer may wait before it looks for records that are too old.
func (l *Log) untilDrop() time.Duration {
	if l.state.Events == 0 || l.broken != nil || l.cfg.MaxAge == math.MaxInt64 {
		return time.Hour
	}
	age := l.clock.tell().Sub(time.Unix(0, int64(l.state.FirstTime)))
	return max(l.lateness()/8, min(time.Hour, l.cfg.MaxAge+l.lateness()-age))
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
	w.log.burst = w.log.over(s, now)
	if !w.log.burst && s.Events > 0 {
		return nil
	}
	c := w.records.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		offset := offsetIn(k)
		h, _, ok := open(offset, v)
		s.First = offset
		if ok {
			s.FirstTime = h.time
		}
		if w.log.burst = w.log.over(s, now); len(olds) == limit || !w.log.burst {
			break
		}
		olds = append(olds, old{offset, h, ok})
		s.Events--
		s.Bytes -= recordSize(v)
		s.Dropped = offset
	}
	if s.Events == 0 {
		s.First = s.Last + 1
		w.log.burst = false
	}
	for i := range olds {
		if err := w.remove(olds[i].offset, &olds[i].head, olds[i].ok); err != nil {
			return err
		}
	}
	return nil
}

// remove removes the record at the offset and its entries. If not ok, it is damaged.
func (w *writing) remove(offset uint64, h *head, ok bool) error {
	at := keyOf(offset)
	if err := w.records.Delete(at[:]); err != nil {
		return err
	}
	if offset > w.state.Indexed {
		return nil // its keys are in Log.recent, which lookUp compares with state.Dropped
	}
	return w.unindex(offset, h, ok)
}
