package hub

import (
	"sync"

	"github.com/chi-sse/sse/internal/engine"
)

// A reader gathers a member's unsent events into frames for one write. Each worker has a
// reader, and other claimants borrow one from readers. A reader serves one member at a
// time, and keeps its memory from one to the next.
//
// gather works in steps: findUnsent finds the links with unsent entries, read takes the next
// entries from them (merge.go), and encode copies those that the filter accepts into the
// frames, until these are full. For SlowLatest, see latest.go.
//
// Most members follow one topic, without a filter, and most of them are at the same place
// in it. So a worker that goes through them would encode the same bytes again and again.
// Instead gather remembers what the frames hold (cache), and if those are just the unsent
// events of the next member, it only moves that member's link.

// reader gathers unsent events. Its zero value is ready to use.
type reader struct {
	frames  engine.Frames // the result of gather
	entries []*entry      // the result of read
	runs    []run         // where those are from, for SlowLatest
	heads   heads         // memory for members that are not wide
	spare   selection     // memory for SlowLatest
	looked  uint64        // how many links and entries it has looked at; for tests
	opening *opening      // the session is still opening, or nil
	resumed bool          // the cursor has moved in another way than by a delivery

	cached cache // what frames holds
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

	// batchEvents is how many entries are read at a time.
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
// so that it never decreases for one reader and hub. last is the offset of the last id in
// the frames, or 0 if there is none. ok is false, and nothing has been gathered, if
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
	var l *link
	var newest uint64
	if plain {
		c := &r.cached
		l = m.links[0]
		newest = l.topic.last.Load()
		if c.topic == l.topic && c.from == l.next && c.newest == newest {
			l.next = c.next
			m.mu.Unlock()
			if c.last == c.newest {
				return upTo, c.last, true
			}
			return c.cut, c.last, true
		}
	}
	r.cached = cache{} // a Filter may panic and leave other frames
	hs := r.findUnsent(m, plain, upTo)
	r.frames.Reset(keptSize)
	if m.slow == SlowLatest {
		cut, last, ok = r.gatherLatest(m, hs, upTo)
		r.drop()
		if ok && m.catchUp > 0 && cut >= m.catchUp {
			last = r.endCatchUp(m, cut)
		}
		return cut, last, ok
	}
	ok = true
	for full, lost, moved := false, false, false; !full && !lost && hs.first() <= upTo; {
		full, lost = r.read(m, hs, upTo)
		moved = moved || len(r.entries) > 0
		last = max(last, r.encode(m))
		ok = moved || !lost // what has been read is sent first
	}
	cut = min(upTo, hs.first()-1)
	r.drop()
	if ok && m.catchUp > 0 && cut >= m.catchUp {
		last, plain = r.endCatchUp(m, cut), false
	}
	if plain && r.frames.Events > 0 {
		r.cached = cache{l.topic, l.next - uint64(r.frames.Events), l.next, newest, cut, last}
	}
	return cut, last, ok
}

// findUnsent returns the heap of m's links with unread entries. It contains each link that
// has any, and perhaps others. If a new link has older entries, it moves the cursor back
// (rewind). m.mu is held; findUnsent unlocks it. With plain, m has one link, and findUnsent
// spares the processor a look at m.wide.
func (r *reader) findUnsent(m *Member, plain bool, upTo uint64) *heads {
	rewound := m.rewound
	m.rewound = false
	if rewound && m.logged != nil {
		m.logged.takeStartsLocked()
	}
	if !plain && m.wide != nil {
		w := m.wide
		m.mu.Unlock()
		m.shard.announce()
		r.looked += w.takeNews()
		if rewound {
			m.rewind(w.heads, upTo)
		}
		return &w.heads
	}
	r.heads = r.heads[:0] // a Filter may have panicked
	cursor := m.cursor.Load()
	if rewound {
		cursor = 0 // a topic may have unread entries before it
	}
	for _, l := range m.links {
		if l.topic.last.Load() > cursor { // otherwise the topic need not be locked
			r.heads = append(r.heads, head{lowest, l})
		}
	}
	m.mu.Unlock()
	if found := r.heads; len(found) > 1 || rewound {
		r.heads = found[:0]
		for _, h := range found {
			if offset := h.l.nextOffset(); offset != none {
				r.heads.push(offset, h.l)
			}
		}
		clear(found[len(r.heads):])
	}
	if rewound {
		m.rewind(r.heads, upTo)
	}
	return &r.heads
}

// encode appends to r.frames the frames of those of r.entries that m's filter accepts. It
// returns the offset of the last one, or 0. No lock is held, since it may call Filter.
func (r *reader) encode(m *Member) (last uint64) {
	for _, e := range r.entries {
		if m.filter != nil && !m.filter(&e.Message) && !m.hub.isLast(e) {
			continue
		}
		r.frames.Append(e.frame)
		last = e.offset
	}
	return last
}

// drop drops the references to entries, so that those that leave the log can be freed, and
// to links. It keeps the memory.
func (r *reader) drop() {
	clear(r.entries)
	clear(r.runs)
	clear(r.heads)
	r.entries, r.runs, r.heads = r.entries[:0], r.runs[:0], r.heads[:0]
}
