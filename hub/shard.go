package hub

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A shard's worker is the goroutine that sends to the shard's members. It exists only while
// the shard has parts in its queue. It takes one part at a time and goes through the part's
// members in stints: it claims each member and delivers its unsent events.
//
// A write to a detached session does not wait for the client. A write through net/http may
// wait, and so may a Filter, although it must not. So that one member cannot hold up the
// others, a timer, the watch, looks at the worker every watchPeriod. If the worker has been
// with the same member since the watch looked last, that is a stall: the watch starts
// another worker with the rest of the stint. The old worker stays with that one member
// only, and then ends.
//
// worker.visit decides between the worker and the watch. Its values:
//
//	even            the worker is between members
//	odd             the worker is with a member (a visit)
//	odd | replaced  the watch has replaced the worker during that visit
//
// Its changes:
//
//	even → odd            the worker begins a visit
//	odd → even            the worker ends the visit, and is still the shard's worker
//	odd → odd | replaced  the watch replaces the worker
//
// The last two are compare-and-swaps from the same value, so only one of them succeeds. A
// worker that fails to end its visit knows that it has been replaced. The number rises with
// each visit, and the new worker continues it. So if the watch reads the same odd number
// twice, that is one visit.
//
// Stalls cost time: until the watch has looked twice, the whole shard waits. So the hub
// takes precautions. While writes to a member may block, and it has caused a stall, other
// goroutines make its next deliveries (Member.caution). After maxStalls stalls in a pass,
// other goroutines deliver to every member to which a write may block, for the rest of the
// pass.

// shard is a share of the hub's members, and the worker that sends to them.
type shard struct {
	hub       *Hub
	delivered atomic.Uint64 // events times members

	mu        sync.Mutex
	queue     deque[*part] // each has queued set; the worker's part is not in it
	worker    *worker      // nil: none is at work
	spare     *worker      // that has ended, to be used again
	watch     *time.Timer
	watched   bool   // the watch is set
	seenVisit uint64 // worker.visit when the watch looked last
	members   []*Member
	news      deque[*part] // to announce; see wide.go

	announcing sync.Mutex
}

const (
	// watchPeriod is how often the watch looks. A visit is a stall after one to two
	// periods. The system may well take the processor away for a few milliseconds, and that
	// is not a stall.
	watchPeriod = 5 * time.Millisecond

	// maxStalls is how many stalls a pass may have before the worker takes no more risks.
	maxStalls = 2

	// cautionCount is for how many deliveries the worker avoids a member after a stall.
	cautionCount = 20

	// stintSize is the number of members in a stint.
	stintSize = 64
)

// worker is a shard's goroutine, its current stint, and the member that it is visiting.
//
// The fields below visit are the worker's own, with one exception: when the watch has
// replaced the worker, it reads them. The worker does not change them any longer then,
// except r.
type worker struct {
	shard    *shard
	visit    atomic.Uint64      // number of the visit to a member; see above
	ms       [stintSize]*Member // ms[:n] are the members of the stint
	mayBlock [stintSize]bool    // the result of warm
	n, i     int                // ms[i] is the member to visit
	part     *part              // nil before the first stint
	stalls   int                // in this pass
	r        reader
}

// replaced is the bit of worker.visit which says that another worker has taken its place.
const replaced = 1 << 63

// enqueue adds p to the queue, and starts a worker if none is at work. p.queued is set, and
// p's topic.mu is held.
func (sh *shard) enqueue(p *part) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.queue.push(p)
	if sh.worker != nil {
		return
	}
	w := sh.spare
	if w == nil {
		w = &worker{shard: sh}
	}
	sh.spare = nil
	sh.startWorker(w)
}

// startWorker makes w the shard's worker and starts its goroutine, and the watch. mu is
// held.
func (sh *shard) startWorker(w *worker) {
	sh.worker = w
	go w.deliverStints()
	if sh.watched {
		return
	}
	sh.watched = true
	if sh.watch == nil {
		sh.watch = time.AfterFunc(watchPeriod, sh.checkWorker)
	} else {
		sh.watch.Reset(watchPeriod)
	}
}

// deliverStints delivers to the members of one stint after another, until the queue is
// empty or the worker has been replaced.
func (w *worker) deliverStints() {
	for {
		w.warm()
		for w.i < w.n {
			m := w.ms[w.i]
			if !w.deliverTo(m) {
				return
			}
			w.i++
		}
		if !w.shard.nextStint(w) {
			return
		}
	}
}

