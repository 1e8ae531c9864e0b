package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chi-sse/sse"
)

func (m *model) step() {
	m.before, m.beaten = m.stateBefore(), false
	switch m.src.intn(20) {
	case 0, 1, 2, 3, 4:
		n := 1 + m.src.intn(3)
		m.tracef("publish %d", n)
		for range n {
			m.publish(m.choice())
		}
	case 5, 6, 7, 8:
		m.join(true)
	case 9, 10:
		m.leave()
	case 11, 12:
		m.stopReading()
	case 13, 14:
		m.resumeReading()
	case 15:
		if m.src.intn(2) == 0 {
			m.subscribeFrom()
		} else {
			m.resubscribe()
		}
	case 16:
		d := []time.Duration{20, 100, 1000, 5000}[m.src.intn(4)] * time.Millisecond
		m.tracef("sleep %v", d)
		time.Sleep(d)
		m.beaten = m.beat > 0 && d > 2*m.beat
	case 17:
		n := m.logEvents + m.src.intn(5)
		if m.logEvents > 100 {
			n = 400 + m.src.intn(1000)
		}
		m.tracef("flood of %d", n)
		c := m.choice()
		for range n {
			c.key = (c.key + 1) % 4
			m.publish(c)
		}
	case 18, 19:
		m.burst()
	}
}

// burst does several things concurrently.
func (m *model) burst() {
	n := 2 + m.src.intn(4)
	m.tracef("at once %d:", n)
	var done sync.WaitGroup
	for range n {
		switch m.src.intn(8) {
		case 0:
			m.join(false)
		case 1:
			m.leave()
		case 2:
			m.stopReading()
		case 3:
			m.resumeReading()
		case 4:
			if s := m.someSession(); s != nil {
				m.tracef("kick %s", s)
				s.mayEnd = true
				done.Go(s.kick)
			}
		default:
			c, count := m.choice(), 1+m.src.intn(6)
			m.tracef("publish %d", count)
			done.Go(func() {
				for range count {
					m.publish(c)
				}
			})
		}
	}
	done.Wait()
}

// modelChoice describes an event that is to be published.
type modelChoice struct {
	topic, key  int
	silent, big bool
}

func (m *model) choice() modelChoice {
	return modelChoice{
		topic: m.src.intn(len(modelTopics)), key: m.src.intn(4),
		silent: m.src.intn(12) == 0, big: m.src.intn(16) == 0,
	}
}

func (m *model) publish(c modelChoice) {
	m.mu.Lock()
	m.number++
	n := m.number
	m.mu.Unlock()
	e := modelEvent{topic: modelTopics[c.topic], key: "k" + strconv.Itoa(c.key), data: strconv.Itoa(n), at: time.Now()}
	if c.big {
		e.data += strings.Repeat("x", 12<<10)
	}
	ev := sse.Event{Name: e.key, Data: e.data}
	ev = m.idFor(ev, strconv.Itoa(n))
	if c.silent {
		e.key, e.data = "", ""
		ev.Name, ev.Data, ev.Comment = "", "", strconv.Itoa(n)
	}
	pos, err := m.h.Publish(context.Background(), e.topic, ev)
	if err != nil || pos.Epoch != m.h.spans.last().epoch {
		m.fault("published at %v: %v", pos, err)
		return
	}
	e.id = ev.ID
	if e.id == "" {
		e.id = m.idOf(pos)
	}
	ev.ID = e.id
	frame, err := ev.AppendText(nil)
	if err != nil {
		m.fault("encoding: %v", err)
	}
	e.size = int64(len(frame))
	m.mu.Lock()
	defer m.mu.Unlock()
	for uint64(len(m.events)) < pos.Offset {
		m.events = append(m.events, modelEvent{})
	}
	if m.events[pos.Offset-1].id != "" {
		m.faults = append(m.faults, fmt.Sprintf("two events have position %v", pos))
	}
	m.events[pos.Offset-1] = e
	m.ids[e.id] = pos.Offset
}

// idFor returns ev with an own id if the hub has OwnIDs. The id could be a position.
func (m *model) idFor(ev sse.Event, number string) sse.Event {
	if m.ownIDs {
		ev.ID = "own-" + number
	}
	return ev
}

func (m *model) leave() {
	s := m.someSession()
	if s == nil {
		return
	}
	m.tracef("%s leaves", s)
	s.mayEnd = true
	s.cancel()
}

func (m *model) stopReading() {
	s := m.someSession()
	if s == nil || s.client.blocked {
		return
	}
	m.tracef("%s stops reading", s)
	s.client.blocked = true
	gate := make(chan struct{})
	s.gate.Store(&gate)
}

func (m *model) resumeReading() {
	from := m.src.intn(len(m.clients))
	for i := range m.clients {
		if c := m.clients[(from+i)%len(m.clients)]; c.session != nil && c.blocked {
			m.tracef("%s reads on", c.name)
			c.blocked = false
			c.session.openGate()
			return
		}
	}
}

