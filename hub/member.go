package hub

import (
	"errors"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// Member is a session that a hub serves. Its methods are safe for concurrent use, and
// may be called by hooks.
type Member struct {
	// What each delivery needs stands first and together; see sse.ServerSession.

	// state is who sends: whoever claims the member, and nobody else.
	state   atomic.Uint32
	caution atomic.Int32  // deliveries that should not hold up others
	cursor  atomic.Uint64 // offset up to which all has been sent
	told    atomic.Uint64 // offset of the last id that was sent
	session engine.Session
	hub     *Hub
	shard   *shard
	filter  func(*Message) bool

	mu    sync.Mutex
	slow  SlowPolicy
	left  bool  // mu guards it
	i     int32 // where it is in its shard; shard.mu guards it
	links []*link
	few   [1]*link // the links of nearly all
	one   link

	last uint64 // of the events in a write that is not finished
	cut  uint64 // likewise, what the cursor will be

	server   *sse.ServerSession
	snapshot func(*sse.ServerSession, Position) (Position, error)
	key      func(*Message) string
	info     any
}

// ErrKicked is matched by the cause of a session's end by [Member.Kick] or [Hub.Kick].
var ErrKicked = errors.New("hub: kicked")

// SlowError is the cause of a session's end by [SlowEnd]. It matches sse.ErrSlow.
type SlowError struct {
	Topic  string // of which events were lost
	Missed uint64 // how many
}

func (e *SlowError) Error() string {
	return fmt.Sprintf("hub: %d events of topic %q have left the log before the client took them", e.Missed, e.Topic)
}

// Unwrap returns sse.ErrSlow.
func (e *SlowError) Unwrap() error { return sse.ErrSlow }

// SnapshotError says that a Subscription's Snapshot has returned a position that is
// none of the hub's so far.
type SnapshotError struct{ Position Position }

func (e *SnapshotError) Error() string {
	return fmt.Sprintf("hub: Snapshot returned %v, which is no position of the hub", e.Position)
}

func newMember(h *Hub, s engine.Session, sub Subscription) *Member {
	m := &Member{
		hub:      h,
		shard:    h.shards[h.next.Add(1)%uint32(len(h.shards))],
		session:  s,
		filter:   sub.Filter,
		snapshot: sub.Snapshot,
		key:      sub.Key,
		info:     sub.Info,
		slow:     sub.Slow,
	}
	m.state.Store(stateBusy) // until it goes live
	m.links = m.few[:0]
	return m
}

// Info returns the Subscription's Info.
func (m *Member) Info() any { return m.info }

// Session returns the member's session.
func (m *Member) Session() *sse.ServerSession { return m.server }

// Topics returns the topics that m follows.
func (m *Member) Topics() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make([]string, len(m.links))
	for i, l := range m.links {
		names[i] = l.topic.name
	}
	return names
}

// Subscribe makes m follow more topics, from now on. Those that it follows already
// stay as they are. It fails for an empty name, and after the end of the session with
// an error that matches sse.ErrClosed.
func (m *Member) Subscribe(topics ...string) error {
	if slices.Contains(topics, "") {
		return fmt.Errorf("hub: subscribe: %w", errTopic)
	}
	for _, name := range topics {
		l, err := m.follow(name)
		if err != nil {
			return fmt.Errorf("hub: subscribe: %w", err)
		}
		if l != nil {
			m.join(l)
		}
	}
	return nil
}

// Unsubscribe makes m not follow topics anymore. An event that is being sent just now
// may still follow.
func (m *Member) Unsubscribe(topics ...string) {
	for _, name := range topics {
		m.mu.Lock()
		i := slices.IndexFunc(m.links, func(l *link) bool { return l.topic.name == name })
		if i < 0 {
			m.mu.Unlock()
			continue
		}
		l := m.links[i]
		m.links = slices.Delete(m.links, i, i+1)
		m.mu.Unlock()
		m.unlink(l, nil)
	}
}

// Kick ends the session of m. cause, which may be nil, is for the hooks and the log;
// the cause of the session's end matches it and [ErrKicked]. The client sees an
// orderly end, after which it may come back: it is for the handler to refuse it.
func (m *Member) Kick(cause error) { m.session.End(&kickError{cause}) }

type kickError struct{ cause error }

func (e *kickError) Error() string {
	if e.cause == nil {
		return ErrKicked.Error()
	}
	return ErrKicked.Error() + ": " + e.cause.Error()
}

func (e *kickError) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrKicked, sse.ErrClosed}
	}
	return []error{ErrKicked, sse.ErrClosed, e.cause}
}

// Members returns those who have joined topic at the time of the call, in no order.
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

// Count returns how many have joined topic.
func (h *Hub) Count(topic string) int {
	t := h.topic(topic)
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.present
}

