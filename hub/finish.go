package hub

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/internal/engine"
)

// A topic is finished by its last event. A goroutine that has delivered that event to a member
// looks whether all topics of the member are finished, and if so ends its session. Other
// deliveries only compare the cursor with the newest last event (Hub.lastFinish). An opening also
// asks what was finished before.
//
// The last event stays in its topic's tail as long as the topic is finished: evictedLocked
// leaves it there. In a hub of a Log it does not, because it can be read from the Log.

// ErrFinished is matched by the error of a publication to a topic that is finished, and by the
// cause of a session's end after [Hub.Finish]. The session's end then has the reason
// [sse.EndFinished].
var ErrFinished = engine.ErrFinished

// Finish publishes last, as [Hub.Publish] does, and makes it the last event of topic: a job
// is done, an answer complete. It returns the position of last, or an error of Publish.
//
// Each follower of the topic is sent what came before, and last, whatever its Filter. Then its
// session ends in order, with a cause that matches [ErrFinished]; a member with several
// topics stays until all of them are finished.
//
// A client whose topics are all finished when it comes gets the events that it lacks, at least
// the last one, and the end. One that has the last event already gets 204, after which an
// EventSource does not come back; [Hub.Serve] returns [sse.Stop] for it.
//
// From then on a publication to the topic fails with an error that matches ErrFinished, and so
// does Finish, which then returns the position of the last event with the error. The hub
// forgets that the topic is finished after Config.FinishAge. It may then be used again, and a
// client that comes late waits in vain; let the handler refuse it.
//
// With Config.Log, Finish does this in all hubs of the Log. It returns when its own hub has come
// to the event, or with the position and an error of [Hub.Wait] if ctx ends before: the topic is
// finished all the same. What another hub publishes to the topic at the same moment may come after the last
// event in the Log. It is then sent to nobody, although its publication returns no error; each
// hub logs it at level Warn.
func (h *Hub) Finish(ctx context.Context, topic string, last sse.Event) (Position, error) {
	pos, err := h.finish(ctx, topic, last)
	if err != nil {
		return pos, fmt.Errorf("hub: finish: %w", err)
	}
	return pos, nil
}

func (h *Hub) finish(ctx context.Context, topic string, last sse.Event) (Position, error) {
	if err := ctx.Err(); err != nil {
		return Position{}, err
	}
	f, err := h.encode(topic, last)
	if err != nil {
		return Position{}, err
	}
	if h.follower != nil {
		return h.finishInLog(ctx, topic, last)
	}
	ent := &entry{Message: Message{Topic: topic, Event: last, Time: time.Now()}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() {
		return Position{}, sse.ErrShutdown
	}
	if fin := h.finished.of(topic); fin != nil {
		return h.spans.position(fin.last.Load()), finishedError(topic)
	}
	if h.cfg.OwnIDs {
		if err := h.checkDuplicateLocked(topic, last.ID); err != nil {
			return Position{}, err
		}
	}
	return h.appendEventLocked(ent, f, &finish{topic: topic, time: ent.Time, size: 256 + ent.size()}), nil
}

func finishedError(topic string) error { return fmt.Errorf("topic %q: %w", topic, ErrFinished) }

// finish says that a topic is finished.
type finish struct {
	topic string
	time  time.Time
	size  int64         // what the hub holds because of it, in bytes
	order uint64        // with a Log: the hub's offset of the order, after which the last event comes
	last  atomic.Uint64 // the hub's offset of the last event; 0 if only the Log knows it

	missing atomic.Bool // the last event cannot be had from the Log
}

// finishes are the topics that are finished. Hub.mu guards them.
type finishes struct {
	byTopic map[string]*finish
	order   deque[*finish] // the oldest first
	size    int64
	timer   *time.Timer // for the oldest; nil if none is set
}

// of returns what is known of topic, or nil. It is called for each publication, and few hubs have
// finished topics.
func (fs *finishes) of(topic string) *finish {
	if len(fs.byTopic) == 0 {
		return nil
	}
	return fs.byTopic[topic]
}

// keepsLast reports whether e, which has left the log, stays in its topic as the last event. mu
// is held.
func (h *Hub) keepsLast(e *entry) bool {
	if len(h.finished.byTopic) == 0 || h.follower != nil {
		return false
	}
	fin := e.topic.fin.Load()
	return fin != nil && fin.last.Load() == e.offset
}

// finishLocked makes t finished by the event at offset, which has just been appended. It comes
// before the head moves: a goroutine that sees the event also sees that it is the last. mu and t.mu are held.
func (h *Hub) finishLocked(t *topic, fin *finish, offset uint64) {
	fin.last.Store(offset)
	t.fin.Store(fin)
	storeMax(&h.lastFinish, offset)
	h.rememberLocked(fin)
}

// rememberLocked adds fin to the topics that are finished. mu is held.
func (h *Hub) rememberLocked(fin *finish) {
	fs := &h.finished
	if fs.byTopic == nil {
		fs.byTopic = make(map[string]*finish)
	}
	fs.byTopic[fin.topic] = fin
	fs.order.push(fin)
	fs.size += fin.size
}

// forgetLocked forgets finished topics: those that are too old, and the oldest if there are too
// many. It sets the timer for the next one. mu is held.
func (h *Hub) forgetLocked(now time.Time) {
	fs := &h.finished
	for n := fs.order.len(); n > 0; n-- {
		fin := fs.order.at(0)
		full := n > 1 && (n > h.cfg.LogEvents || fs.size > h.cfg.LogSize)
		if !full && now.Sub(fin.time) < h.cfg.FinishAge {
			break
		}
		h.forgetOldestLocked()
	}
	if fs.order.len() == 0 || h.cfg.FinishAge == forever || h.closed.Load() || fs.timer != nil {
		return
	}
	fs.timer = time.AfterFunc(fs.order.at(0).time.Add(h.cfg.FinishAge).Sub(now), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.finished.timer = nil
		h.forgetLocked(time.Now())
	})
}

