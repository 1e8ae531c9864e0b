package hub

import (
	"cmp"
	"runtime/debug"
	"slices"
	"sort"
	"sync"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/engine"
)

// Who sends to a member has claimed it. Who finds it claimed leaves word that there is
// news, and goes on: the one who has it looks again before it lets go.
const (
	stateIdle uint32 = iota
	stateBusy
	stateNews
)

// claim makes the caller the one who sends, or leaves word.
func (m *Member) claim() bool {
	for {
		switch m.state.Load() {
		case stateIdle:
			if m.state.CompareAndSwap(stateIdle, stateBusy) {
				return true
			}
		case stateBusy:
			if m.state.CompareAndSwap(stateBusy, stateNews) {
				return false
			}
		default:
			return false
		}
	}
}

// letGo ends a claim, unless there is news.
func (m *Member) letGo() bool {
	if m.state.CompareAndSwap(stateBusy, stateIdle) {
		return true
	}
	m.state.Store(stateBusy)
	return false
}

// status is how a delivery went.
type status uint8

const (
	statusDone    status = iota // all that was due has been sent
	statusPending               // a write is not finished: it waits for the client
	statusGap                   // events have left the log that were due
	statusEnded                 // the session has
)

const (
	// batchSize is what a write has at the most, in bytes, unless one event is larger.
	// Larger ones gain nothing, and a slow client has to take each in time.
	batchSize = 32 << 10

	// batchEvents is how many events of a topic are looked at in one go.
	batchEvents = 512
)

// reader gathers what is due, in memory that is used again.
type reader struct {
	frames  engine.Frames
	entries []*entry
	ordered []*entry
	runs    []run
	keys    map[string]bool

	cached cache // what frames holds
}

// run is what was read of a link: entries[from:to] of its reader.
type run struct {
	*link
	from, to int
}

// cache says which part of a topic frames holds. Those who follow one topic, which are
// most, mostly are at the same place in it, and are sent the same bytes.
type cache struct {
	topic      *topic
	from, next uint64 // numbers of the first event, and behind the last one
	newest     uint64 // offset of the topic's newest event then
	cut, last  uint64 // as of gather; if last is newest, cut is whatever is asked for
}

var readers = sync.Pool{New: func() any { return new(reader) }}

// keptSize is the buffer that a reader keeps: one for usual batches.
const keptSize = 2 * batchSize

// deliver sends what is due up to an offset. The caller has claimed m.
func (m *Member) deliver(upTo uint64, r *reader) (st status) {
	defer func() {
		if v := recover(); v != nil { // of a Filter, a Key, or a hook
			m.session.End(&sse.PanicError{Value: v, Stack: debug.Stack()})
			st = statusEnded
		}
	}()
	for {
		cut, last, ok := r.gather(m, upTo)
		switch {
		case !ok:
			return statusGap
		case r.frames.Events == 0:
			m.cursor.Store(max(cut, m.cursor.Load()))
		default:
			m.cut, m.last = cut, last
			pending, err := m.session.TryWrite(&r.frames)
			if err != nil {
				return statusEnded
			}
			m.shard.delivered.Add(uint64(r.frames.Events))
			if pending {
				return statusPending
			}
			m.sent()
		}
		if cut < upTo {
			continue
		}
		if !m.hub.closed.Load() {
			return statusDone
		}
		if upTo = m.hub.head.Load(); cut >= upTo { // the hub is shut down, and m has got what was due
			m.session.End(sse.ErrShutdown)
			return statusEnded
		}
	}
}

// sent moves the cursor behind a write.
func (m *Member) sent() {
	m.told.Store(m.last)
	m.cursor.Store(m.cut)
}