// warm sets w.mayBlock, and so reads what the deliveries of the stint are going to need. The
// processor fetches it for many members at a time, while the deliveries would wait for one
// after the other. A member that is claimed counts as one to which a write may block.
func (w *worker) warm() {
	for i, m := range w.ms[:w.n] {
		w.mayBlock[i] = m.state.Load() != stateIdle || m.session.MayBlock()
	}
}

// nextStint ends w's stint and gives it another: of the same part, or of the next one in
// the queue if there is one, so that the topics take turns. It reports whether there is
// more to do. If not, w is no longer the shard's worker.
func (sh *shard) nextStint(w *worker) bool {
	clear(w.ms[:w.n])
	w.n, w.i = 0, 0
	more := w.part != nil && w.part.more(w.stalls)
	sh.mu.Lock()
	if !more || sh.queue.len() > 0 {
		if more {
			sh.queue.push(w.part)
		}
		w.part = nil
		if sh.queue.len() == 0 {
			sh.worker, sh.spare = nil, w
			sh.mu.Unlock()
			return false
		}
		w.part = sh.queue.pop()
	}
	sh.mu.Unlock()
	w.n, w.stalls = w.part.take(w.ms[:])
	return true
}

// deliverTo sends m, which is w.ms[w.i], its unsent events. It does nothing if none is of
// this topic, or if m is claimed. It reports whether w is still the shard's worker; if not,
// w must not touch the stint any longer.
//
// Either deliverTo releases the claim, or the session has ended, or the claim is handed
// over to deliverAll. A worker that has been replaced may wait, so it calls deliverAll
// itself.
func (w *worker) deliverTo(m *Member) bool {
	if m.cursor.Load() >= w.part.topic.last.Load() || !m.claim() {
		return true
	}
	if w.mayBlock[w.i] && (w.stalls >= maxStalls || m.spendCaution()) {
		go m.deliverAll(statusDone)
		return true
	}
	visit := w.visit.Add(1)
	st := m.deliver(m.hub.head.Load(), &w.r)
	for st == statusDone && !m.releaseClaim() {
		st = m.deliver(m.hub.head.Load(), &w.r)
	}
	if !w.visit.CompareAndSwap(visit, visit+1) {
		if st == statusPending || st == statusGap {
			m.deliverAll(st)
		}
		return false
	}
	if st == statusPending || st == statusGap {
		go m.deliverAll(st)
	}
	return true
}

// spendCaution counts m's caution down by one. It reports whether there was any left. The
// caller has claimed m.
func (m *Member) spendCaution() bool {
	if m.caution.Load() == 0 {
		return false
	}
	m.caution.Add(-1)
	return true
}

// checkWorker is what the watch calls. It replaces the worker in case of a stall, and sets
// the watch again unless no worker is at work.
func (sh *shard) checkWorker() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	w := sh.worker
	if w == nil {
		sh.watched = false
		return
	}
	visit := w.visit.Load()
	if visit&1 == 1 && visit == sh.seenVisit && w.visit.CompareAndSwap(visit, visit|replaced) {
		sh.replaceWorker(w, visit)
		visit++
	}
	sh.seenVisit = visit
	sh.watch.Reset(watchPeriod)
}

// replaceWorker starts a worker for the members of w's stint after the one that it is
// visiting, and for the rest of the pass. The visit is marked as replaced, so w does not
// change its fields any longer. mu is held.
func (sh *shard) replaceWorker(w *worker, visit uint64) {
	w.ms[w.i].caution.Store(cautionCount)
	w2 := &worker{shard: sh, part: w.part, stalls: w.stalls + 1}
	w2.visit.Store(visit + 1)
	w2.n = copy(w2.ms[:], w.ms[w.i+1:w.n])
	sh.startWorker(w2)
}

// addMember adds m to the shard's members.
func (sh *shard) addMember(m *Member) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	m.i = int32(len(sh.members))
	sh.members = append(sh.members, m)
}

// removeMember removes m from the shard's members. It reports whether m was one of them.
func (sh *shard) removeMember(m *Member) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	last := int32(len(sh.members) - 1)
	if m.i > last || sh.members[m.i] != m {
		return false
	}
	moved := sh.members[last]
	moved.i = m.i
	sh.members[m.i], sh.members[last] = moved, nil
	sh.members = sh.members[:last]
	if cap(sh.members) > 64 && int(last) < cap(sh.members)/4 {
		sh.members = append(make([]*Member, 0, cap(sh.members)/2), sh.members...)
	}
	return true
}

// copyMembers returns the shard's members.
func (sh *shard) copyMembers() []*Member {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return slices.Clone(sh.members)
}
