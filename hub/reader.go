package hub

import (
	"cmp"
	"slices"
	"sort"
	"sync"

	"github.com/chi-sse/sse/internal/engine"
)

// A reader gathers a member's unsent events into frames for one write. Each worker has a
// reader, and other claimants borrow one from readers. A reader serves one member at a
// time, and keeps its memory from one to the next.
//
// gather works in steps: collect reads entries from each of the member's topics, order puts
// them into the hub's order, encode copies as many as fit into the frames, and advance
// moves the member's links past those.
//
// Most members follow one topic, without a filter, and most of them are at the same place
// in it. So a worker that goes through them would encode the same bytes again and again.
// Instead gather remembers what the frames hold (cache), and if those are just the unsent
// events of the next member, it only moves that member's link.

// reader gathers unsent events. Its zero value is ready to use.
type reader struct {
	frames  engine.Frames // the result of gather
	entries []*entry      // that were collected, topic by topic
	ordered []*entry      // memory for the same, in the hub's order
	spans   []span        // which of entries are of which link
	keys    map[string]bool

	cached cache // what frames holds
}

// span is what was read from a link's topic: entries[from:to] of the reader.
type span struct {
	*link
	from, to int
}

// cache describes the part of a topic that the frames hold: all entries with the numbers
// from and up to, but not including, next. It is valid for a member with one link, without
// a filter and without SlowLatest. A zero cache matches no member.
type cache struct {
	topic      *topic
	from, next uint64 // numbers in the topic
	newest     uint64 // topic.last before the entries were collected
	cut, last  uint64 // as gather returned them; if last is newest, any cut is right
}

// readers holds readers for claimants that are not workers.
var readers = sync.Pool{New: func() any { return new(reader) }}

const (
	// batchSize is the size of the largest write, in bytes, unless a single event is
	// larger. Larger writes gain nothing, and a slow client must take each one in time.
	batchSize = 32 << 10

	// batchEvents is how many entries of a topic are collected at a time.
	batchEvents = 512

	// keptSize is the largest buffer that a reader keeps, in bytes. It is enough for usual
	// batches.
	keptSize = 2 * batchSize
)

// gather puts m's unsent events up to the offset upTo into r.frames, or as many of them as
// fit into one write, and moves m's links past them. The caller has claimed m.
//
// It returns cut, the offset up to which the frames are complete for m: the cursor belongs
// there when they are written. It is upTo or less, because callers read upTo from Hub.head,
// so that it never decreases for one reader and hub. last is the offset of the last event
// in the frames, or 0 if there is none. ok is false, and nothing has been gathered, if
// unsent events have left the log.
//
// The fast path takes the frames as they are. That is right if the topic is the same, the
// member's next entry is the first in the frames, and topic.last has not changed since
// before they were collected. Two cases:
//
//   - last is newest: the frames hold everything from the member's next entry to the newest
//     one. topic.last is stored before Hub.head, from which upTo was read, so the topic has
//     no other entry up to upTo. The frames are complete up to upTo.
//   - Otherwise the frames were cut off, by size, by number, or by an earlier upTo. They
//     are complete up to cut, for this member as for the one before, and deliver continues
//     from there.
//
// An entry in the frames may have left the log since. The member gets it all the same.
func (r *reader) gather(m *Member, upTo uint64) (cut, last uint64, ok bool) {
	m.mu.Lock()
	plain := len(m.links) == 1 && m.filter == nil && m.slow != SlowLatest
	if plain {
		l, c := m.links[0], &r.cached
		if c.topic == l.topic && c.from == l.next && c.newest == l.topic.last.Load() {
			l.next = c.next
			m.mu.Unlock()
			if c.last == c.newest {
				return upTo, c.last, true
			}
			return c.cut, c.last, true
		}
	}
	r.cached = cache{} // a Filter may panic and leave other frames
	var newest uint64
	if plain {
		newest = m.links[0].topic.last.Load()
	}
	limit, ok := r.collect(m, upTo)
	m.mu.Unlock()
	if !ok {
		return 0, 0, false
	}
	cut, last = r.encode(m, r.order(m), limit)
	r.advance(m, cut)
	r.dropEntries()
	if plain && r.frames.Events > 0 {
		l := r.spans[0].link
		r.cached = cache{l.topic, l.next - uint64(r.frames.Events), l.next, newest, cut, last}
	}
	return cut, last, true
}