func (m *model) resubscribe() {
	s := m.someSession()
	if s == nil || !s.isOpened() || s.isKicked() {
		return
	}
	topic, member := modelTopics[m.src.intn(len(modelTopics))], s.member.Load()
	if _, ok := s.follow[topic]; ok {
		m.tracef("%s unsubscribes %s", s, topic)
		member.Unsubscribe(topic)
		delete(s.follow, topic)
		return
	}
	m.tracef("%s subscribes %s", s, topic)
	if err := member.Subscribe(topic); err != nil {
		m.failf("%s: subscribe: %v", s, err)
	}
	s.follow[topic] = m.head()
}

// subscribeFrom subscribes a session, whose client reads, to a topic from an older position.
func (m *model) subscribeFrom() {
	s := m.someSession()
	if s == nil || !s.isOpened() || s.gate.Load() != nil || s.client.slow == SlowLatest {
		return
	}
	topic, evicted, head := modelTopics[m.src.intn(len(modelTopics))], m.before.evicted, m.head()
	if _, ok := s.follow[topic]; ok {
		return
	}
	start, from := Beginning, evicted
	if m.src.intn(3) > 0 {
		from = head - min(head, uint64(m.src.intn(2*m.logEvents+2)))
		start = After(Position{m.h.spans.last().epoch, from})
	}
	s.follow[topic] = from
	gap := GapReason("")
	switch {
	case from < m.lastEvicted(topic, evicted):
		gap = GapExpired
	case m.maxReplay > 0 && m.bytes(map[string]uint64{topic: from}, from, head) > m.maxReplay:
		gap = GapReplay
		if start == Beginning {
			gap, s.follow[topic] = "", m.fits(map[string]uint64{topic: from}, from, head)
		}
	}
	err := s.member.Load().SubscribeFrom(start, topic)
	m.tracef("%s subscribes %s from %d: %v", s, topic, from, err)
	refused, isGap := errors.AsType[*GapError](err)
	switch {
	case err != nil && !isGap, err == nil && gap != "":
		m.failf("%s: SubscribeFrom returned %v, want gap %q", s, err, gap)
	case isGap && refused.Reason != gap && (refused.Reason != GapExpired || from >= evicted || m.dropped[topic] <= from):
		m.failf("%s: SubscribeFrom returned %v, want gap %q", s, err, gap)
	case isGap:
		m.totals.Refused++
		delete(s.follow, topic)
		return
	}
	for _, offset := range s.wanted(s.follow[topic], s.pos) {
		if m.at(offset).topic == topic {
			s.catchUp = append(s.catchUp, offset)
			m.totals.CaughtUp++
		}
	}
}

// shutdown shuts the hub down. Clients that read, even if only later, must get every unsent
// event.
func (m *model) shutdown() {
	m.t.Helper()
	m.before = m.stateBefore()
	blocked := 0
	for _, s := range m.sessions {
		if s.gate.Load() != nil {
			blocked++
		}
	}
	m.tracef("shutdown")
	m.closed = true
	late := make([]modelChoice, m.src.intn(4))
	for i := range late {
		late[i] = m.choice()
	}
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, c := range late {
			m.publish(c)
		}
		ended <- m.h.Shutdown(ctx)
	}()
	m.quiesce()
	m.copyEvents()
	if _, err := m.h.Publish(context.Background(), "a", m.idFor(sse.Event{Data: "late"}, "late")); !errors.Is(err, sse.ErrShutdown) {
		m.failf("Publish during the shutdown returned %v", err)
	}
	for range m.src.intn(blocked + 1) {
		m.resumeReading()
		blocked--
	}
	m.quiesce()
	for _, s := range slices.Clone(m.sessions) {
		if s.gate.Load() != nil {
			continue
		}
		if !s.hasEnded() {
			s.failf("has not ended by the shutdown")
		}
		s.checkSent(m.h.Stats().Evicted)
	}
	if err := <-ended; err != nil && blocked == 0 {
		m.failf("Shutdown, with %d clients that do not read: %v", blocked, err)
	}
	m.quiesce()
	for _, s := range slices.Clone(m.sessions) {
		if !s.hasEnded() {
			s.failf("has not ended although the shutdown is over")
		}
		s.checkSent(m.h.Stats().Evicted)
	}
	if m.join(true); len(m.sessions) > 0 { // a client that connects after the shutdown
		m.quiesce()
		s := m.sessions[0]
		s.follow = nil
		if s.checkEnd(0); !errors.Is(s.err, sse.ErrShutdown) || s.w.body.Len() > 0 && !s.hasEnded() {
			s.failf("is served after the shutdown; Serve returned %v", s.err)
		}
	}
	m.checkStats(m.h.Stats().Evicted)
	requireConsistent(m)
	if m.h.expiry != nil {
		m.h.expiry.Stop()
	}
}