// gather puts into r.frames what is due up to an offset, or as much as goes into one
// write, and moves m's links on. cut is the offset up to which that is all, last that of
// the last event. It fails if something has left the log that was due.
func (r *reader) gather(m *Member, upTo uint64) (cut, last uint64, ok bool) {
	m.mu.Lock()
	plain := len(m.links) == 1 && m.filter == nil && m.slow != SlowLatest
	if plain {
		l, c := m.links[0], &r.cached
		if c.topic == l.topic && c.from == l.next && c.newest == l.topic.last.Load() {
			l.next = c.next
			m.mu.Unlock()
			if c.last == c.newest {
				return upTo, c.last, true
			}
			return c.cut, c.last, true
		}
	}
	r.cached = cache{} // a Filter may panic and leave frames behind
	var newest uint64
	if plain {
		newest = m.links[0].topic.last.Load()
	}
	limit, ok := r.collect(m, upTo)
	m.mu.Unlock()
	if !ok {
		return 0, 0, false
	}
	cut, last = r.encode(m, r.order(m), limit)
	r.advance(m, cut)
	r.forget()
	if plain && r.frames.Events > 0 {
		l := r.runs[0].link
		r.cached = cache{l.topic, l.next - uint64(r.frames.Events), l.next, newest, cut, last}
	}
	return cut, last, true
}

// collect reads the entries that are due from each of m's topics. limit is the offset
// up to which it has read them all. m.mu is held.
func (r *reader) collect(m *Member, upTo uint64) (limit uint64, ok bool) {
	r.entries, r.runs = r.entries[:0], r.runs[:0]
	limit = upTo
	cursor := m.cursor.Load()
	most := batchEvents
	if m.slow == SlowLatest { // it must see the last one of a key
		most = int(^uint(0) >> 1)
	}
	for _, l := range m.links {
		if l.topic.last.Load() <= cursor {
			continue // nothing new, and no lock
		}
		from := len(r.entries)
		full, ok := r.read(l, upTo, most, m.slow == SlowLatest)
		if !ok {
			return 0, false
		}
		if full {
			limit = min(limit, r.entries[len(r.entries)-1].Position.Offset)
		}
		if from < len(r.entries) {
			r.runs = append(r.runs, run{l, from, len(r.entries)})
		}
	}
	return limit, true
}

// read reads what is due from l's topic, most entries at the most. Where only the
// latest of each topic is wanted, it does no harm if others are lost.
func (r *reader) read(l *link, upTo uint64, most int, latest bool) (full, ok bool) {
	t := l.topic
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.next < t.first {
		if !latest || l.m.key != nil || l.m.filter != nil || t.entries.len() == 0 {
			return false, false
		}
		l.next = t.first
	}
	n := 0
	for i := int(l.next - t.first); i < t.entries.len(); i++ {
		e := t.entries.at(i)
		if e.Position.Offset > upTo {
			break
		}
		r.entries = append(r.entries, e)
		if n++; n == most {
			return true, true
		}
	}
	return false, true
}

// order returns the entries in the hub's order, for SlowLatest only those that count.
func (r *reader) order(m *Member) []*entry {
	entries := r.entries
	if len(r.runs) > 1 {
		r.ordered = append(r.ordered[:0], entries...)
		entries = r.ordered
		slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.Position.Offset, b.Position.Offset) })
	}
	if m.slow == SlowLatest {
		entries = r.latest(m, entries)
	}
	return entries
}

// latest returns the last entry of each key, of those that the filter lets pass.
func (r *reader) latest(m *Member, entries []*entry) []*entry {
	if r.keys == nil {
		r.keys = make(map[string]bool)
	}
	clear(r.keys)
	kept := make([]*entry, 0, 16)
	for _, e := range slices.Backward(entries) {
		if m.filter != nil && !m.filter(&e.Message) {
			continue
		}
		key := e.Topic
		if m.key != nil {
			key = m.key(&e.Message)
		}
		if !r.keys[key] {
			r.keys[key] = true
			kept = append(kept, e)
		}
	}
	slices.Reverse(kept)
	return kept
}