// collect reads the unsent entries up to upTo from each of m's topics into r.entries, and
// notes in r.spans which are whose. It returns limit, the offset up to which it has read
// all of them. ok is false if some have left the log. m.mu is held.
func (r *reader) collect(m *Member, upTo uint64) (limit uint64, ok bool) {
	r.entries, r.spans = r.entries[:0], r.spans[:0]
	limit = upTo
	cursor := m.cursor.Load()
	most := batchEvents
	if m.slow == SlowLatest { // it needs the last entry of each key
		most = int(^uint(0) >> 1)
	}
	for _, l := range m.links {
		if l.topic.last.Load() <= cursor {
			continue // nothing new: the topic need not be locked
		}
		from := len(r.entries)
		full, ok := r.read(l, upTo, most, m.slow == SlowLatest)
		if !ok {
			return 0, false
		}
		if full {
			limit = min(limit, r.entries[len(r.entries)-1].Position.Offset)
		}
		if from < len(r.entries) {
			r.spans = append(r.spans, span{l, from, len(r.entries)})
		}
	}
	return limit, true
}

// read appends to r.entries the unsent entries of l's topic up to upTo, but no more than
// most entries. full reports whether it stopped at most. ok is false if unsent entries have
// left the log. With latest, which is for SlowLatest, their loss does not matter if a newer
// event of the topic replaces them all: there must be one in the log, and neither a Key nor
// a Filter. l.m.mu is held.
func (r *reader) read(l *link, upTo uint64, most int, latest bool) (full, ok bool) {
	t := l.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.next < t.first {
		if !latest || l.m.key != nil || l.m.filter != nil || t.entries.len() == 0 {
			return false, false
		}
		l.next = t.first
	}
	n := 0
	for i := int(l.next - t.first); i < t.entries.len(); i++ {
		e := t.entries.at(i)
		if e.Position.Offset > upTo {
			break
		}
		r.entries = append(r.entries, e)
		if n++; n == most {
			return true, true
		}
	}
	return false, true
}

// order returns the collected entries in the hub's order. For SlowLatest it returns only
// those that are still worth sending. No lock is held, since it may call Filter and Key.
func (r *reader) order(m *Member) []*entry {
	entries := r.entries
	if len(r.spans) > 1 {
		r.ordered = append(r.ordered[:0], entries...)
		entries = r.ordered
		slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.Position.Offset, b.Position.Offset) })
	}
	if m.slow == SlowLatest {
		entries = r.latest(m, entries)
	}
	return entries
}

// latest returns the last entry of each key, in order, of those entries that the filter
// accepts.
func (r *reader) latest(m *Member, entries []*entry) []*entry {
	if r.keys == nil {
		r.keys = make(map[string]bool)
	}
	clear(r.keys)
	kept := make([]*entry, 0, 16)
	for _, e := range slices.Backward(entries) {
		if m.filter != nil && !m.filter(&e.Message) {
			continue
		}
		key := e.Topic
		if m.key != nil {
			key = m.key(&e.Message)
		}
		if !r.keys[key] {
			r.keys[key] = true
			kept = append(kept, e)
		}
	}
	slices.Reverse(kept)
	return kept
}

// encode copies the frames of entries, which are in the hub's order, into r.frames: those
// up to limit that the filter accepts, and as many as fit into one write. It returns cut,
// the offset up to which those are all, and last, the offset of the last one, or 0. No lock
// is held, since it may call Filter.
func (r *reader) encode(m *Member, entries []*entry, limit uint64) (cut, last uint64) {
	r.frames.Reset(keptSize)
	cut = limit
	for _, e := range entries {
		if e.Position.Offset > limit {
			break
		}
		if r.frames.Events > 0 && r.frames.Len()+len(e.frame) > batchSize {
			cut = e.Position.Offset - 1
			break
		}
		if m.filter != nil && m.slow != SlowLatest && !m.filter(&e.Message) {
			continue
		}
		r.frames.Append(e.frame)
		last = e.Position.Offset
	}
	return cut, last
}

// advance moves the links whose entries were collected past the entries up to cut, whether
// those were sent or not. r.entries is as collect has left it.
func (r *reader) advance(m *Member, cut uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range r.spans {
		entries := r.entries[s.from:s.to]
		n := len(entries)
		if entries[n-1].Position.Offset > cut {
			n = sort.Search(n, func(i int) bool { return entries[i].Position.Offset > cut })
		}
		s.link.next += uint64(n)
	}
}

// dropEntries drops the references to entries, so that those that leave the log can be
// freed. It keeps the memory, unless SlowLatest has made it large.
func (r *reader) dropEntries() {
	clear(r.entries)
	clear(r.ordered)
	if cap(r.entries) > 4*batchEvents { // for SlowLatest it may have held the whole log
		r.entries, r.ordered = nil, nil
	}
}
