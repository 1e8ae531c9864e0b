package hub

import (
	"maps"
	"sort"
	"sync"
	"sync/atomic"
)

// topic is a topic's tail, the entries of the hub's log with one topic in the same order,
// and its followers. A reader of one topic does not touch the others. For the order of
// locks see doc.go.
//
// A topic numbers its entries from 0 on. Links count in these numbers, not in offsets, so
// that a link leads to its next entry without a search.
type topic struct {
	name string
	last atomic.Uint64 // offset of the newest entry so far, evicted or not; perhaps higher if the topic was dropped

	mu      sync.Mutex
	entries deque[placed]
	first   uint64 // number of the first of entries, or of the next one if there are none
	floor   uint64 // every entry after this offset is in entries
	bytes   int64  // sum of the frames' lengths of all entries so far, evicted or not
	own     ownIDs
	parts   []*part // one for each shard that has had followers
	present int     // members that have joined

	users int // links, and calls that are about to link; the topic is not dropped meanwhile; Hub.mu guards it
}

// placed is an entry in a topic's tail, with its offset. Merging compares the next offsets of
// many topics. It would wait for the memory of each of those entries.
type placed struct {
	*entry
	offset uint64
}

// end returns the number that the next entry will have. mu is held.
func (t *topic) end() uint64 { return t.first + uint64(t.entries.len()) }

// after returns the number of the first entry after offset. mu is held.
func (t *topic) after(offset uint64) uint64 {
	n := t.entries.len()
	if n == 0 || t.entries.at(n-1).offset <= offset {
		return t.end() // the usual case
	}
	return t.first + uint64(sort.Search(n, func(i int) bool { return t.entries.at(i).offset > offset }))
}

// bytesFrom returns the length of the frames from the entry with the number n on. mu is
// held.
func (t *topic) bytesFrom(n uint64) int64 {
	n = max(n, t.first)
	if n == t.end() {
		return 0
	}
	e := t.entries.at(int(n - t.first))
	return t.bytes - e.bytes + int64(len(e.frame))
}

// part is the followers of a topic in one shard. Its topic's mu guards it.
//
// A shard goes through the links in passes, and delivers to each member the events that are
// unsent by then. An event that is published after the pass has begun may come too late for
// some members, so it makes another pass follow.
type part struct {
	topic *topic
	shard *shard
	links []*link
	wide  *wideLinks // those of wide members; nil if there were none

	queued  bool   // it is in the shard's queue, or its worker's part
	again   bool   // a link has moved to before visited, untaken; another pass must follow
	visited int    // links[:visited] have been taken in this pass; 0 between passes
	newest  uint64 // topic.last when the pass began
	stalls  int    // stalls in this pass, while no worker has the part
}

// link connects a member to a topic that it follows.
type link struct {
	topic *topic
	m     *Member
	next  uint64 // number of the entry to read next; the claimant's

	i       int32 // index in its part's links; topic.mu guards this and the next three
	wi      int32 // index in its part's wide links, if the member is wide
	present bool  // the member has joined the topic
	left    bool  // the link is no longer in its part
	dropped bool  // by Unsubscribe: nothing is read from the topic any longer
	unread  bool  // it is in the member's wide.heads; the claimant's
	news    uint8 // see wide.go

	hooks atomic.Uint32
}

const (
	hooksNew          uint32 = iota // OnJoin has not returned
	hooksJoined                     // OnJoin has returned; unlink calls OnLeave
	hooksLeft                       // the link has been removed, because the member has left
	hooksUnsubscribed               // the link has been removed by Unsubscribe
)

// addLink adds l to the topic's followers. mu is held.
func (t *topic) addLink(l *link) {
	p := t.part(l.m.shard)
	if p == nil {
		p = &part{topic: t, shard: l.m.shard}
		t.parts = append(t.parts, p)
	}
	l.i = int32(len(p.links))
	p.links = append(p.links, l)
}

