package hub

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// Member is a session that a hub serves. Its methods are safe for concurrent use, and hooks
// may call them.
type Member struct {
	// The fields that each delivery needs come first and together, so that they share cache
	// lines; see sse.ServerSession. For the locks see doc.go.

	state   atomic.Uint32 // who may send: see claim.go
	caution atomic.Int32  // how many deliveries the worker leaves to other goroutines
	cursor  atomic.Uint64 // offset up to which every event has been sent or filtered out
	lastID  atomic.Uint64 // offset of the last id that was sent
	ending  atomic.Pointer[ending]
	session engine.Session
	hub     *Hub
	shard   *shard
	logged  *logged // nil without Config.Log

	filter  func(*Message) bool
	mu      sync.Mutex
	slow    SlowPolicy // does not change
	left    bool       // its topics, to which links may lead on; mu guards it
	rewound bool       // mu guards it; see subscribe.go
	i       int32      // index in its shard's members; shard.mu guards it
	links   []*link    // mu guards it
	few     [1]*link   // memory of links: most members follow one topic
	one     [1]link    // memory of the first link

	last uint64 // offset of the last id in the current write; the claimant's
	cut  uint64 // where the cursor belongs after that write; the claimant's

	catchUp uint64 // offset at which m has caught up, or 0; the claimant's; see subscribe.go

	server   *sse.ServerSession
	snapshot func(*sse.ServerSession, Position) (Position, error)
	info     any
	latest   *latest // nil unless slow is SlowLatest
	wide     *wide   // nil until it follows many topics; mu guards the pointer
}

// newMember returns a member for s, which the caller has claimed. It follows no topic yet,
// and is not in its shard.
func newMember(h *Hub, s engine.Session, sub Subscription) *Member {
	m := &Member{
		hub:      h,
		shard:    h.shards[h.next.Add(1)%uint32(len(h.shards))],
		session:  s,
		filter:   sub.Filter,
		snapshot: sub.Snapshot,
		info:     sub.Info,
		slow:     sub.Slow,
	}
	if sub.Slow == SlowLatest {
		m.latest = &latest{key: sub.Key}
	}
	m.state.Store(stateBusy) // until its session is open
	m.links = m.few[:0]
	return m
}

// Info returns the Subscription's Info. See [InfoOf] for its own type.
func (m *Member) Info() any { return m.info }

// InfoOf returns the Info of m's Subscription as a T, and whether it is one. T must be the type
// of the value, or an interface that it implements. Without an Info, InfoOf reports false.
func InfoOf[T any](m *Member) (info T, ok bool) {
	info, ok = m.info.(T)
	return info, ok
}

// Session returns the member's session.
func (m *Member) Session() *sse.ServerSession { return m.server }

// Since returns when the request for m's session came.
func (m *Member) Since() time.Time { return m.session.Began() }

// Topics returns the topics that m follows.
func (m *Member) Topics() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left {
		return nil
	}
	names := make([]string, len(m.links))
	for i, l := range m.links {
		names[i] = l.topic.name
	}
	return names
}

// topicsForLog returns the first of the topics that m follows, and how many more there are.
// A client can cause a line of the log with any id, so the line must not be long.
func (m *Member) topicsForLog() []string {
	const most = 16
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, l := range m.links[:min(most, len(m.links))] {
		names = append(names, l.topic.name)
	}
	if more := len(m.links) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return names
}

// TooManyTopicsError reports that a member would follow more topics than Config.MaxTopics
// allows.
type TooManyTopicsError struct {
	Max int // Config.MaxTopics
}

func (e *TooManyTopicsError) Error() string {
	return fmt.Sprintf("a member may follow at most %d topics (Config.MaxTopics)", e.Max)
}

// Unsubscribe makes m stop following topics. An event that is being sent at that moment may
// still arrive.
func (m *Member) Unsubscribe(topics ...string) {
	for _, name := range topics {
		if l := m.removeLink(name); l != nil {
			if m.unlink(l, hooksUnsubscribed) {
				m.callOnLeave([]*link{l})
			}
			m.hub.releaseTopics(l.topic)
			m.endIfFinished()
		}
	}
}

// removeLink removes the link to the topic with name from m.links, and returns it; nil if
// there is none.
func (m *Member) removeLink(name string) *link {
	t := m.hub.topic(name) // nil if nobody follows it
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.linkIndex(t)
	if i < 0 || m.left {
		return nil
	}
	l := m.links[i]
	if m.logged != nil {
		delete(m.logged.since, t)
		delete(m.logged.starts, t)
	}
	if m.wide == nil {
		m.links = slices.Delete(m.links, i, i+1)
		return l
	}
	last := len(m.links) - 1
	moved := m.links[last]
	m.links[i], m.links[last] = moved, nil
	m.links = m.links[:last]
	m.wide.index[moved.topic] = int32(i)
	delete(m.wide.index, t)
	m.wide.dropNews(l)
	return l
}

// linkIndex returns where the link to t is in m.links, or -1. mu is held.
func (m *Member) linkIndex(t *topic) int {
	if m.wide != nil {
		return m.wide.find(t, m.links)
	}
	return slices.IndexFunc(m.links, func(l *link) bool { return l.topic == t })
}
