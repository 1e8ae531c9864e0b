package hub

import (
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// topic is a topic's tail, the entries of the hub's log with one topic in the same order,
// and its followers. A reader of one topic does not touch the others. For the order of
// locks see doc.go.
//
// A topic numbers its entries from 1 on. Links count in these numbers, not in offsets, so
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

	oneOfParts [1]*part // memory of parts
	onePart    part     // memory of the first part

	fin   atomic.Pointer[finish] // not nil if the topic is finished
	users int                    // links, and calls that are about to link; the topic is not dropped meanwhile; Hub.mu guards it
}

// placed is an entry in a topic's tail, with its offset. Merging compares the next offsets of
// many topics. It would wait for the memory of each of those entries.
type placed struct {
	*entry
	offset uint64
	bytes  int64 // sum of the frames' lengths of the topic so far, this one included
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
	links []*link // links[:wide] are those of wide members

	wide     int32
	queued   bool     // it is in the shard's queue, or its worker's part
	again    bool     // a link has moved to before visited, untaken; another pass must follow
	announce bool     // it is in the shard's list of parts to announce
	visited  int      // links[:visited] have been taken in this pass; 0 between passes
	newest   uint64   // topic.last when the pass began
	stalls   int      // stalls in this pass, while no worker has the part
	one      [1]*link // memory of links
}

// link connects a member to a topic that it follows.
type link struct {
	topic   *topic
	m       *Member
	next    uint64 // number of the entry to read next; the claimant's
	i       int32  // index in its part's links; topic.mu guards this and the next three
	present bool   // the member has joined the topic
	left    bool   // the link is no longer in its part
	dropped bool   // by Unsubscribe: nothing is read from the topic any longer
	unread  bool   // it is in the member's wide.heads; the claimant's
	news    uint8  // see wide.go

	hooks atomic.Uint32
}

const (
	hooksNew          uint32 = iota // OnJoin has not returned
	hooksJoined                     // OnJoin has returned; unlink calls OnLeave
	hooksLeft                       // the link has been removed, because the member has left
	hooksUnsubscribed               // the link has been removed by Unsubscribe
)

// addLink adds l to the topic's followers, and returns its part. mu is held.
func (t *topic) addLink(l *link) *part {
	p := t.part(l.m.shard)
	if p == nil {
		if p = &t.onePart; p.topic != nil {
			p = new(part)
		}
		p.topic, p.shard, p.links = t, l.m.shard, p.one[:0]
		if t.parts == nil {
			t.parts = t.oneOfParts[:0]
		}
		t.parts = append(t.parts, p)
	}
	p.links = append(p.links, nil)
	p.put(l, len(p.links)-1)
	return p
}

// put makes l the link with the index i. topic.mu is held.
func (p *part) put(l *link, i int) {
	if i < p.visited && int(l.i) >= p.visited {
		p.again = true // this pass does not come to where l is now
	}
	p.links[i], l.i = l, int32(i)
}

// removeLink removes l, which must be there, from the topic's followers. The last link of
// the part takes its place; or the last wide one does, and the last link takes that one's
// place. mu is held.
func (t *topic) removeLink(l *link) {
	p := t.part(l.m.shard)
	i, last := int(l.i), len(p.links)-1
	if i < int(p.wide) {
		p.wide--
		p.put(p.links[p.wide], i)
		i = int(p.wide)
	}
	if i < last {
		p.put(p.links[last], i)
	}
	p.links[last] = nil
	p.links = p.links[:last]
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

// hasLinks reports whether members in sh follow the topic.
func (t *topic) hasLinks(sh *shard) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.part(sh)
	return p != nil && len(p.links) > 0
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
		t = &topic{name: name, first: 1, floor: h.droppedFloor}
		if d := h.dropped.byTopic[name]; d != nil {
			t.floor, t.own.evicted = d.floor, d.id
		}
		t.last.Store(h.droppedFloor)
		t.fin.Store(h.finished.byTopic[name])
		h.topics[name] = t
		h.mostTopics = max(h.mostTopics, len(h.topics))
	}
	return t
}

// useTopics fills ts with the topics with names, which it makes if necessary, and counts a
// use of each, so that they are not dropped.
func (h *Hub) useTopics(ts []*topic, names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range ts {
		ts[i] = h.topicLocked(names[i])
		ts[i].users++
	}
}

// releaseTopics gives up one use of each of ts.
func (h *Hub) releaseTopics(ts ...*topic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range ts {
		t.users--
		h.dropUnusedLocked(t)
	}
}

// roomForTopics makes a larger map of topics if most of those that it will have are n new
// ones. To let it grow would take longer. A smaller map follows when they have gone; see
// shrinkTopicsLocked.
func (h *Hub) roomForTopics(n int) {
	const small, ratio = 1024, 8 // few enough to be moved while publications wait
	if n <= small {
		return
	}
	h.mu.Lock()
	few := len(h.topics) <= n/ratio
	h.mu.Unlock()
	if !few {
		return
	}
	topics := make(map[string]*topic, n+n/ratio)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.topics) <= n/ratio {
		maps.Copy(topics, h.topics)
		h.topics, h.mostTopics = topics, max(h.mostTopics, n)
	}
}

// topicsAtOnce is for how many topics a goroutine holds a lock at a time, so that a member
// with many topics does not delay publications.
const topicsAtOnce = 64

// releaseLinks gives up the uses of the topics that links have led to.
func (h *Hub) releaseLinks(links []*link) {
	var ts [topicsAtOnce]*topic
	for some := range slices.Chunk(links, len(ts)) {
		for i, l := range some {
			ts[i] = l.topic
		}
		h.releaseTopics(ts[:len(some)]...)
	}
}

// dropUnusedLocked drops t if it has neither users nor entries. mu is held.
func (h *Hub) dropUnusedLocked(t *topic) {
	if t.users > 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries.len() == 0 {
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
