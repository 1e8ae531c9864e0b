package hub

import (
	"sort"
	"sync"
	"sync/atomic"
)

// topic is the part of the log with one name, and who follows it. Its entries are
// those of the hub's log, in the same order, so a reader of one topic sees nothing of
// the others.
//
// Locks are taken in the order Hub.mu, Member.mu, topic.mu, shard.mu.
type topic struct {
	name string
	last atomic.Uint64 // offset of the newest entry there ever was

	mu      sync.Mutex
	entries deque[*entry]
	first   uint64  // number in the topic of the first of entries; the next one has one more
	floor   uint64  // offset up to which entries may be missing
	parts   []*part // one for each shard that has followers
	present int     // members who have joined

	users int // links and joins that hold on to it; guarded by Hub.mu
}

// end is the number that the next entry is going to have. mu is held.
func (t *topic) end() uint64 { return t.first + uint64(t.entries.len()) }

// after returns the number of the first entry behind offset. mu is held.
func (t *topic) after(offset uint64) uint64 {
	n := t.entries.len()
	if n == 0 || t.entries.at(n-1).Position.Offset <= offset {
		return t.end() // as for nearly all
	}
	return t.first + uint64(sort.Search(n, func(i int) bool { return t.entries.at(i).Position.Offset > offset }))
}

// part is the followers of a topic in one shard. Its topic's mu guards it.
//
// A shard goes through the links in passes, and delivers to each member all that is due
// when it comes to it. What has come since the pass began makes another.
type part struct {
	topic *topic
	shard *shard
	links []*link

	queued bool   // a pass is due, or under way
	pos    int    // where in it
	newest uint64 // entry when it began
	again  bool   // a link may have been passed over
	stalls int    // members that have held up a worker in it
}

// link is a member's reading of a topic.
type link struct {
	topic *topic
	m     *Member
	next  uint64 // number of the entry to read next; Member.mu guards it

	i       int  // where it is in its part; topic.mu guards this and the next
	present bool // it counts for the topic's presence
	left    bool

	hooks atomic.Uint32
	cause error // of leaving; set before hooks is hooksLeft
}

const (
	hooksNew    uint32 = iota // OnJoin has not returned
	hooksJoined               // OnLeave is to be called
	hooksLeft
)

// follow adds l to the followers. mu is held.
func (t *topic) follow(l *link) {
	p := t.part(l.m.shard)
	if p == nil {
		p = &part{topic: t, shard: l.m.shard}
		t.parts = append(t.parts, p)
	}
	l.i = len(p.links)
	p.links = append(p.links, l)
}

// unfollow takes l out. mu is held.
func (t *topic) unfollow(l *link) {
	p := t.part(l.m.shard)
	last := len(p.links) - 1
	moved := p.links[last]
	p.links[l.i], p.links[last] = moved, nil
	moved.i = l.i
	p.links = p.links[:last]
	if p.pos > l.i {
		p.again = true // the pass is beyond where moved now is
	}
	l.left = true
	if l.present {
		t.present--
	}
	if cap(p.links) > 64 && last < cap(p.links)/4 {
		p.links = append(make([]*link, 0, cap(p.links)/2), p.links...)
	}
}

func (t *topic) part(sh *shard) *part {
	for _, p := range t.parts {
		if p.shard == sh {
			return p
		}
	}
	return nil
}

// take begins a pass or goes on with one: it fills ms with the next members.
func (p *part) take(ms []*Member) (n, stalls int) {
	t := p.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.pos == 0 {
		p.newest, p.again, p.stalls = t.last.Load(), false, 0
	}
	p.pos = min(p.pos, len(p.links))
	for n < len(ms) && p.pos < len(p.links) {
		ms[n] = p.links[p.pos].m
		n, p.pos = n+1, p.pos+1
	}
	return n, p.stalls
}

// more reports whether there is more to do, in this pass, which has had so many stalls,
// or in another.
func (p *part) more(stalls int) bool {
	t := p.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.pos < len(p.links) {
		p.stalls = stalls
		return true
	}
	p.pos = 0
	p.queued = len(p.links) > 0 && (p.again || t.last.Load() > p.newest)
	return p.queued
}
