package hub

import (
	"time"

	"github.com/chi-sse/sse/event"
)

// Message is an event in the log of a hub. All its readers share it: do not change it.
type Message struct {
	Topic    string
	Position Position
	Event    event.Event // as it was published
	Time     time.Time   // when it was published
}

// entry is a message in the log, together with the frame that is sent for it. What a reader
// needs comes first: frame, topic, and the Message's Topic and Position.
type entry struct {
	frame  []byte
	topic  *topic
	offset uint64 // Position.Offset in the hub's own count; see spans
	Message
}

// newHole returns an entry that is no event: events are missing there, for the reason. It has
// no frame, and Event.Name is the reason.
func newHole(topic string, offset uint64, reason GapReason) *entry {
	e := &entry{offset: offset}
	e.Topic, e.Event.Name = topic, string(reason)
	return e
}

// hole returns the reason why events are missing where e is, or "" if e is an event.
func (e *entry) hole() GapReason {
	if e.frame != nil {
		return ""
	}
	return GapReason(e.Event.Name)
}

// size returns about how much memory an entry takes, in bytes.
func (e *entry) size() int64 {
	const fixed = 256 // the struct, its places in the two tails, and the allocations
	return fixed + int64(len(e.frame)+len(e.Event.Data)+len(e.Event.Name)+len(e.Event.ID)+len(e.Event.Comment))
}

// eventLog is the hub's tail: the newest events of all topics, in the hub's order, and the
// bounds that evict older ones. Hub.mu guards it.
//
// It does not make offsets. The caller of append supplies them, in rising order but not
// necessarily without gaps, so that another system's log can feed it.
type eventLog struct {
	entries deque[*entry]
	size    int64  // sum of the entries' sizes
	evicted uint64 // number of entries that have been evicted so far

	maxEvents int
	maxSize   int64
	maxAge    time.Duration
}

// append appends e, whose offset must be higher than every earlier one.
func (l *eventLog) append(e *entry) {
	l.entries.push(e)
	l.size += e.size()
}

// evict removes the oldest entry, if it is beyond a bound, and returns it. The newest entry
// can only be too old: it stays in the log whatever its size.
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
	return l.pop(), true
}

// pop removes the oldest entry, which there must be, and returns it.
func (l *eventLog) pop() *entry {
	e := l.entries.at(0)
	l.entries.pop()
	l.size -= e.size()
	l.evicted++
	return e
}
