package hub

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse"
)

// What has left a hub's tail is cold, not lost, as long as the Log has it. A member that needs
// it is caught up by pages that are read from the Log, in a goroutine of the member's, until
// the tail takes over. After an outage many clients come back to the same place at once. So
// pages are shared: each is read and encoded once for all members with the same topics, and
// kept for a moment.

// seekLog is seekReplay for a hub with a Log: what the tails do not hold is cold. A Log that
// has dropped it too is noticed when it is read.
func (m *Member) seekLog(offset uint64) (gap GapReason) {
	if _, _, ok := m.seek(offset); !ok {
		m.cold = true
		return ""
	}
	if m.limitReplay() {
		return GapReplay
	}
	return ""
}

// resumeAt moves the cursor to offset, or, if events after it are missing, to the lowest later
// offset after which none are. It returns where the cursor is.
func (m *Member) resumeAt(offset uint64) uint64 {
	if m.hub.follower == nil {
		return m.seekFrom(offset)
	}
	_, _, ok := m.seek(offset)
	m.cold = !ok
	return offset
}

// nextHole returns the reason and the offset of the hole that m has come to; or "" if it has
// come to none, and events have left the tail. The caller has claimed m.
func (m *Member) nextHole() (reason GapReason, offset uint64) {
	if m.hub.follower == nil || m.cold {
		return "", 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		t := l.topic
		t.mu.Lock()
		lost := l.next < t.first
		if !lost && l.next < t.end() && !l.dropped {
			if e := t.entries.at(int(l.next - t.first)); e.hole != "" && (reason == "" || e.offset < offset) {
				reason, offset = e.hole, e.offset
			}
		}
		t.mu.Unlock()
		if lost && !l.dropped {
			return "", 0
		}
	}
	return reason, offset
}

// catchUpCold sends m the events after its cursor that the tails do not hold, from the Log. It
// may tell the client of a gap. It waits for the client, and for the Log as long as the
// session lives. The caller has claimed m, and delivers afterwards.
func (m *Member) catchUpCold(r *reader) error {
	h := m.hub
	if most := h.cfg.MaxReplay; most > 0 && r.opening != nil && m.slow != SlowLatest {
		if fits, err := m.coldFits(most); err != nil || !fits {
			if err == nil {
				err = m.skipCold(r, GapReplay)
			}
			return err
		}
	}
	for {
		if m.isKicked() && m.cursor.Load() >= m.ending.Load().limit {
			m.cold = false
			return nil
		}
		floor, _, ok := m.seek(m.cursor.Load())
		if ok {
			m.cold = false
			return nil
		}
		m.cold = true
		// m may follow another topic by now. It follows it from an offset on that is not
		// before floor, and the page is used only up to there.
		topics := m.sortedTopics()
		if len(topics) == 0 {
			continue // m has unsubscribed; without topics, Read would return those of all
		}
		p, err := h.follower.cold.read(m.server.Context(), topics, m.cursor.Load(), floor)
		if err != nil {
			truncated, ok := errors.AsType[*TruncatedError](err)
			switch {
			case ok && r.opening == nil:
				return m.missTruncated(r, truncated.First)
			case ok:
				return m.resumeTruncated(r, truncated.First)
			case errors.Is(err, ErrEpoch):
				return m.skipCold(r, GapEpoch)
			}
			return err
		}
		if err := m.sendPage(r, p, topics, floor); err != nil {
			return err
		}
	}
}

// missTruncated does what m's SlowPolicy says when the Log has dropped events before they
// could be sent to m, whose session is open.
func (m *Member) missTruncated(r *reader, first uint64) error {
	storeMax(&m.hub.follower.first, first)
	switch m.slow {
	case SlowLatest:
		return m.resumeAfterGap(r, GapSlow, m.afterTruncation(first))
	case SlowSkip:
		return m.resumeAfterGap(r, GapSlow, m.hub.head.Load())
	}
	m.hub.stats.ended.Add(1)
	return &SlowError{}
}

