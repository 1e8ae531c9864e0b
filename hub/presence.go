package hub

import (
	"iter"
	"runtime/debug"
	"slices"

	"github.com/chi-sse/sse"
)

// A member follows a topic as soon as its link is in the topic (follow, link): workers then
// deliver to it. It joins the topic (join) when its session is open: it is then present,
// which means that Members and Count include it, and OnJoin is called. It leaves the topic
// when its link is removed (unlink).

// Members returns the members that have joined topic at the time of the call, in no
// particular order.
func (h *Hub) Members(topic string) iter.Seq[*Member] {
	var ms []*Member
	if t := h.topic(topic); t != nil {
		t.mu.Lock()
		for _, p := range t.parts {
			for _, l := range p.links {
				if l.present {
					ms = append(ms, l.m)
				}
			}
		}
		t.mu.Unlock()
	}
	return slices.Values(ms)
}

// Count returns the number of members that have joined topic.
func (h *Hub) Count(topic string) int {
	t := h.topic(topic)
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.present
}

// Kick ends the sessions of all members that have joined topic, as [Member.Kick] does. It
// returns their number.
func (h *Hub) Kick(topic string, cause error) (n int) {
	for m := range h.Members(topic) {
		m.Kick(cause)
		n++
	}
	return n
}

// admit makes m a member of the hub that follows topics. It returns sse.ErrShutdown if the
// hub is closed, or an error of follow.
func (h *Hub) admit(m *Member, topics []string) error {
	h.mu.Lock()
	if h.closed.Load() {
		h.mu.Unlock()
		return sse.ErrShutdown
	}
	h.members++
	h.mu.Unlock()
	m.shard.addMember(m)
	if len(topics) > wideTopics {
		m.mu.Lock()
		m.widen(min(len(topics), h.cfg.MaxTopics))
		m.mu.Unlock()
	}
	for _, name := range topics {
		if _, err := m.follow(name); err != nil {
			return err
		}
	}
	return nil
}

// follow makes m follow the topic with name, from the next event on. It returns the new
// link, or nil if m follows the topic already. It returns sse.ErrClosed if m has left the
// hub, or a *TooManyTopicsError.
func (m *Member) follow(name string) (*link, error) {
	h := m.hub
	h.mu.Lock()
	t := h.topicLocked(name)
	t.users++ // so that it is not dropped
	h.mu.Unlock()

	l, err := m.link(t)
	if l == nil {
		h.releaseTopic(t)
	}
	return l, err
}

// link links m to t. The caller has counted a use of t, which the new link takes over. The
// results are those of follow.
func (m *Member) link(t *topic) (*link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left {
		return nil, sse.ErrClosed
	}
	if m.linkIndex(t) >= 0 {
		return nil, nil //nolint:nilnil // neither a new link nor an error
	}
	if limit := m.hub.cfg.MaxTopics; len(m.links) >= limit {
		return nil, &TooManyTopicsError{limit}
	}
	if len(m.links) == wideTopics && m.wide == nil {
		m.widen(2 * wideTopics)
	}
	l := &m.one
	if l.topic != nil {
		l = new(link)
	}
	l.topic, l.m = t, m
	t.mu.Lock()
	l.next = t.end()
	t.addLink(l)
	if m.wide != nil {
		t.addWide(l)
	}
	t.mu.Unlock()
	if m.wide != nil {
		m.wide.index[t] = int32(len(m.links))
	}
	m.links = append(m.links, l)
	return l, nil
}

// joinTopics makes m join the topics that it follows.
func (m *Member) joinTopics() {
	m.mu.Lock()
	links := slices.Clone(m.links)
	m.mu.Unlock()
	for _, l := range links {
		m.join(l)
	}
}

// join makes m present in l's topic and calls OnJoin. If l has been removed while OnJoin
// ran, join also calls OnLeave, so that OnLeave always comes after OnJoin has returned. Of
// join and unlink, the one that changes l.hooks second calls it.
func (m *Member) join(l *link) {
	t := l.topic
	t.mu.Lock()
	if l.left {
		t.mu.Unlock()
		return
	}
	l.present = true
	t.present++
	t.mu.Unlock()
	if on := m.hub.cfg.OnJoin; on != nil {
		if p := catch(func() { on(m, t.name) }); p != nil {
			m.session.End(p)
		}
	}
	if !l.hooks.CompareAndSwap(hooksNew, hooksJoined) {
		m.callOnLeave(l)
	}
}

// unlink removes l, which is no longer in m.links, from its topic. It calls OnLeave with
// cause, if OnJoin has returned; see join.
func (m *Member) unlink(l *link, cause error) {
	t := l.topic
	t.mu.Lock()
	t.removeLink(l)
	joined := l.present
	t.mu.Unlock()
	l.cause = cause
	if l.hooks.Swap(hooksLeft) == hooksJoined && joined {
		m.callOnLeave(l)
	}
	m.hub.releaseTopic(t)
}

// callOnLeave calls OnLeave for l, and logs its panic.
func (m *Member) callOnLeave(l *link) {
	on := m.hub.cfg.OnLeave
	if on == nil {
		return
	}
	if p := catch(func() { on(m, l.topic.name, l.cause) }); p != nil {
		m.hub.cfg.Logger.Error("hub: OnLeave panicked", "topic", l.topic.name, "panic", p.Value, "stack", string(p.Stack))
	}
}

// catch calls f. If f panics, it returns the panic as an error, and otherwise nil.
func catch(f func()) (p *sse.PanicError) {
	defer func() {
		if v := recover(); v != nil {
			p = &sse.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	f()
	return nil
}

// leave removes m from its topics and from the hub, if it has not left already. cause is
// for OnLeave; nil means sse.ErrClosed.
func (m *Member) leave(cause error) {
	m.mu.Lock()
	links := m.links
	if m.left {
		m.mu.Unlock()
		return
	}
	m.left, m.links = true, nil
	if m.wide != nil {
		m.wide.index = nil
	}
	m.mu.Unlock()
	if cause == nil {
		cause = sse.ErrClosed
	}
	for _, l := range links {
		m.unlink(l, cause)
	}
	if !m.shard.removeMember(m) {
		return // it was not admitted
	}
	h := m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members--
	if h.members == 0 && h.closed.Load() {
		close(h.gone)
	}
}
