package soak

import (
	"time"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// checker compares what a connection receives with what was published. An event of a topic
// must arrive, if its offset is after must, and may arrive, if its offset is after may and up to
// until.
type checker struct {
	follows map[topic]*follow

	at      *era   // whose events these are
	pos     uint64 // every event up to there has been checked
	last    uint64 // offset of the last event
	begun   bool   // it is known where it starts
	before  uint64 // the head before and after the connection was made
	after   uint64
	due     hub.GapReason // which it must be told of, before anything else
	header  hub.GapReason
	opening bool // nothing has arrived
	broken  bool // it has a fault, and others would follow from it
}

type follow struct {
	may, must, until uint64
	asked            bool // in the request
}

const never = 1 << 62

// begin prepares for what follows the head of the response. before and head were the mode's
// era and the hub's head before the request.
func (cn *conn) begin(before *era, head uint64, header string) {
	e := cn.era.Load()
	cn.mu.Lock()
	defer cn.mu.Unlock()
	cn.at, cn.opening, cn.header, cn.after = e, true, hub.GapReason(header), e.hub.Position().Offset
	if e == before {
		cn.before = head
	}
	id, err := hub.ParsePosition(cn.from)
	may, must := cn.before, cn.after
	switch {
	case cn.from == "":
	case err != nil:
		cn.due = hub.GapMalformed
	case id.Epoch != e.epoch:
		cn.due = hub.GapEpoch
	case id.Offset > cn.after:
		cn.due = hub.GapAhead
	default:
		cn.begun, may, must = true, id.Offset, id.Offset
	}
	if !cn.begun {
		clear(cn.owed)
		if cn.starts == hub.Beginning {
			may = 0
		}
	}
	cn.pos = may
	cn.note("connects after, before", 0, may, must)
	if cn.follows == nil {
		cn.follows = make(map[topic]*follow)
	}
	for _, t := range cn.asked {
		cn.follows[t] = &follow{may: may, must: must, until: never, asked: true}
	}
	for t := range cn.owed {
		if cn.follows[t] == nil {
			delete(cn.owed, t)
		}
	}
}

// fault notes a fault of the connection, and gives the client up.
func (cn *conn) fault(format string, args ...any) {
	if !cn.broken {
		cn.broken = true
		args = append([]any{cn, cn.pos, cn.at.hub.Position().Offset, cn.at.lost()}, args...)
		cn.soak.fault("%v at %d of %d, %d evicted: "+format+"%v", append(args, &cn.trace)...)
	}
}

// acceptEvent checks an event that was received at now.
func (cn *conn) acceptEvent(ev event.Event, now time.Time) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.broken {
		return
	}
	p, err := hub.ParsePosition(ev.ID)
	if err != nil || p.Epoch != cn.at.epoch || !cn.at.ledger.await(p.Offset) {
		cn.fault("an event with the id %q was not published", ev.ID)
		return
	}
	e := cn.at.ledger.get(p.Offset)
	f := cn.follows[e.topic]
	switch {
	case cn.due != "":
		cn.fault("is sent an event instead of a gap with the reason %q", cn.due)
	case cn.opening && cn.header != "":
		cn.fault("is sent an event instead of the gap %q of the header", cn.header)
	case e.offset != p.Offset:
		cn.fault("%d is older than what the soak remembers", p.Offset)
	case p.Offset <= cn.last || p.Offset <= cn.pos:
		cn.fault("%d after %d: sent twice or out of order", p.Offset, max(cn.last, cn.pos))
	case f == nil || p.Offset <= f.may || p.Offset > f.until || cn.odd && !e.odd:
		cn.fault("%d of %v is not for this client: %+v", p.Offset, e.topic, f)
	case e.sum != sumOf(ev.Data):
		cn.fault("%d has other data", p.Offset)
	}
	cn.opening = false
	if cn.broken {
		return
	}
	cn.beginAt(p.Offset - 1)
	cn.require(p.Offset - 1)
	delete(cn.owed, e.topic)
	cn.note("event", e.topic, p.Offset, 0)
	cn.pos, cn.last = p.Offset, p.Offset
	if cn.kind == healthy && p.Offset > cn.after {
		cn.soak.latency.add(time.Duration(now.UnixNano() - e.at))
	}
}

