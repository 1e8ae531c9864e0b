package hub

import (
	"time"

	"github.com/chi-sse/sse/event"
)

// Message is an event in the log of a hub. It is shared by all who read it: do not
// change it.
type Message struct {
	Topic    string
	Position Position
	Event    event.Event // as it was published
	Time     time.Time   // when
}

// entry is a message and its frame, which is what is sent.
type entry struct {
	Message
	frame []byte
	topic *topic
}

// size is about what an entry takes in memory.
func (e *entry) size() int64 {
	const fixed = 256 // the struct, its places in two logs, allocation
	return fixed + int64(len(e.frame)+len(e.Event.Data)+len(e.Event.Name)+len(e.Event.ID)+len(e.Event.Comment))
}

// eventLog is the order of all events of a hub, and what bounds them. The hub's mu
// guards it.
//
// It does not make offsets: whoever appends brings them, rising but not necessarily
// without gaps, so that the log of another system can feed it.
type eventLog struct {
	entries deque[*entry]
	size    int64
	own     map[string]*entry // by the id of its own
	evicted uint64            // how many, in all

	maxEvents int
	maxSize   int64
	maxAge    time.Duration
}

func (l *eventLog) append(e *entry) {
	l.entries.push(e)
	l.size += e.size()
	if e.Event.ID != "" {
		if l.own == nil {
			l.own = make(map[string]*entry)
		}
		l.own[e.Event.ID] = e
	}
}

// evict returns the oldest entry, no longer of the log, if it is beyond a bound. The
// newest one may only be too old.
func (l *eventLog) evict(now time.Time) (*entry, bool) {
	n := l.entries.len()
	if n == 0 {
		return nil, false
	}
	e := l.entries.at(0)
	full := n > 1 && (n > l.maxEvents || l.size > l.maxSize)
	if !full && now.Sub(e.Time) < l.maxAge {
		return nil, false
	}
	l.entries.pop()
	l.size -= e.size()
	if e.Event.ID != "" && l.own[e.Event.ID] == e {
		delete(l.own, e.Event.ID)
	}
	l.evicted++
	return e, true
}

// deque is a queue in a ring.
type deque[T any] struct {
	ring []T // its length is a power of two
	head int
	n    int
}

func (d *deque[T]) len() int { return d.n }

func (d *deque[T]) at(i int) T { return d.ring[(d.head+i)&(len(d.ring)-1)] }

func (d *deque[T]) push(v T) {
	if d.n == len(d.ring) {
		d.resize(max(4, 2*d.n))
	}
	d.ring[(d.head+d.n)&(len(d.ring)-1)] = v
	d.n++
}

func (d *deque[T]) pop() T {
	var zero T
	v := d.ring[d.head]
	d.ring[d.head] = zero
	d.head = (d.head + 1) & (len(d.ring) - 1)
	d.n--
	if len(d.ring) > 64 && d.n < len(d.ring)/4 {
		d.resize(len(d.ring) / 2)
	}
	return v
}

func (d *deque[T]) resize(size int) {
	ring := make([]T, size)
	for i := range d.n {
		ring[i] = d.at(i)
	}
	d.ring, d.head = ring, 0
}
