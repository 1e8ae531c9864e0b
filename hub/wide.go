package hub

import (
	"slices"
	"sync"
)

// A delivery to a member with a few topics looks at each of them. With thousands of topics
// that would cost far more than the one event that there usually is. So a wide member has a
// list of the links that have news:
//
//  1. A publication puts the topic's parts with links of wide members into their shards'
//     list of parts to announce, before it moves Hub.head. So it takes no longer because of
//     the number of followers.
//  2. Before a claimant reads from a wide member's topics, it announces what is in its
//     shard's list: it puts those links into their members' news (announce). Then each
//     event up to the head, as it was before, is in a topic whose link has news, or has had
//     unread entries before.
//  3. The claimant moves the member's news to the heap of links with unread entries, from
//     which it reads (takeNews, merge.go). A link stays there until all is read.

// wideTopics is the number of topics from which on a member is wide. It stays wide.
const wideTopics = 16

// wide is what a wide member has in addition.
type wide struct {
	index      map[*topic]int32 // where a topic's link is in Member.links; nil until that is asked; Member.mu guards it
	unfinished int              // index of a link to a topic that was not finished; Member.mu guards it
	heads      heads            // links with unread entries; the claimant's

	mu   sync.Mutex
	news []*link // with newsYes, or newsGone; mu guards them
	gone int     // how many have newsGone
	old  []*link // memory for news
}

// The values of link.news. The wide member's wide.mu guards it.
const (
	newsNo   uint8 = iota
	newsYes        // the link is in wide.news
	newsGone       // the link has been removed from the member's links
)

// widen makes m wide, with memory for so many topics. m.mu is held.
func (m *Member) widen(topics int) {
	w := new(wide)
	m.links = slices.Grow(m.links, topics-len(m.links))
	m.wide = w
	for _, l := range m.links {
		w.addNews(l) // it may have unread entries
	}
	for _, l := range m.links {
		l.topic.mu.Lock()
		l.topic.part(m.shard).addWide(l)
		l.topic.mu.Unlock()
	}
}

// find returns where the link to t is in links, which are the member's, or -1. Few members ask,
// and an entry of the index takes a tenth of the time to follow a topic, so the index is made
// when one asks. Member.mu is held.
func (w *wide) find(t *topic, links []*link) int {
	if w.index == nil {
		w.index = make(map[*topic]int32, cap(links))
		for i, l := range links {
			w.index[l.topic] = int32(i)
		}
	}
	if i, ok := w.index[t]; ok {
		return int(i)
	}
	return -1
}

// addWide puts l, which is in its part, among the links of wide members. topic.mu is held.
func (p *part) addWide(l *link) {
	p.put(p.links[p.wide], int(l.i))
	p.put(l, int(p.wide))
	p.wide++
}

// toAnnounce adds the topic's parts that have links of wide members to the lists of their
// shards. mu is held.
func (t *topic) toAnnounce() {
	for _, p := range t.parts {
		if p.wide > 0 && !p.announce {
			p.announce = true
			p.shard.mu.Lock()
			p.shard.news.push(p)
			p.shard.mu.Unlock()
		}
	}
}

// announce gives news to the wide members among the followers of the shard's parts to
// announce. When it returns, another goroutine's announcement is complete as well.
func (sh *shard) announce() {
	sh.announcing.Lock()
	defer sh.announcing.Unlock()
	for {
		sh.mu.Lock()
		if sh.news.len() == 0 {
			sh.mu.Unlock()
			return
		}
		p := sh.news.pop()
		sh.mu.Unlock()
		p.topic.mu.Lock()
		p.announce = false
		for _, l := range p.links[:p.wide] {
			l.m.wide.addNews(l)
		}
		p.topic.mu.Unlock()
	}
}

// addNews says that l may have unread entries.
func (w *wide) addNews(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.news == newsNo {
		l.news = newsYes
		w.news = append(w.news, l)
	}
}

// dropNews is for a link that has been removed from the member's links.
func (w *wide) dropNews(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if l.news == newsYes {
		w.gone++
	}
	l.news = newsGone
	if w.gone <= len(w.news)/2 {
		return
	}
	kept := w.news[:0] // so that news has no more than twice as many links as the member
	for _, l := range w.news {
		if l.news == newsYes {
			kept = append(kept, l)
		}
	}
	clear(w.news[len(kept):])
	w.news, w.gone = kept, 0
}

// takeNews moves the news to the heap of links with unread entries. It returns how many
// links it has looked at. The caller has claimed the member.
func (w *wide) takeNews() (looked uint64) {
	w.mu.Lock()
	news := w.news
	w.news, w.old, w.gone = w.old[:0], nil, 0
	n := 0
	for _, l := range news {
		if l.news == newsYes {
			l.news = newsNo
			news[n] = l
			n++
		}
	}
	w.mu.Unlock()
	for _, l := range news[:n] {
		w.addUnread(l)
	}
	clear(news)
	if cap(news) <= 4*batchEvents {
		w.old = news // only the claimant uses it
	}
	return uint64(n)
}

// addUnread puts l into the heap if it has unread entries and is not there. The caller has
// claimed the member.
func (w *wide) addUnread(l *link) {
	if l.unread {
		return
	}
	w.addHead(l.nextOffset(), l)
}

// addHead puts l, whose next entry has offset, into the heap, unless offset is none.
func (w *wide) addHead(offset uint64, l *link) {
	if offset != none {
		l.unread = true
		w.heads.push(offset, l)
	}
}

// dropUnread empties the heap, because the member's links are about to be moved. The caller
// has claimed the member, and adds the links that have unread entries then.
func (w *wide) dropUnread() {
	for _, h := range w.heads {
		h.l.unread = false
	}
	clear(w.heads)
	w.heads = w.heads[:0]
}

// findUnread makes the heap of a wide member anew, after its links have been moved. The
// caller has claimed m. m.mu is held.
func (m *Member) findUnread() {
	if w := m.wide; w != nil {
		w.dropUnread()
		for _, l := range m.links {
			w.addUnread(l)
		}
	}
}

// unsent reports whether a wide member has unsent events up to the offset upTo, which the
// caller has read from Hub.head. The caller has claimed the member.
func (m *Member) unsent(w *wide, upTo uint64) bool {
	m.shard.announce()
	w.takeNews()
	for w.heads.first() <= upTo {
		known := w.heads.first()
		offset := w.heads[0].l.nextOffset()
		if offset <= known {
			return true
		}
		w.heads.update(offset) // the link has left its topic, or gather has not used the heap
	}
	return false
}