// Kick ends the sessions of all who have joined topic, as [Member.Kick] does, and
// returns how many they were.
func (h *Hub) Kick(topic string, cause error) (n int) {
	for m := range h.Members(topic) {
		m.Kick(cause)
		n++
	}
	return n
}

func (h *Hub) topic(name string) *topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.topics[name]
}

// admit makes m a member that follows topics, unless the hub is closed.
func (h *Hub) admit(m *Member, topics []string) bool {
	h.mu.Lock()
	if h.closed.Load() {
		h.mu.Unlock()
		return false
	}
	h.members++
	h.mu.Unlock()
	m.shard.add(m)
	for _, name := range topics {
		_, _ = m.follow(name) // it has not left
	}
	return true
}

// follow links m to a topic, behind all there is. It returns nil if it was before.
func (m *Member) follow(name string) (*link, error) {
	h := m.hub
	h.mu.Lock()
	t := h.topicLocked(name)
	t.users++ // so that it stays
	h.mu.Unlock()

	l, err := m.link(t)
	if l == nil {
		h.release(t)
	}
	return l, err
}

func (m *Member) link(t *topic) (*link, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.left {
		return nil, sse.ErrClosed
	}
	for _, l := range m.links {
		if l.topic == t {
			return nil, nil //nolint:nilnil // neither a new link nor an error
		}
	}
	l := &m.one
	if l.topic != nil {
		l = new(link)
	}
	l.topic, l.m = t, m
	t.mu.Lock()
	l.next = t.end()
	t.follow(l)
	t.mu.Unlock()
	m.links = append(m.links, l)
	return l, nil
}

// release gives up a hold on t.
func (h *Hub) release(t *topic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t.users--
	h.forgetLocked(t)
}

// announce tells that m has joined its topics.
func (m *Member) announce() {
	m.mu.Lock()
	links := slices.Clone(m.links)
	m.mu.Unlock()
	for _, l := range links {
		m.join(l)
	}
}

// join makes m present in l's topic and tells of it, and if m has left meanwhile of
// that too.
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
		m.tellLeft(l)
	}
}

// unlink ends m's following of l's topic.
func (m *Member) unlink(l *link, cause error) {
	t := l.topic
	t.mu.Lock()
	t.unfollow(l)
	joined := l.present
	t.mu.Unlock()
	l.cause = cause
	if l.hooks.Swap(hooksLeft) == hooksJoined && joined {
		m.tellLeft(l)
	}
	m.hub.release(t)
}

func (m *Member) tellLeft(l *link) {
	on := m.hub.cfg.OnLeave
	if on == nil {
		return
	}
	if p := catch(func() { on(m, l.topic.name, l.cause) }); p != nil {
		m.hub.cfg.Logger.Error("hub: OnLeave panicked", "topic", l.topic.name, "panic", p.Value, "stack", string(p.Stack))
	}
}

// catch calls f, and returns what it panics with.
func catch(f func()) (p *sse.PanicError) {
	defer func() {
		if v := recover(); v != nil {
			p = &sse.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	f()
	return nil
}

// leave ends the membership.
func (m *Member) leave(cause error) {
	m.mu.Lock()
	links := m.links
	if m.left {
		m.mu.Unlock()
		return
	}
	m.left, m.links = true, nil
	m.mu.Unlock()
	if cause == nil {
		cause = sse.ErrClosed
	}
	for _, l := range links {
		m.unlink(l, cause)
	}
	if !m.shard.remove(m) {
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

// owner is a member as its session sees it.
type owner Member

// Ended implements engine.Owner.
func (o *owner) Ended(cause error) { (*Member)(o).leave(cause) }

// BeginHeartbeat implements engine.Owner: in place of a comment it appends m's
// position, if the client does not know it. What others are sent moves it on too, so
// that a client of a quiet topic that comes back after a long time is not behind the
// log. Until EndHeartbeat nobody sends anything that would be older, or newer.
func (o *owner) BeginHeartbeat(dst []byte) ([]byte, bool) {
	m := (*Member)(o)
	if !m.claim() {
		return dst, false
	}
	m.pass()
	cursor := m.cursor.Load()
	if cursor <= m.told.Load() {
		m.goOn()
		return dst, false
	}
	m.told.Store(cursor)
	return m.hub.appendPosition(dst, cursor), true
}

// pass moves the cursor past what others are sent.
func (m *Member) pass() {
	head := m.hub.head.Load() // before the topics are looked at: what is in one by then is no later
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		l.topic.mu.Lock()
		due := l.next < l.topic.end()
		l.topic.mu.Unlock()
		if due {
			return // and going to be sent
		}
	}
	m.cursor.Store(head)
}

// EndHeartbeat implements engine.Owner.
func (o *owner) EndHeartbeat() { (*Member)(o).goOn() }
