package hub

import (
	"context"
	"net/http"
	"slices"

	"github.com/chi-sse/sse"
)

// modelClient is a client that connects and disconnects.
type modelClient struct {
	name     string
	mode     modelMode
	topics   []string
	filter   func(*modelEvent) bool
	slow     SlowPolicy
	byKey    bool
	snapshot bool
	seen     string   // its last event id
	owed     []string // topics for which a gap event promised a snapshot, which it has not received
	blocked  bool     // it does not read
	session  *modelSession
}

// modelMode says what a write to a session does if the client does not read.
type modelMode int

const (
	modelBlocks  modelMode = iota // it waits, as through net/http
	modelPending                  // it returns with pending, as in a detached session
)

func (m *model) newClient(i int) *modelClient {
	c := &modelClient{
		name: string(rune('A' + i)), mode: modelMode(m.src.intn(2)), topics: m.someTopics(),
		slow: SlowPolicy(m.src.intn(3)), snapshot: m.src.intn(4) == 0,
	}
	c.byKey = c.slow == SlowLatest && m.src.intn(2) == 0
	switch m.src.intn(6) {
	case 0, 1:
		c.filter = func(e *modelEvent) bool { return e.key == "k0" || e.key == "k1" }
	case 2:
		c.filter = func(e *modelEvent) bool { return false }
	}
	m.tracef("client %s: mode %d, topics %q, slow %d by key %t, filter %t, snapshot %t", c.name, c.mode, c.topics, c.slow, c.byKey, c.filter != nil, c.snapshot)
	return c
}

func (m *model) someTopics() (topics []string) {
	for range []int{1, 1, 1, 2, 3, 5, 0}[m.src.intn(7)] {
		topics = append(topics, modelTopics[m.src.intn(len(modelTopics))]) // perhaps a topic twice
	}
	return topics
}

func (m *model) someClient(absent bool) *modelClient {
	from := m.src.intn(len(m.clients))
	for i := range m.clients {
		if c := m.clients[(from+i)%len(m.clients)]; (c.session == nil) == absent {
			return c
		}
	}
	return nil
}

// someSession returns the session of a random client, or nil if there is none or it may be
// about to end.
func (m *model) someSession() *modelSession {
	if c := m.someClient(false); c != nil && !c.session.mayEnd && c.session.member.Load() != nil {
		return c.session
	}
	return nil
}

// join connects a client that is not connected. If nothing else happens in this step
// (alone), the client may use another id than its own, and other topics.
func (m *model) join(alone bool) {
	c := m.someClient(true)
	if c == nil {
		return
	}
	s := &modelSession{
		model: m, client: c, follow: make(map[string]uint64), got: make(map[string]uint64), id: c.seen,
		wasHead: m.head(), vague: !alone, w: modelWriter{header: make(http.Header)},
	}
	start, startName := m.someStart(alone)
	if alone {
		switch m.src.intn(10) {
		case 0, 1:
			s.id = "" // it starts as a new client
		case 2:
			s.id = []string{"what", "own-0", m.idOf(Position{m.h.spans.last().epoch, s.wasHead + 1}), m.idOf(Position{m.h.spans.last().epoch + 1, 1})}[m.src.intn(4)]
		}
		if m.src.intn(8) == 0 {
			c.topics = m.someTopics()
		}
	}
	if s.id != "" {
		m.totals.Resumed++
	}
	if c.blocked = m.src.intn(8) == 0; c.blocked {
		gate := make(chan struct{})
		s.gate.Store(&gate)
	}
	s.sub = Subscription{Topics: c.topics, Start: start, Slow: c.slow, Info: s}
	if filter := c.filter; filter != nil {
		s.sub.Filter = func(msg *Message) bool {
			if s.asking.Add(1) != 1 {
				m.fault("%s: two calls of Filter at a time", s)
			}
			defer s.asking.Add(-1)
			return filter(&modelEvent{topic: msg.Topic, key: msg.Event.Name})
		}
	}
	if c.byKey {
		s.sub.Key = func(msg *Message) string { return msg.Topic + "/" + msg.Event.Name }
	}
	if c.snapshot {
		back := uint64(m.src.intn(4)) * uint64(m.src.intn(4))
		s.sub.Snapshot = func(server *sse.ServerSession, at Position) (Position, error) {
			return s.takeSnapshot(server, at, back)
		}
	}
	for _, t := range c.topics {
		s.follow[t] = 0
	}
	id := s.id
	s.came = id
	m.expect(s, start)
	s.owed = c.owed != nil && !slices.ContainsFunc(c.owed, func(t string) bool { return !slices.Contains(c.topics, t) })
	m.tracef("%s joins with id %q, start %s, blocked %t, topics %q: from %d, gap %q must %t", c.name, s.id, startName, c.blocked, c.topics, s.pos, s.gap, s.mustGap)

	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), modelKey{}, s))
	s.cancel, c.session = cancel, s
	m.sessions = append(m.sessions, s)
	m.totals.Sessions++
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
	if err != nil {
		m.t.Fatal(err)
	}
	if id != "" {
		r.Header.Set("Last-Event-ID", id)
	}
	go func() {
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				m.fault("%s: panic: %v", s, v)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ended = true
		}()
		m.router.ServeHTTP(&s.w, r)
	}()
}

func (s *modelSession) takeSnapshot(server *sse.ServerSession, at Position, back uint64) (Position, error) {
	s.mu.Lock()
	at.Offset -= min(back, at.Offset)
	s.items = append(s.items, modelItem{kind: modelIsSnapshot, pos: at})
	s.model.addTo(&s.model.totals.Snapshots)
	s.mu.Unlock()
	return at, server.Send(sse.Event{Name: "snapshot", Data: at.String()})
}

func (m *model) someStart(alone bool) (Start, string) {
	if !alone {
		return Now, "now"
	}
	switch m.src.intn(5) {
	case 0:
		return Beginning, "beginning"
	case 1:
		return Latest, "latest"
	case 2:
		p := Position{m.h.spans.last().epoch, uint64(m.src.intn(int(m.head()) + 2))}
		return After(p), "after " + p.String()
	}
	return Now, "now"
}
