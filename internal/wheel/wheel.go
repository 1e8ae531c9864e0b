// Package wheel keeps timers by the thousand. Values that wait for the same period share
// one timer, where a timer for each would take about 100 bytes.
//
// The price is precision: a value may come up to an eighth of the period late.
package wheel

import (
	"sync"
	"time"
)

// Spokes is the number of parts that a period is divided into. A value waits up to one
// part too long.
const Spokes = 8

// Wheel is the timer of the values that wait for one period. Each value lies in the spoke
// of the time at which it comes up. Get a Wheel from [Set.Of]. Its methods are safe for
// concurrent use.
type Wheel[T any] struct {
	period time.Duration
	due    func(T, *Wheel[T])

	mu     sync.Mutex
	spokes [Spokes + 1][]T
	at     int // the spoke that came up last
	n      int // values in all spokes
	empty  int // turns since there was a value
	timer  *time.Timer
	forget func(*Wheel[T]) // called when the wheel stops
}

// Period returns the longest time that a value can wait on w.
func (w *Wheel[T]) Period() time.Duration { return w.period }

// Len returns the number of values that wait on w.
func (w *Wheel[T]) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// Add makes v come up once, after d. A longer d than the period counts as the period.
func (w *Wheel[T]) Add(v T, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ahead := min(Spokes, 1+int((d-1)/w.step()))
	spoke := &w.spokes[(w.at+ahead)%len(w.spokes)]
	*spoke = append(*spoke, v)
	w.n++
	w.empty = 0
	if w.timer == nil {
		w.timer = time.AfterFunc(w.step(), w.turn)
	}
}

func (w *Wheel[T]) step() time.Duration { return max(1, w.period/Spokes) }

// turn empties the next spoke and calls due for each of its values. A wheel that has been empty
// for a period stops, and its set forgets it.
func (w *Wheel[T]) turn() {
	w.mu.Lock()
	w.at = (w.at + 1) % len(w.spokes)
	up := w.spokes[w.at]
	w.spokes[w.at] = nil
	if w.n -= len(up); w.n == 0 {
		w.empty++
	}
	stops := w.empty > Spokes
	if stops {
		w.timer, w.empty = nil, 0
	} else {
		w.timer.Reset(w.step())
	}
	w.mu.Unlock()
	if stops {
		w.forget(w)
	}
	for _, v := range up {
		w.due(v, w)
	}
}

// Set holds one wheel for each period for which values wait. Make it with [NewSet].
type Set[T any] struct {
	due func(T, *Wheel[T])

	mu sync.Mutex
	by map[time.Duration]*Wheel[T]
}

// NewSet returns an empty set. When a value comes up, its wheel calls due with it.
// The wheel's other values wait until due returns, so due must not wait for anything.
func NewSet[T any](due func(v T, on *Wheel[T])) *Set[T] {
	return &Set[T]{due: due, by: make(map[time.Duration]*Wheel[T])}
}

// Of returns the wheel for period, which must be positive. The set forgets a wheel that has been
// empty for a period, and makes another one when it is asked again. A value that is added to a
// wheel that the set has forgotten comes up all the same.
func (s *Set[T]) Of(period time.Duration) *Wheel[T] {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.by[period]
	if w == nil {
		w = &Wheel[T]{period: period, due: s.due, forget: s.forget}
		s.by[period] = w
	}
	return w
}

// Len returns the number of wheels.
func (s *Set[T]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.by)
}

// forget removes w. A map that has become empty gives its memory back.
func (s *Set[T]) forget(w *Wheel[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by[w.period] == w {
		delete(s.by, w.period)
	}
	if len(s.by) == 0 {
		s.by = make(map[time.Duration]*Wheel[T])
	}
}