// beginAt notes that the stream has begun at the offset at the latest.
func (cn *conn) beginAt(at uint64) {
	if cn.begun {
		return
	}
	cn.begun = true
	cn.pos = max(cn.pos, min(cn.after, at))
	for _, f := range cn.follows {
		if f.asked {
			f.must = min(f.must, at)
		}
	}
}

// require checks that everything up to the offset to has arrived, but what SlowLatest may leave
// out.
func (cn *conn) require(to uint64) {
	missing, ok := cn.missing(to)
	if !ok {
		cn.fault("%d to %d are older than what the soak remembers", cn.pos, to)
	}
	if cn.policy == hub.SlowLatest {
		cn.at.ledger.await(cn.at.hub.Position().Offset)
		for _, e := range missing {
			cn.note("left out, before", e.topic, e.offset, to+1)
			if cn.owed[e.topic] = e.offset; cn.at.ledger.newest(e.topic) == e.offset {
				cn.fault("%d, the newest of %v, is missing", e.offset, e.topic)
			}
		}
	} else if len(missing) > 0 {
		cn.fault("%d are missing before %d", offsetsOf(missing), to+1)
	}
	cn.pos = max(cn.pos, to)
}

// missing returns the events after pos, up to the offset to, that had to arrive.
func (cn *conn) missing(to uint64) (missing []entry, ok bool) {
	ok = cn.at.ledger.scan(cn.pos, to, func(e *entry) {
		if f := cn.follows[e.topic]; f != nil && e.offset > f.must && (e.odd || !cn.odd) {
			missing = append(missing, *e)
		}
	})
	return missing, ok
}

// acceptID checks that the client has everything up to its last event id.
func (cn *conn) acceptID(id string) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	p, err := hub.ParsePosition(id)
	cn.note("last id", 0, p.Offset, 0)
	if cn.broken || id == cn.from || err == nil && p.Epoch == cn.at.epoch && p.Offset == cn.pos {
		return
	}
	switch {
	case cn.due != "":
		cn.fault("is sent the id %s instead of a gap with the reason %q", id, cn.due)
	case err != nil || p.Epoch != cn.at.epoch || p.Offset < cn.pos || p.Offset > cn.at.hub.Position().Offset:
		cn.fault("is sent the id %q", id)
	default:
		cn.beginAt(p.Offset)
		cn.require(p.Offset)
		cn.checkOwed(p.Offset)
	}
}

// checkOwed checks that, up to the offset to, SlowLatest has left out only what newer events
// have replaced.
func (cn *conn) checkOwed(to uint64) {
	for t, offset := range cn.owed {
		if offset <= to {
			cn.fault("%d of %v, or a newer one, is missing up to %d", offset, t, to)
		}
	}
}

// checkComplete checks that a stream that looks complete has everything up to the offset to.
func (cn *conn) checkComplete(to uint64) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.broken || cn.due != "" {
		return
	}
	cn.note("must be complete, up to", 0, to, 0)
	cn.beginAt(max(cn.pos, to))
	cn.require(to)
	cn.checkOwed(to)
}

// checkKick checks that nothing has arrived that was published after the kick had returned.
func (cn *conn) checkKick(k *kick) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.last > k.after {
		cn.fault("received %d, which was published after its kick had returned at %d", cn.last, k.after)
	}
	if took := cn.endedAt.Sub(k.at); took > cn.soak.late.bound(k.late) {
		cn.fault("its session has ended %v after its kick", took)
	}
}

func offsetsOf(entries []entry) (offsets []uint64) {
	for _, e := range entries[:min(8, len(entries))] {
		offsets = append(offsets, e.offset)
	}
	return offsets
}