// forgetOldestLocked forgets the topic that was finished first. mu is held.
func (h *Hub) forgetOldestLocked() {
	fs := &h.finished
	fin := fs.order.pop()
	fs.size -= fin.size
	if fs.byTopic[fin.topic] != fin {
		return // it was forgotten before
	}
	h.unfinishLocked(fin)
}

// unfinishLocked makes the topic of fin one that is not finished. mu is held.
func (h *Hub) unfinishLocked(fin *finish) {
	delete(h.finished.byTopic, fin.topic)
	t := h.topics[fin.topic]
	if t == nil {
		return
	}
	t.mu.Lock()
	t.fin.Store(nil)
	var kept *entry
	if n := t.entries.len(); n > 0 && h.follower == nil {
		kept = t.entries.at(n - 1).entry
	}
	t.mu.Unlock()
	if kept != nil && kept.offset < h.oldestLocked() {
		h.evictedLocked(kept) // it has left the log before
	}
}

// oldestLocked returns the offset of the oldest entry in the log; none if it is empty. mu is held.
func (h *Hub) oldestLocked() uint64 {
	if h.log.entries.len() == 0 {
		return none
	}
	return h.log.entries.at(0).offset
}

// isLast reports whether e is the last event of its topic. Its followers get it whatever their
// Filter.
func (h *Hub) isLast(e *entry) bool {
	if h.lastFinish.Load() < e.offset {
		return false
	}
	var fin *finish
	if e.topic != nil {
		fin = e.topic.fin.Load()
	} else { // from a page of the Log
		fin = h.finishOf(e.Topic)
	}
	return fin != nil && fin.last.Load() == e.offset
}

// finishOf returns what is known of topic, if it is finished, or nil.
func (h *Hub) finishOf(topic string) *finish {
	if h.lastFinish.Load() == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.finished.byTopic[topic]
}

// allFinished reports whether all topics that m follows are finished, by events up to the
// offset upTo. It must follow one at least.
func (m *Member) allFinished(upTo uint64) bool {
	if m.hub.lastFinish.Load() == 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, from := len(m.links), 0
	if m.wide != nil && n > 0 {
		from = m.wide.unfinished % n
	}
	for i := range n {
		at := (from + i) % n
		if fin := m.links[at].topic.fin.Load(); fin == nil || fin.last.Load() > upTo {
			if m.wide != nil {
				m.wide.unfinished = at // so that a member with thousands of topics does not look at each of them each time
			}
			return false
		}
	}
	return n > 0 && !m.left
}

// lastOffset returns the hub's offset of the last event of m's topics, if all of them are
// finished, and otherwise 0. missing reports that this event is not to be had. lastOffset may
// wait for the Log.
func (m *Member) lastOffset() (offset uint64, missing bool, err error) {
	if !m.allFinished(none) {
		return 0, false, nil
	}
	m.mu.Lock()
	fins := make([]*finish, 0, len(m.links))
	for _, l := range m.links {
		fins = append(fins, l.topic.fin.Load())
	}
	m.mu.Unlock()
	for _, fin := range fins {
		if fin == nil { // forgotten meanwhile
			return 0, false, nil
		}
		last := fin.last.Load()
		if last == 0 {
			if last, err = m.hub.follower.findLast(m.server.Context(), fin); err != nil || last == 0 {
				return 0, false, err
			}
		}
		if last > offset {
			offset, missing = last, fin.missing.Load()
		}
	}
	return offset, missing || offset <= m.hub.beforeOldestLast(), nil
}

// resumeAtLast moves m's cursor back to before the last event of its topics, if all are finished
// and the cursor is after it: no session ends without it. The caller has claimed m.
func (m *Member) resumeAtLast() error {
	last, missing, err := m.lastOffset()
	if last > 0 && !missing && m.cursor.Load() >= last {
		m.resumeAt(last - 1)
	}
	return err
}

// beforeOldestLast returns the offset up to which no last event can be had.
func (h *Hub) beforeOldestLast() uint64 {
	if h.follower == nil {
		return 0
	}
	return h.follower.beforeFirst()
}

// endsHere reports whether m, which has been sent everything up to the cursor, is to end because
// all its topics are finished. from is where the cursor was before that. The caller has claimed
// m, and delivers.
func (m *Member) endsHere(from uint64, r *reader) bool {
	other := r.opening != nil || r.resumed // m may have come past the last event in another way
	r.resumed = false
	return (other || m.hub.lastFinish.Load() > from) && m.allFinished(m.cursor.Load())
}

// endIfFinished ends m's session after what is unsent, if all its topics are finished. It is
// for a member whose topics have changed.
func (m *Member) endIfFinished() {
	if !m.allFinished(none) {
		return
	}
	e := &ending{kind: endFinish, limit: m.hub.head.Load(), cause: errEndFinished}
	if m.ending.CompareAndSwap(nil, e) {
		m.deliverSoon()
	}
}

// errEndFinished is the cause of a session's end when its topics are finished.
var errEndFinished = fmt.Errorf("%w: %w", ErrFinished, sse.ErrClosed)

// refuseFinished is for a client that has the last event of all its topics. It returns what
// Serve is to return.
func (m *Member) refuseFinished() error {
	if !m.session.Opened() {
		return sse.Stop()
	}
	m.session.End(errEndFinished) // it is too late for a status
	return context.Cause(m.server.Context())
}

// before returns an offset after which only the topic's last event comes.
func (fin *finish) before() uint64 {
	if last := fin.last.Load(); last > 0 {
		return last - 1
	}
	return fin.order
}