// afterTruncation returns the offset where m can continue when first is the first record that
// the Log has.
func (m *Member) afterTruncation(first uint64) uint64 {
	return max(m.cursor.Load(), m.hub.spans.last().offset(Position{Offset: max(1, first) - 1}))
}

// resumeTruncated continues with the first record that the Log has.
func (m *Member) resumeTruncated(r *reader, first uint64) error {
	offset, cursor := m.afterTruncation(first), m.cursor.Load()
	storeMax(&m.hub.follower.first, first)
	if m.isNew() {
		m.resumeAt(offset)
		m.limitReplay()
		return nil
	}
	if _, _, ok := m.seek(offset); ok {
		m.cold = false
		m.limitReplay()
		offset = m.cursor.Swap(cursor) // the client is told where it was
	}
	return m.resumeAfterGap(r, GapExpired, offset)
}

// isNew reports whether the client came without a last event id, and has been sent none. It
// misses nothing.
func (m *Member) isNew() bool { return m.noID && m.lastID.Load() == 0 }

// skipCold tells the client of a gap, and continues with what the tails hold.
func (m *Member) skipCold(r *reader, reason GapReason) error {
	m.cold = false
	if reason == GapEpoch {
		return m.resumeAfterGap(r, reason, m.hub.head.Load())
	}
	m.seekFrom(m.cursor.Load())
	m.limitReplay()
	if m.isNew() {
		return nil
	}
	return m.resumeAfterGap(r, reason, m.cursor.Load())
}

// coldFits reports whether all that m is to be sent, cold or not, is at most most bytes.
func (m *Member) coldFits(most int64) (bool, error) {
	cursor, topics := m.cursor.Load(), m.sortedTopics()
	floor, _, _ := m.seek(cursor)
	sum := int64(0)
	m.mu.Lock()
	for _, l := range m.links {
		sum += l.unsentBytes(floor)
	}
	m.mu.Unlock()
	for at := cursor; at < floor && (sum <= most || at == cursor) && len(topics) > 0; {
		p, err := m.hub.follower.cold.read(m.server.Context(), topics, at, floor)
		if err != nil {
			if _, ok := errors.AsType[*TruncatedError](err); ok || errors.Is(err, ErrEpoch) {
				return true, nil // catchUpCold tells of it
			}
			return false, err
		}
		for _, e := range p.entries {
			if e.offset <= floor { // what is after it is counted already
				sum += int64(len(e.frame))
			}
		}
		at = p.upTo
	}
	return sum <= most, nil
}

// sendPage sends those events of p up to the offset upTo that are for m, which follows topics,
// and moves the cursor to where it has come.
func (m *Member) sendPage(r *reader, p *page, topics []string, upTo uint64) error {
	r.cached = cache{}
	r.frames.Reset(keptSize)
	limit := min(upTo, p.upTo)
	if e := m.ending.Load(); e != nil && e.kind == endKick {
		limit = min(limit, e.limit)
	}
	entries, hole := m.selectFrom(p, topics, limit)
	for _, e := range entries {
		if r.frames.Events > 0 && r.frames.Len()+len(e.frame) > batchSize {
			if err := m.flushPage(r, m.last); err != nil {
				return err
			}
		}
		r.frames.Append(e.frame)
		m.last = e.offset
	}
	if hole != nil {
		if err := m.flushPage(r, hole.offset); err != nil {
			return err
		}
		return m.resumeAfterGap(r, hole.hole, hole.offset)
	}
	return m.flushPage(r, limit)
}