// removeLink removes l, which must be there, from the topic's followers. The last link of
// the part takes its place. mu is held.
func (t *topic) removeLink(l *link) {
	p := t.part(l.m.shard)
	last := len(p.links) - 1
	moved := p.links[last]
	p.links[l.i], p.links[last] = moved, nil
	moved.i = l.i
	p.links = p.links[:last]
	if p.wide != nil {
		p.wide.remove(l)
	}
	if p.visited > int(l.i) {
		p.again = true // this pass does not come to where moved is now
	}
	l.left = true
	if l.present {
		t.present--
	}
	if cap(p.links) > 64 && last < cap(p.links)/4 {
		p.links = append(make([]*link, 0, cap(p.links)/2), p.links...)
	}
}

// part returns the topic's part in sh, or nil. mu is held.
func (t *topic) part(sh *shard) *part {
	for _, p := range t.parts {
		if p.shard == sh {
			return p
		}
	}
	return nil
}

// take begins a pass, or continues one: it fills ms with the members of the next stint. It
// returns how many they are, and how many stalls the pass has had.
func (p *part) take(ms []*Member) (n, stalls int) {
	t := p.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.visited == 0 {
		p.newest, p.again, p.stalls = t.last.Load(), false, 0
	}
	p.visited = min(p.visited, len(p.links))
	for n < len(ms) && p.visited < len(p.links) {
		ms[n] = p.links[p.visited].m
		n, p.visited = n+1, p.visited+1
	}
	return n, p.stalls
}

// more ends a stint, after which the pass has had so many stalls. It reports whether take
// must be called again, to continue the pass or to begin another. If not, the part is no
// longer queued, and the next publication enqueues it.
func (p *part) more(stalls int) bool {
	t := p.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.visited < len(p.links) {
		p.stalls = stalls
		return true
	}
	p.visited = 0
	p.queued = len(p.links) > 0 && (p.again || t.last.Load() > p.newest)
	return p.queued
}

// topic returns the topic with name, or nil.
func (h *Hub) topic(name string) *topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.topics[name]
}

// topicLocked returns the topic with name, which it makes if necessary. mu is held.
//
// A topic of the same name may have been dropped. Its events are missing, up to
// droppedFloor at the most, so that is where the new one's floor is. It is known exactly if
// the hub remembers the id that the dropped topic has evicted last.
func (h *Hub) topicLocked(name string) *topic {
	t := h.topics[name]
	if t == nil {
		t = &topic{name: name, floor: h.droppedFloor}
		if d := h.dropped.byTopic[name]; d != nil {
			t.floor, t.own.evicted = d.floor, d.id
		}
		t.last.Store(h.droppedFloor)
		h.topics[name] = t
		h.mostTopics = max(h.mostTopics, len(h.topics))
	}
	return t
}

// releaseTopic gives up one use of t.
func (h *Hub) releaseTopic(t *topic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.users--
	h.dropUnusedLocked(t)
}

// dropUnusedLocked drops t if it has neither users nor entries. mu is held.
func (h *Hub) dropUnusedLocked(t *topic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users == 0 && t.entries.len() == 0 {
		h.droppedFloor = max(h.droppedFloor, t.floor)
		if t.own.evicted != "" {
			h.dropped.remember(t.name, t.own.evicted, t.floor)
		}
		delete(h.topics, t.name)
		h.shrinkTopicsLocked()
	}
}

// shrinkTopicsLocked makes a smaller map of topics when few are left of many, because a map
// keeps its memory. Each topic that is moved stands for many that were dropped. mu is held.
func (h *Hub) shrinkTopicsLocked() {
	const small, ratio = 1024, 16
	if h.mostTopics > small && len(h.topics) <= h.mostTopics/ratio {
		topics := make(map[string]*topic, 2*len(h.topics))
		maps.Copy(topics, h.topics)
		h.topics, h.mostTopics = topics, len(topics)
	}
}
