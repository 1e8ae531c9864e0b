package hub

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// shard sends to its members, from one goroutine that is there while something is
// due. It goes through the followers of a topic one by one, and sends to each all
// that it is behind.
//
// A write to a detached session does not wait for the client. One through net/http
// may, and so may a Filter. So there is a watch: if the worker is with one member too
// long, another worker takes its place, and the one that is held up stays with that
// member only.
type shard struct {
	hub       *Hub
	delivered atomic.Uint64

	mu      sync.Mutex
	queue   deque[*part]
	worker  *worker // nil: none is at work
	spare   *worker
	watch   *time.Timer
	watched bool   // the watch is set
	seen    uint64 // what the worker was at when the watch looked last
	members []*Member
}

const (
	// stall is how long a worker may be with a member before the watch, which looks
	// this often, may have it replaced: between one and two of it.
	// The system may well take the processor away for a few milliseconds, and that is no
	// stall.
	stall = 5 * time.Millisecond

	// maxStalls is how often a worker may be held up in a pass. Then nothing more is
	// risked in it: those that may block have a goroutine each.
	maxStalls = 2

	// cautiously is for how many deliveries a member that has held up a worker is
	// delivered to by a goroutine of its own.
	cautiously = 20

	// stint is how many members a worker goes through before another topic has its turn.
	stint = 64
)

// worker is the goroutine of a shard, and what it is about.
type worker struct {
	shard    *shard
	visit    atomic.Uint64 // number of the visit to a member: odd while it lasts
	ms       [stint]*Member
	mayBlock [stint]bool // as of warm
	n, i     int
	part     *part
	stalls   int // in this pass
	r        reader
}

// replaced is the bit of worker.visit that says that another has taken its place.
const replaced = 1 << 63

// enqueue has a pass made through p.
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
	sh.start(w)
}

// start starts w, and the watch. mu is held.
func (sh *shard) start(w *worker) {
	sh.worker = w
	go w.run()
	if sh.watched {
		return
	}
	sh.watched = true
	if sh.watch == nil {
		sh.watch = time.AfterFunc(stall, sh.look)
	} else {
		sh.watch.Reset(stall)
	}
}

// run works until nothing is due, or until it is replaced.
func (w *worker) run() {
	for {
		w.warm()
		for w.i < w.n {
			m := w.ms[w.i]
			if !w.deliverTo(m) {
				return
			}
			w.i++
		}
		if !w.shard.assign(w) {
			return
		}
	}
}

// warm looks at what the deliveries of a stint need. The processor fetches it for many
// members at a time, where the deliveries would wait for one after the other.
func (w *worker) warm() {
	for i, m := range w.ms[:w.n] {
		w.mayBlock[i] = m.state.Load() != stateIdle || m.session.MayBlock()
	}
}

// assign gives w the next stint. It reports whether there is one.
func (sh *shard) assign(w *worker) bool {
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

// deliverTo sends to m what is due. It reports whether w is still the shard's worker.
func (w *worker) deliverTo(m *Member) bool {
	if m.cursor.Load() >= w.part.topic.last.Load() || !m.claim() {
		return true
	}
	if w.mayBlock[w.i] && (w.stalls >= maxStalls || m.needsCaution()) {
		go m.drain(statusDone)
		return true
	}
	visit := w.visit.Add(1)
	st := m.deliver(m.hub.head.Load(), &w.r)
	for st == statusDone && !m.letGo() {
		st = m.deliver(m.hub.head.Load(), &w.r)
	}
	if !w.visit.CompareAndSwap(visit, visit+1) {
		if st == statusPending || st == statusGap {
			m.drain(st)
		}
		return false
	}
	if st == statusPending || st == statusGap {
		go m.drain(st)
	}
	return true
}

func (m *Member) needsCaution() bool {
	if m.caution.Load() == 0 {
		return false
	}
	m.caution.Add(-1)
	return true
}

// look is the watch.
func (sh *shard) look() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	w := sh.worker
	if w == nil {
		sh.watched = false
		return
	}
	visit := w.visit.Load()
	if visit&1 == 1 && visit == sh.seen && w.visit.CompareAndSwap(visit, visit|replaced) {
		sh.replace(w, visit)
		visit++
	}
	sh.seen = visit
	sh.watch.Reset(stall)
}

// replace has another worker do what w, which is held up by a member, has left. mu is
// held.
func (sh *shard) replace(w *worker, visit uint64) {
	w.ms[w.i].caution.Store(cautiously)
	w2 := &worker{shard: sh, part: w.part, stalls: w.stalls + 1}
	w2.visit.Store(visit + 1)
	w2.n = copy(w2.ms[:], w.ms[w.i+1:w.n])
	sh.start(w2)
}

func (sh *shard) add(m *Member) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	m.i = int32(len(sh.members))
	sh.members = append(sh.members, m)
}

// remove takes m out. It reports whether it was in.
func (sh *shard) remove(m *Member) bool {
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
	return true
}

func (sh *shard) snapshot() []*Member {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return slices.Clone(sh.members)
}