// selectFrom returns the entries of p up to the offset limit that m is to be sent, and the
// hole that ends them, if there is one. With SlowLatest they are the newest with their keys.
func (m *Member) selectFrom(p *page, topics []string, limit uint64) (entries []*entry, hole *entry) {
	cursor, since := m.cursor.Load(), m.sinceByTopic()
	byKey := make(map[string]int)
	for _, e := range p.entries {
		if e.offset <= cursor || e.offset > limit || e.offset <= since[e.Topic] {
			continue
		}
		if _, ok := slices.BinarySearch(topics, e.Topic); !ok && e.Topic != "" {
			continue
		}
		if e.hole != "" {
			hole = e
			break
		}
		if m.filter != nil && !m.filter(&e.Message) {
			continue
		}
		if m.latest != nil {
			key := e.Topic
			if m.latest.key != nil {
				key = m.latest.key(&e.Message)
			}
			if i, ok := byKey[key]; ok {
				entries[i] = nil
			}
			byKey[key] = len(entries)
		}
		entries = append(entries, e)
	}
	return slices.DeleteFunc(entries, func(e *entry) bool { return e == nil }), hole
}

// flushPage writes the frames, and moves the cursor to offset.
func (m *Member) flushPage(r *reader, offset uint64) error {
	if r.frames.Events > 0 {
		pending, err := m.session.TryWrite(&r.frames)
		if err == nil && pending {
			err = m.session.Finish()
		}
		if err != nil {
			return err
		}
		m.shard.delivered.Add(uint64(r.frames.Events))
		m.lastID.Store(m.last)
		m.old = false
		r.frames.Reset(keptSize)
	}
	m.cursor.Store(max(offset, m.cursor.Load()))
	return nil
}

// sortedTopics returns the names of m's topics.
func (m *Member) sortedTopics() []string {
	m.mu.Lock()
	names := make([]string, 0, len(m.links))
	for _, l := range m.links {
		names = append(names, l.topic.name)
	}
	m.mu.Unlock()
	slices.Sort(names)
	return names
}

// sinceByTopic returns from where on m follows those topics that it has followed later.
func (m *Member) sinceByTopic() map[string]uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var since map[string]uint64
	for _, l := range m.links {
		if l.since > 0 {
			if since == nil {
				since = make(map[string]uint64)
			}
			since[l.topic.name] = l.since
		}
	}
	return since
}

// page is a stretch of the Log, for members with the same topics. It does not change once it
// is read.
type page struct {
	entries []*entry
	upTo    uint64 // the hub's offset up to which it is complete
	size    int64  // of the entries in memory, in bytes

	key  pageKey
	done chan struct{} // closed when it is read
	err  error
}

type pageKey struct {
	topics string
	after  uint64 // the hub's offset
}

const (
	pageEvents = 512              // how many records a page has at the most
	pageSize   = 1 << 20          // what a page should take in memory, in bytes
	coldReads  = 4                // how many pages are read at the same time
	keptPages  = 64               // how many pages are kept
	keptBytes  = 16 << 20         // and of what size together
	keptFor    = 10 * time.Second // and for how long at the most
)

// pages reads and keeps pages.
type pages struct {
	hub   *Hub
	f     *follower
	turns chan struct{} // has room for those who may read
	ctx   context.Context
	stop  context.CancelFunc // ends all reads: no member is left that could use them
	most  atomic.Int64       // how many records the next page may have

	mu    sync.Mutex
	byKey map[pageKey]*page
	order []*page // those that are read, the oldest first
	size  int64
	sweep *time.Timer // drops all pages
	reads uint64      // how many were read; for tests
}

func (c *pages) init(h *Hub, f *follower) {
	c.hub, c.f = h, f
	c.ctx, c.stop = context.WithCancel(context.WithoutCancel(f.ctx))
	c.most.Store(pageEvents)
	c.turns = make(chan struct{}, coldReads)
	c.byKey = make(map[pageKey]*page)
}

