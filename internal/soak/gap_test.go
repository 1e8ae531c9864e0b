package soak

import (
	"encoding/json"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// acceptGap checks that a gap that the client is told of was due.
func (cn *conn) acceptGap(ev event.Event) {
	cn.mu.Lock()
	defer cn.mu.Unlock()
	if cn.broken {
		return
	}
	var g hub.Gap
	if err := json.Unmarshal([]byte(ev.Data), &g); err != nil {
		cn.fault("a gap %q: %v", ev.Data, err)
		return
	}
	evicted, to := cn.at.lost(), g.Position.Offset
	switch {
	case g.Position.Epoch != cn.at.epoch, g.Position.String() != ev.ID, g.Snapshot, to < cn.pos, to > cn.at.hub.Position().Offset:
		cn.fault("is told of a gap %s with the id %q", ev.Data, ev.ID)
	case cn.due != "" && cn.due != g.Reason:
		cn.fault("is told of a gap %s, want the reason %q", ev.Data, cn.due)
	case cn.opening && cn.header != "" && cn.header != g.Reason:
		cn.fault("is told of a gap %s, but the header says %q", ev.Data, cn.header)
	case !cn.at.ledger.await(to) || cn.pos < cn.at.ledger.oldest() && cn.begun:
		cn.fault("is told of a gap %s over more than the soak remembers", ev.Data)
	case cn.due == "" && !cn.isDue(g, evicted):
		cn.fault("is told of a gap that is not due: %s", ev.Data)
	case cn.due != "" && (to > max(cn.after, cn.before) || cn.starts == hub.Now && to < cn.before):
		cn.fault("connects between %d and %d, but is told of a gap %s", cn.before, cn.after, ev.Data)
	}
	if cn.broken {
		return
	}
	cn.soak.noteGap(g.Reason)
	cn.note("gap "+string(g.Reason)+", from, to", 0, cn.pos, to)
	cn.due, cn.opening, cn.begun = "", false, true
	cn.pos = to
	for _, f := range cn.follows {
		switch {
		case f.asked:
			f.may, f.must = to, to
		case f.must != never: // otherwise it is just being added, or was removed
			f.must = max(f.must, to)
		}
		if g.Reason == hub.GapSlow && cn.policy == hub.SlowLatest {
			f.may = to // the hub continues with the oldest event in the log, also of topics that were added
		}
	}
	for t, offset := range cn.owed {
		if offset <= to {
			delete(cn.owed, t)
		}
	}
}

// isDue reports whether the condition of g's reason holds, for a client that is neither new nor
// comes from elsewhere. evicted is how many events have left the log by now.
func (cn *conn) isDue(g hub.Gap, evicted uint64) bool {
	to := g.Position.Offset
	lost := false
	for _, offset := range cn.owed {
		lost = lost || offset <= evicted
	}
	cn.at.ledger.scan(cn.pos, to, func(e *entry) {
		f := cn.follows[e.topic]
		lost = lost || f != nil && e.offset > f.may && e.offset <= f.until && e.offset <= evicted
	})
	switch g.Reason {
	case hub.GapExpired:
		if to > evicted && cn.unsent(evicted) <= maxReplay { // it must continue with what the log still holds
			return false
		}
		if !lost && cn.at.closeLog == nil && cn.mayBeForgotten(evicted) {
			cn.soak.forgotten.Add(1)
			return true
		}
		return lost
	case hub.GapReplay:
		return cn.policy != hub.SlowLatest && cn.opening && cn.unsent(cn.pos) > maxReplay
	case hub.GapSlow:
		return lost && cn.policy != hub.SlowEnd && (cn.policy == hub.SlowSkip || to <= evicted)
	}
	return false
}

// unsent returns the length of the events of the client's topics after from.
func (cn *conn) unsent(from uint64) (bytes int64) {
	cn.at.ledger.scan(from, cn.at.hub.Position().Offset, func(e *entry) {
		if cn.follows[e.topic] != nil {
			bytes += int64(e.size)
		}
	})
	return bytes
}

// mayBeForgotten reports whether one of the client's topics may have been without events in the
// log, and without followers, after the client's position. The hub then no longer knows
// whether the topic has lost any.
func (cn *conn) mayBeForgotten(evicted uint64) bool {
	seen := make(map[topic]uint64) // offset of the topic's newest event before the one that is looked at
	forgotten := false
	head := cn.at.hub.Position().Offset
	from := cn.pos - min(cn.pos, logEvents)
	cn.at.ledger.scan(from, head, func(e *entry) {
		if cn.follows[e.topic] == nil {
			return
		}
		before, ok := seen[e.topic]
		forgotten = forgotten || !ok && e.offset > from+1 || ok && e.offset-before >= logEvents
		seen[e.topic] = e.offset
	})
	for t := range cn.follows {
		forgotten = forgotten || seen[t] <= evicted
	}
	return forgotten
}
