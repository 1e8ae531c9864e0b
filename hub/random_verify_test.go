package hub_test

import (
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/chi-sse/sse/hub"
)

// randomConn records what a client has seen over one connection, or over several if the
// client reconnects by itself.
type randomConn struct {
	run    *randomRun
	ownIDs bool
	who    string
	topics []string
	odd    bool
	exact  bool // the client had an id
	skip   bool
	from   string // that id
	to     string // its last event id at the end
	// A client without an id starts between these two offsets: the hub's before and after
	// it connected.
	before, after uint64
	items         []randomItem
}

type randomItem struct {
	id      string
	sum     uint64 // hash of the id and the data
	gap     *hub.Gap
	to      uint64 // rank of the gap's position
	evicted uint64 // Stats.Evicted when it was seen
}

// verify compares what all clients have seen with what was published.
func (run *randomRun) verify() {
	run.number()
	ids := make(map[string]*randomEvent, len(run.events))
	for i := range run.events {
		ids[run.events[i].id] = &run.events[i]
	}
	for _, cn := range run.seenBy {
		if err := cn.verify(run.events, ids); err != nil {
			run.t.Errorf("%s, topics %q, odd %t, from %q (%d to %d), %d seen: %v", cn.who, cn.topics, cn.odd, cn.from, cn.before, cn.after, len(cn.items), err)
			if run.errors++; run.errors > 5 {
				return
			}
		}
	}
}

// number replaces all offsets by ranks: the rank of an event is how many there are up to it.
// With a Log, offsets have holes, and orders have some too.
func (run *randomRun) number() {
	for _, cn := range run.seenBy {
		cn.before, cn.after = run.rank(cn.before), run.rank(cn.after)
		for i := range cn.items {
			item := &cn.items[i]
			item.evicted = run.rank(item.evicted)
			if item.gap != nil {
				item.to = run.rank(item.gap.Position.Offset)
			}
		}
	}
	run.ranks = make([]uint64, len(run.events))
	for i := range run.events {
		run.ranks[i], run.events[i].offset = run.events[i].offset, uint64(i+1)
	}
}

// rank returns how many events there are up to the offset.
func (run *randomRun) rank(offset uint64) uint64 {
	if run.ranks != nil {
		n, found := slices.BinarySearch(run.ranks, offset)
		if found {
			n++
		}
		return uint64(n)
	}
	n, found := slices.BinarySearchFunc(run.events, offset, func(e randomEvent, offset uint64) int { return cmp.Compare(e.offset, offset) })
	if found {
		n++
	}
	return uint64(n)
}

// verify returns an error if cn is not what its client should have seen. The event at
// offset n is events[n-1].
func (cn *randomConn) verify(events []randomEvent, ids map[string]*randomEvent) error {
	pos, begun := cn.before, false
	if cn.ownIDs { // a client without an id starts with the oldest event in the log
		pos = 0
	}
	if cn.exact {
		begun = true
		at, err := cn.run.hubs[0].ParseID(cn.from)
		if pos = cn.rankOf(cn.from, ids); pos == 0 && cn.from != "" && (err != nil || at.Offset > 0) {
			return errors.New("it has come with an id that nobody has published")
		}
	}
	for i, item := range cn.items {
		if before := pos; item.gap != nil {
			if err := cn.verifyGap(item, pos, events); err != nil {
				return fmt.Errorf("item %d: %w", i, err)
			}
			if pos, begun = item.to, true; cn.ownIDs {
				pos, begun = before, false // it continues after an offset that the client is not told of
			}
			continue
		}
		e, ok := ids[item.id]
		switch {
		case !ok:
			return fmt.Errorf("item %d: id %q was not published", i, item.id)
		case e.offset <= pos:
			return fmt.Errorf("item %d: %d after %d: sent twice or out of order", i, e.offset, pos)
		case !cn.wants(e):
			return fmt.Errorf("item %d: %d of topic %s is not for this client", i, e.offset, e.topic)
		case randomSum(item.id, e.data) != item.sum:
			return fmt.Errorf("item %d: %d has other data", i, e.offset)
		}
		switch {
		case begun:
		case cn.ownIDs:
			pos = e.offset - 1
		default:
			pos = max(pos, cn.after)
		}
		begun = true
		if missing := cn.missing(pos, e.offset-1, events); len(missing) > 0 {
			return fmt.Errorf("item %d: %d follows %d, but %d are missing", i, e.offset, pos, missing)
		}
		pos = e.offset
	}
	if begun && cn.to != "" {
		if missing := cn.missing(pos, cn.rankOf(cn.to, ids), events); len(missing) > 0 {
			return fmt.Errorf("the last event id is %s, but %d are missing", cn.to, missing)
		}
	}
	return nil
}

// verifyGap returns an error if a client at pos was told of a gap without having missed an
// event.
func (cn *randomConn) verifyGap(item randomItem, pos uint64, events []randomEvent) error {
	g, to := item.gap, item.to
	if cn.run.tr.log {
		return fmt.Errorf("the client at %d was told of the gap %+v, although the log has all", pos, *g)
	}
	lost := slices.ContainsFunc(events[min(pos, to):to], func(e randomEvent) bool {
		return slices.Contains(cn.topics, e.topic) && e.offset <= item.evicted
	})
	if cn.ownIDs {
		// The last id that the client had is of an event that has left the log, or another
		// topic has lost events that come after it.
		_, err := hub.ParsePosition(item.id) // the decoder returns the last id
		if !g.Position.IsZero() || err == nil || g.Snapshot || g.Reason == hub.GapSlow && !cn.skip || pos > item.evicted && g.Reason == hub.GapMalformed {
			return fmt.Errorf("the client at %d was told of the gap %+v, with %d events evicted", pos, *g, item.evicted)
		}
		return nil
	}
	switch {
	case g.Snapshot, cn.run.idOf(g.Position) != item.id, to <= pos:
	case !lost:
	case g.Reason == hub.GapExpired:
		if to <= item.evicted { // it continues with what the log still holds
			return nil
		}
	case g.Reason == hub.GapSlow && cn.skip:
		return nil
	}
	return fmt.Errorf("the client at %d was told of the gap %+v, with %d events evicted", pos, *g, item.evicted)
}

func (cn *randomConn) wants(e *randomEvent) bool {
	return slices.Contains(cn.topics, e.topic) && (e.odd || !cn.odd)
}

func (cn *randomConn) missing(from, to uint64, events []randomEvent) (offsets []uint64) {
	for offset := from + 1; offset <= to; offset++ {
		if cn.wants(&events[offset-1]) {
			offsets = append(offsets, offset)
		}
	}
	return offsets
}

// rankOf returns the rank of the event or position with the id.
func (cn *randomConn) rankOf(id string, ids map[string]*randomEvent) uint64 {
	if e, ok := ids[id]; ok {
		return e.offset
	}
	return cn.run.rank(cn.run.parse(id).Offset)
}

func randomSum(id, data string) uint64 { return maphash.String(randomSeed, id+"\n"+data) }

var randomSeed = maphash.MakeSeed()
