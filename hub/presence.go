package hub

import (
	"errors"
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
	return slices.Values(h.followers(topic, true))
}

// followers returns the members that follow topic; with joined, only those that have joined
// it.
func (h *Hub) followers(topic string, joined bool) (ms []*Member) {
	t := h.topic(topic)
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.parts {
		for _, l := range p.links {
			if l.present || !joined {
				ms = append(ms, l.m)
			}
		}
	}
	return ms
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

// admit makes m a member of the hub that follows topics. It returns sse.ErrShutdown if the
// hub is closed, or an error of follow.
func (h *Hub) admit(m *Member, topics []string) error {
	h.mu.Lock()
	if h.closed.Load() {
		h.mu.Unlock()
		return sse.ErrShutdown
	}
	h.members++
	if h.follower != nil {
		m.logged = &logged{admitted: h.head.Load()}
	}
	h.mu.Unlock()
	m.shard.addMember(m)
	if len(topics) > wideTopics {
		m.mu.Lock()
		m.widen(min(len(topics), h.cfg.MaxTopics))
		m.mu.Unlock()
	}
	if err := m.follow(topics, atOpening, nil); err != nil && !errors.Is(err, sse.ErrClosed) { // m may have been kicked
		return err
	}
	if h.closed.Load() { // Shutdown may have looked for m before it was there
		m.endSoon(sse.ErrShutdown)
	}
	return nil
}

// follow makes m follow the topics with names, from start on, and appends the new links to
// links if it is not nil. It makes none for a topic that m follows already. It returns
// sse.ErrClosed if m has left the hub, a *TooManyTopicsError, or a *GapError; m then follows
// the topics before the one for which that was so.
func (m *Member) follow(names []string, start Start, links *[]*link) (err error) {
	var ts [topicsAtOnce]*topic
	m.hub.roomForTopics(min(len(names), m.hub.cfg.MaxTopics))
	for len(names) > 0 && err == nil {
		some := ts[:min(len(names), len(ts))]
		m.hub.useTopics(some, names)
		names = names[len(some):]
		var unused []*topic
		if unused, err = m.link(some, start, links); len(unused) > 0 {
			m.hub.releaseTopics(unused...)
		}
	}
	return err
}

// link links m to ts. The caller has counted a use of each, which the new link takes over.
// It returns those of ts that it has not linked; they are at the front of ts. The rest is as
// for follow.
func (m *Member) link(ts []*topic, start Start, links *[]*link) (unused []*topic, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var memory []link
	unused = ts[:0]
	for i, t := range ts {
		var l *link
		if err == nil {
			if len(memory) == 0 {
				memory = m.linkMemory(len(ts) - i)
			}
			l, err = m.linkTopic(t, start, &memory[0])
		}
		switch {
		case l == nil:
			unused = append(unused, t)
			continue
		case links != nil:
			*links = append(*links, l)
		}
		memory = memory[1:]
	}
	return unused, err
}

// linksAtOnce is how many links are allocated together, because that costs less than one after
// the other. They are freed together, so it must be a small number.
const linksAtOnce = 12

// linkMemory returns memory for up to n links, and for one at least. mu is held.
func (m *Member) linkMemory(n int) []link {
	if m.one[0].topic == nil {
		return m.one[:]
	}
	return make([]link, min(n, linksAtOnce))
}

// linkTopic links m to t and returns l, which is the new link. It returns nil if m follows t
// already. The rest is as for link. m.mu is held.
func (m *Member) linkTopic(t *topic, start Start, l *link) (*link, error) {
	if m.left {
		return nil, sse.ErrClosed
	}
	if t.hasLinks(m.shard) && m.linkIndex(t) >= 0 {
		return nil, nil //nolint:nilnil // neither a new link nor an error
	}
	if limit := m.hub.cfg.MaxTopics; len(m.links) >= limit {
		return nil, &TooManyTopicsError{limit}
	}
	if len(m.links) == wideTopics && m.wide == nil {
		m.widen(2 * wideTopics)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next, err := m.startOf(t, start)
	if err != nil {
		return nil, err
	}
	l.topic, l.m, l.next = t, m, next
	p := t.addLink(l)
	if w := m.wide; w != nil {
		p.addWide(l)
		if w.index != nil {
			w.index[t] = int32(len(m.links))
		}
		if next < t.end() {
			w.addNews(l)
		}
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
		m.callOnLeave([]*link{l})
	}
}

// unlink removes l from its topic's followers, for the reason that hooks says. It reports
// whether the caller must call OnLeave: OnJoin has returned then; see join. The use of the
// topic is still counted.
func (m *Member) unlink(l *link, hooks uint32) bool {
	t := l.topic
	t.mu.Lock()
	t.removeLink(l)
	l.dropped = hooks == hooksUnsubscribed
	joined := l.present
	t.mu.Unlock()
	return l.hooks.Swap(hooks) == hooksJoined && joined
}

// callOnLeave calls OnLeave for links that have been removed, and logs its panics. The cause
// is that of m's ending, but after Unsubscribe it is nil.
func (m *Member) callOnLeave(links []*link) {
	on := m.hub.cfg.OnLeave
	if on == nil {
		return
	}
	for _, l := range links {
		var cause error
		if l.hooks.Load() == hooksLeft {
			cause = m.ending.Load().cause
		}
		if p := catch(func() { on(m, l.topic.name, cause) }); p != nil {
			m.hub.cfg.Logger.Error("hub: OnLeave panicked", "topic", l.topic.name, "panic", p.Value, "stack", string(p.Stack))
		}
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

// depart removes m from its topics' followers, if it has not departed already, and returns
// those links for which the caller must call OnLeave. m.links stays as it is: the last
// delivery reads it.
func (m *Member) depart() (told []*link) {
	m.mu.Lock()
	if m.left {
		m.mu.Unlock()
		return nil
	}
	m.left = true
	links := m.links // does not change any longer
	wide := m.wide
	m.mu.Unlock()
	if wide != nil {
		m.shard.announce() // what was published before gives news only to links that are in their topics
	}
	for _, l := range links {
		if m.unlink(l, hooksLeft) && m.hub.cfg.OnLeave != nil {
			told = append(told, l)
		}
	}
	return told
}

// leave removes m from its topics and from the hub, when its session has ended or Serve
// returns. cause is for OnLeave, unless m was kicked; nil means sse.ErrClosed. leave returns
// the shutdown, if any, that was to end the session.
func (m *Member) leave(cause error) (shutdown *ending) {
	if cause == nil {
		cause = sse.ErrClosed
	}
	now, shutdown := m.endLeaving(cause)
	m.callOnLeave(m.depart())
	now.hooks.Wait() // so that OnLeave has been called when the session is over
	m.mu.Lock()
	links := m.links
	m.links = nil
	if m.wide != nil {
		m.wide.index = nil
	}
	m.mu.Unlock()
	m.hub.releaseLinks(links)
	if !m.shard.removeMember(m) {
		return shutdown // it was not admitted
	}
	h := m.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members--
	if h.members == 0 && h.closed.Load() {
		close(h.gone)
	}
	return shutdown
}