// read returns the page of topics, which are sorted, after the hub's offset. It need not go
// further than upTo. While the Log is out of reach, read waits. The error is that of ctx, one
// that matches ErrEpoch or, when a shutdown is over, sse.ErrShutdown, or a [*TruncatedError].
func (c *pages) read(ctx context.Context, topics []string, after, upTo uint64) (*page, error) {
	k := pageKey{joinTopics(topics), after}
	for wait := minFollowWait; ; wait = min(2*wait, maxFollowWait) {
		p, mine := c.claim(k)
		if mine {
			go c.fetch(p, topics, upTo) // it goes on if ctx ends, because others may wait for it
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if p.err == nil {
			return p, nil
		}
		if _, ok := errors.AsType[*TruncatedError](p.err); ok || errors.Is(p.err, ErrEpoch) {
			return nil, p.err
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return nil, sse.ErrShutdown
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// joinTopics returns a text that only these topics have. Their names may contain any byte.
func joinTopics(topics []string) string {
	var b strings.Builder
	for _, name := range topics {
		b.WriteString(strconv.Itoa(len(name)))
		b.WriteByte(':')
		b.WriteString(name)
	}
	return b.String()
}

// claim returns the page with k. If mine, the caller must have it fetched.
func (c *pages) claim(k pageKey) (p *page, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p = c.byKey[k]; p != nil {
		return p, false
	}
	p = &page{key: k, done: make(chan struct{})}
	c.byKey[k] = p
	return p, true
}

// fetch reads p.
func (c *pages) fetch(p *page, topics []string, upTo uint64) {
	select {
	case c.turns <- struct{}{}:
		p.err = c.load(p, topics, upTo)
		<-c.turns
	case <-c.ctx.Done():
		p.err = c.ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	if p.err != nil {
		delete(c.byKey, p.key)
	} else {
		c.keepLocked(p)
	}
	close(p.done)
}

// keepLocked keeps p, and drops older pages if there are too many. mu is held.
func (c *pages) keepLocked(p *page) {
	c.order = append(c.order, p)
	c.size += p.size
	for len(c.order) > 1 && (len(c.order) > keptPages || c.size > keptBytes) {
		c.size -= c.order[0].size
		delete(c.byKey, c.order[0].key)
		c.order = slices.Delete(c.order, 0, 1)
	}
	if c.sweep == nil {
		c.sweep = time.AfterFunc(keptFor, c.drop)
	}
}

// drop drops all pages that are read.
func (c *pages) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.order {
		delete(c.byKey, p.key)
	}
	c.order, c.size, c.sweep = nil, 0, nil
}

// load reads p from the Log and encodes its events.
func (c *pages) load(p *page, topics []string, upTo uint64) error {
	h := c.hub
	s := h.spans.last()
	if p.key.after < s.from {
		return ErrEpoch
	}
	ctx, cancel := context.WithTimeout(c.ctx, h.cfg.PublishTimeout)
	defer cancel()
	b, err := h.cfg.Log.Read(ctx, topics, Position{s.epoch, p.key.after - s.base}, Position{s.epoch, upTo - s.base}, int(c.most.Load()))
	if err != nil {
		return err
	}
	if b.UpTo+s.base <= p.key.after {
		return errors.New("hub: the log has returned a page that does not go on")
	}
	p.upTo = b.UpTo + s.base
	for i := range b.Records {
		rec := &b.Records[i]
		if rec.Kind == ControlRecord {
			continue
		}
		e := &entry{Message: Message{Topic: rec.Topic, Event: rec.Event, Time: rec.Time, Position: Position{s.epoch, rec.Offset}}, offset: rec.Offset + s.base}
		frame, err := h.encode(rec.Topic, rec.Event)
		if rec.Kind != EventRecord || err != nil {
			e.hole = GapLost
		} else {
			e.frame = h.complete(frame, e.Position)
		}
		p.size += e.size()
		p.entries = append(p.entries, e)
	}
	if h.spans.last() != s {
		return ErrEpoch // the frames may have ids of the next one
	}
	c.most.Store(nextMost(len(b.Records), p.size))
	if b.Hole {
		p.entries = append(p.entries, &entry{offset: p.upTo, hole: GapLost})
	}
	return nil
}

// nextMost returns how many records the next page may have, if the last one had so many, which
// took size bytes in memory.
func nextMost(records int, size int64) int64 {
	if size == 0 {
		return pageEvents
	}
	return max(1, min(pageEvents, pageSize*int64(records)/size))
}