// forget lets go of entries, which may leave the log.
func (r *reader) forget() {
	clear(r.entries)
	clear(r.ordered)
	if cap(r.entries) > 4*batchEvents { // for SlowLatest it may have been all of the log
		r.entries, r.ordered = nil, nil
	}
}

// encode puts entries into frames, as many as go into a write. cut is the offset up to
// which that is all.
func (r *reader) encode(m *Member, entries []*entry, limit uint64) (cut, last uint64) {
	r.frames.Reset(keptSize)
	cut = limit
	for _, e := range entries {
		if e.Position.Offset > limit {
			break
		}
		if r.frames.Events > 0 && r.frames.Len()+len(e.frame) > batchSize {
			cut = e.Position.Offset - 1
			break
		}
		if m.filter != nil && m.slow != SlowLatest && !m.filter(&e.Message) {
			continue
		}
		r.frames.Append(e.frame)
		last = e.Position.Offset
	}
	return cut, last
}

// advance moves the links behind cut.
func (r *reader) advance(m *Member, cut uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, run := range r.runs {
		entries := r.entries[run.from:run.to]
		n := len(entries)
		if entries[n-1].Position.Offset > cut {
			n = sort.Search(n, func(i int) bool { return entries[i].Position.Offset > cut })
		}
		run.link.next += uint64(n)
	}
}

// drain sends to m in a goroutine of its own until nothing is due. The caller has
// claimed m, and delivered with the status that is given.
func (m *Member) drain(st status) {
	r := readers.Get().(*reader)
	defer readers.Put(r)
	for {
		if st != statusDone {
			st = m.carryOn(st, r)
		}
		if st == statusDone {
			st = m.deliver(m.hub.head.Load(), r)
		}
		switch {
		case st == statusEnded:
			return // nobody needs the claim anymore
		case st == statusDone && m.letGo():
			return
		}
	}
}

// goOn lets go of m, and has sent what has come up in the meantime.
func (m *Member) goOn() {
	if !m.letGo() {
		go m.drain(statusDone)
	}
}

// carryOn does what a delivery has left undone. It may wait for the client.
func (m *Member) carryOn(st status, r *reader) status {
	if p := catch(func() { st = m.dealWith(st, r) }); p != nil { // of a Snapshot, or a hook
		m.session.End(p)
		return statusEnded
	}
	return st
}

func (m *Member) dealWith(st status, r *reader) status {
	switch st {
	case statusPending:
		if m.session.Finish() != nil {
			return statusEnded
		}
		m.sent()
		return statusDone
	case statusGap:
		return m.fellBehind(r)
	}
	return st
}

// fellBehind does as Slow says when events that were due have left the log.
func (m *Member) fellBehind(r *reader) status {
	h := m.hub
	var err error
	switch m.slow {
	case SlowLatest:
		err = m.skip(r, GapSlow, h.oldest())
	case SlowSkip:
		err = m.skip(r, GapSlow, h.head.Load())
	default:
		h.stats.ended.Add(1)
		err = m.slowError()
	}
	if err != nil {
		m.session.End(err) // if a write has not done so
		return statusEnded
	}
	return statusDone
}

// skip goes on behind an offset, or where the snapshot stands, and tells the client.
func (m *Member) skip(r *reader, reason GapReason, offset uint64) error {
	if m.snapshot != nil {
		offset = m.hub.head.Load() // it is to be taken of the present
	}
	gap := Gap{Reason: reason, LastEventID: m.position().String(), Snapshot: m.snapshot != nil}
	gap.Position = Position{m.hub.epoch, m.seekFrom(offset)}
	if err := m.tell(r, gap); err != nil {
		return err
	}
	if m.snapshot == nil {
		return nil
	}
	return m.sendSnapshot(r)
}

// position is that up to which m has been sent all.
func (m *Member) position() Position { return Position{m.hub.epoch, m.cursor.Load()} }

