package hub

import (
	"runtime/debug"

	"github.com/chi-sse/sse"
)

// A delivery sends a member its unsent events: the events of its topics after its cursor.
// The caller of deliver has claimed the member. deliver repeats these steps until it has
// reached the offset that the caller asked for:
//
//  1. gather puts unsent events into the reader's frames, as many as fit into one write
//     (reader.go). It moves the member's links past them, but not yet the cursor.
//  2. The session's TryWrite writes the frames.
//  3. commitWrite moves the cursor past what was written.
//
// A worker must not wait for one client. So where a delivery would have to wait, deliver
// returns a status, and the worker starts a goroutine that runs deliverAll, and hands the
// claim over to it. That goroutine finishes the write (statusPending) or does what the
// member's SlowPolicy says (statusGap). Then it delivers what has been published meanwhile,
// and releases the claim.
//
// Besides the workers (shard.go), the handler's goroutine delivers when it opens a session
// (serve.go), and so does each goroutine that runs deliverAll.

// status is the result of a delivery.
type status uint8

const (
	statusDone    status = iota // no event is unsent, up to the offset asked for
	statusPending               // the client has not taken all of a write: Finish must wait for it
	statusGap                   // unsent events have left the log
	statusEnded                 // the session has ended; the claim is not needed any longer
)

// deliver sends m its unsent events up to the offset upTo, which the caller has read from
// Hub.head, or, if m has an ending, up to its limit. The caller has claimed m and keeps the
// claim. No other goroutine may use r meanwhile.
//
// It looks for an ending once, after upTo was read. So an event that is published after the
// ending was set is not sent: upTo is before it, or the limit is. If there is no ending yet,
// m's claimant is going to look again, because the goroutine that sets an ending leaves word.
//
// On statusDone the cursor is at upTo or after it. On statusPending the frames are with the
// session, and m.cut and m.last tell commitWrite what to do when they are written. On
// statusGap nothing has been sent since the last complete write. On statusEnded the session
// has ended: a write failed, a callback panicked, or m has everything up to the limit of its
// ending.
func (m *Member) deliver(upTo uint64, r *reader) (st status) {
	defer func() {
		if v := recover(); v != nil { // from a Filter, a Key, or a hook
			m.session.End(&sse.PanicError{Value: v, Stack: debug.Stack()})
			st = statusEnded
		}
	}()
	if m.isCold() {
		return statusGap
	}
	from := m.cursor.Load()
	e := m.ending.Load()
	if e != nil {
		upTo = e.limit
		r.cached = cache{} // it may hold later events
	}
	for {
		cut, last, ok := r.gather(m, upTo)
		switch {
		case !ok:
			return statusGap
		case r.frames.Events == 0: // the filter has accepted nothing, or there is nothing
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
			m.commitWrite()
		}
		if cut < upTo {
			continue
		}
		switch {
		case e == nil && m.hub.lastFinish.Load() > 0 && m.endsHere(from, r):
			if r.opening != nil {
				_ = m.server.Open() // if nothing was sent
			}
			m.session.End(errEndFinished)
			return statusEnded
		case e == nil:
			return statusDone
		}
		if e = m.ending.Load(); e.limit > upTo { // a shutdown of the hub after one of the plugin
			upTo = e.limit
			continue
		}
		if e.frame != nil && !e.told {
			e.told = true
			switch pending, err := m.tryFrame(r, e.frame); {
			case err != nil:
				return statusEnded
			case pending:
				return statusPending
			}
		}
		m.session.End(e.cause)
		return statusEnded
	}
}

// tryFrame writes a frame that is not from the log. If it is pending, commitWrite may follow as
// for any other write.
func (m *Member) tryFrame(r *reader, frame []byte) (pending bool, err error) {
	r.cached = cache{}
	r.frames.Reset(keptSize)
	r.frames.Append(frame)
	m.cut, m.last = m.cursor.Load(), m.lastID.Load()
	return m.session.TryWrite(&r.frames)
}

// commitWrite moves the cursor past a complete write, which m.cut and m.last describe. The
// caller has claimed m.
func (m *Member) commitWrite() {
	m.lastID.Store(m.last)
	m.cursor.Store(m.cut)
}

// deliverAll completes a delivery that has returned st, delivers until nothing is unsent,
// and releases the claim, which the caller hands over to it. It may wait for the client, so
// it runs in its own goroutine.
func (m *Member) deliverAll(st status) {
	r := readers.Get().(*reader)
	defer readers.Put(r)
	for {
		if st != statusDone {
			st = m.completeDelivery(st, r)
		}
		if st == statusDone {
			st = m.deliver(m.hub.head.Load(), r)
		}
		switch {
		case st == statusEnded:
			return // nobody needs the claim any longer
		case st == statusDone && m.releaseClaim():
			return
		}
	}
}

// completeDelivery does what a delivery that returned st has left undone, which may mean
// waiting for the client. It returns statusDone if m can be delivered to again, or
// statusEnded. The caller has claimed m.
func (m *Member) completeDelivery(st status, r *reader) status {
	if p := catch(func() { st = m.finishWriteOrHandleGap(st, r) }); p != nil { // from a Snapshot or a hook
		m.session.End(p)
		return statusEnded
	}
	return st
}

func (m *Member) finishWriteOrHandleGap(st status, r *reader) status {
	switch st {
	case statusPending:
		if m.session.Finish() != nil {
			return statusEnded
		}
		m.commitWrite()
		return statusDone
	case statusGap:
		r.resumed = true
		return m.applySlowPolicy(r)
	}
	return st
}
