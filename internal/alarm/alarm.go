// Package alarm wakes values by the hundred thousand, each at a time that can be changed. They
// share one timer. A value takes 8 bytes in itself, and one pointer's place in a heap.
//
// Unlike a value on a wheel (package wheel), a value can be taken out at once. So values that
// nobody needs any longer are not held until their time comes.
//
// The price is precision: a value may come up to [Resolution] late. It is never early.
package alarm

import "time"

// Resolution is the time between two looks at the values.
const Resolution = time.Second / 8

// Place is where a value waits in a queue. The zero Place waits nowhere. Only the queue
// changes it.
type Place struct {
	at uint32 // in units of Resolution since Queue.start
	i  uint32 // 1 + the index in the heap
}

// Waits reports whether the value waits.
func (p *Place) Waits() bool { return p.i > 0 }

// Queue holds the values that wait. Make it with [New]. A queue has no lock: the caller must
// hold one whenever it calls a method, or uses a Place.
type Queue[T any] struct {
	place func(T) *Place
	wake  func()

	heap  []T       // the value of heap[i] comes up no earlier than that of heap[(i-1)/2]
	start time.Time // when the heap was last empty
	timer *time.Timer
	armed uint32 // when the timer fires, or 0
}

// New returns an empty queue. place returns where a value waits. wake is called in a goroutine
// of its own, without the caller's lock, when values may have come up: it must take the lock
// and call [Queue.Due] until that returns none.
func New[T any](place func(T) *Place, wake func()) *Queue[T] {
	return &Queue[T]{place: place, wake: wake}
}

// Len returns the number of values that wait.
func (q *Queue[T]) Len() int { return len(q.heap) }

// Set makes v come up after d, in place of the time that it has been waiting for. A time of
// more than 17 years counts as forever: v waits, and does not come up.
func (q *Queue[T]) Set(v T, d time.Duration) {
	if len(q.heap) == 0 {
		q.start, q.armed = time.Now(), 0
	}
	p := q.place(v)
	p.at = q.ticks(d)
	if p.i == 0 {
		q.heap = append(q.heap, v)
		p.i = uint32(len(q.heap))
	}
	q.fix(int(p.i - 1))
	q.arm()
}

// ticks returns the first tick that is not before the end of d.
func (q *Queue[T]) ticks(d time.Duration) uint32 {
	const forever = 1<<32 - 1
	end := int64(time.Since(q.start)) + int64(max(0, d))
	if end < 0 || end/int64(Resolution) >= forever { // end < 0: an overflow
		return forever
	}
	return uint32(max(1, (end+int64(Resolution)-1)/int64(Resolution)))
}

// Left returns how long v has still to wait. It must wait.
func (q *Queue[T]) Left(v T) time.Duration {
	return time.Until(q.start.Add(time.Duration(q.place(v).at) * Resolution))
}

// Remove makes v not come up, if it waits.
func (q *Queue[T]) Remove(v T) {
	p := q.place(v)
	if p.i == 0 {
		return
	}
	i, last := int(p.i-1), len(q.heap)-1
	*p = Place{}
	moved := q.heap[last]
	var none T
	q.heap[last] = none
	q.heap = q.heap[:last]
	if i < last {
		q.put(moved, i)
		q.fix(i)
	}
	if cap(q.heap) > 64 && last < cap(q.heap)/4 {
		q.heap = append(make([]T, 0, cap(q.heap)/2), q.heap...)
	}
	if last == 0 {
		q.heap = nil
		q.timer.Stop()
		q.armed = 0
	}
}

// Due removes up to len(into) values that have come up, and returns them in into. The first to
// come up are the first.
func (q *Queue[T]) Due(into []T) []T {
	n := 0
	if len(q.heap) > 0 {
		now := uint32(time.Since(q.start) / Resolution)
		for n < len(into) && len(q.heap) > 0 && q.place(q.heap[0]).at <= now {
			into[n] = q.heap[0]
			q.Remove(into[n])
			n++
		}
		if n < len(into) {
			q.armed = 0 // the timer has fired, or is late
		}
		q.arm()
	}
	return into[:n]
}

// arm sets the timer for the first value.
func (q *Queue[T]) arm() {
	if len(q.heap) == 0 {
		return
	}
	first := q.place(q.heap[0]).at
	if q.armed != 0 && q.armed <= first {
		return
	}
	q.armed = first
	d := time.Until(q.start.Add(time.Duration(first) * Resolution))
	if q.timer == nil {
		q.timer = time.AfterFunc(d, q.wake)
	} else {
		q.timer.Reset(d)
	}
}

// fix moves the value at i to where it belongs.
func (q *Queue[T]) fix(i int) {
	v := q.heap[i]
	at := q.place(v).at
	for i > 0 { // up
		parent := (i - 1) / 2
		if q.place(q.heap[parent]).at <= at {
			break
		}
		q.put(q.heap[parent], i)
		i = parent
	}
	for { // down
		child := 2*i + 1
		if child >= len(q.heap) {
			break
		}
		if next := child + 1; next < len(q.heap) && q.place(q.heap[next]).at < q.place(q.heap[child]).at {
			child = next
		}
		if q.place(q.heap[child]).at >= at {
			break
		}
		q.put(q.heap[child], i)
		i = child
	}
	q.put(v, i)
}

func (q *Queue[T]) put(v T, i int) {
	q.heap[i] = v
	q.place(v).i = uint32(i + 1)
}