func (m *Member) slowError() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.links {
		l.topic.mu.Lock()
		missed := l.topic.first - min(l.next, l.topic.first)
		l.topic.mu.Unlock()
		if missed > 0 {
			return &SlowError{Topic: l.topic.name, Missed: missed}
		}
	}
	return sse.ErrSlow // of a topic that it has just left
}

// tell tells the client of a gap. The id that comes with it is where it goes on, but
// for a snapshot, without which the client must not go on.
func (m *Member) tell(r *reader, gap Gap) error {
	m.hub.countGap(gap.Reason)
	m.hub.cfg.Logger.Info("hub: client told of a gap", "reason", gap.Reason, "lastEventId", gap.LastEventID, "position", gap.Position, "topics", m.Topics())
	ev, err := gap.event()
	if err != nil {
		return err
	}
	if gap.Snapshot {
		ev.ID = ""
		return m.write(r, ev, m.told.Load())
	}
	return m.write(r, ev, gap.Position.Offset)
}

// tellPosition gives the client an id to come back with, before it has had an event.
func (m *Member) tellPosition(r *reader) error {
	pos := m.position()
	return m.write(r, event.Event{ID: pos.String()}, pos.Offset)
}

// write sends an event of the hub's own, whose id is an offset.
func (m *Member) write(r *reader, ev event.Event, offset uint64) error {
	frame, err := ev.AppendText(nil)
	if err != nil {
		return err
	}
	r.cached = cache{}
	r.frames.Reset(keptSize)
	r.frames.Append(frame)
	pending, err := m.session.TryWrite(&r.frames)
	if err == nil && pending {
		err = m.session.Finish()
	}
	if err == nil {
		m.told.Store(offset)
	}
	return err
}

// sendSnapshot has the snapshot sent, and goes on where it stands.
func (m *Member) sendSnapshot(r *reader) error {
	pos, err := m.snapshot(m.server, m.position())
	if err != nil {
		return err
	}
	if pos.Epoch != m.hub.epoch || pos.Offset > m.hub.head.Load() {
		return &SnapshotError{pos}
	}
	if _, ok := m.seek(pos.Offset); !ok { // it was an old one
		gap := Gap{Reason: GapExpired, LastEventID: pos.String(), Position: Position{m.hub.epoch, m.seekFrom(pos.Offset)}}
		return m.tell(r, gap)
	}
	return m.tellPosition(r)
}

// seek puts the cursor behind an offset. If a topic does not have all anymore that
// follows, it says from where all do.
func (m *Member) seek(offset uint64) (floor uint64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	floor = offset
	for _, l := range m.links {
		t := l.topic
		t.mu.Lock()
		floor = max(floor, t.floor)
		l.next = t.after(offset)
		t.mu.Unlock()
	}
	m.cursor.Store(offset)
	return floor, floor == offset
}

// seekFrom puts the cursor behind the first offset, from the given one on, that all
// topics have all behind, and returns it.
func (m *Member) seekFrom(offset uint64) uint64 {
	for {
		floor, ok := m.seek(offset)
		if ok {
			return offset
		}
		offset = floor
	}
}

// seekLatest puts the cursor before the newest event of each topic.
func (m *Member) seekLatest(head uint64) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	offset := head
	for _, l := range m.links {
		t := l.topic
		t.mu.Lock()
		l.next = t.end()
		if n := t.entries.len(); n > 0 {
			l.next--
			offset = min(offset, t.entries.at(n-1).Position.Offset-1)
		}
		t.mu.Unlock()
	}
	m.cursor.Store(offset)
	return offset
}

// appendPosition appends an event that only moves the client's id.
func (h *Hub) appendPosition(dst []byte, offset uint64) []byte {
	dst = append(dst, "id: "...)
	dst, _ = Position{h.epoch, offset}.AppendText(dst) // it has no error
	return append(dst, "\n\n"...)
}
