package hub

import (
	"strings"
	"sync/atomic"
)

// A hub counts offsets upwards as long as it lives: cursors, floors and Hub.head never go
// back. A Log may change its epoch, and begin again with low offsets. So the hub's offsets
// are those of the Log plus a base, which is another one in each epoch. A hub without a Log
// has one epoch, with the base 0.

// span is a stretch of the hub's offsets with one epoch. Its fields do not change.
type span struct {
	from   uint64 // the lowest offset of the span
	base   uint64 // what is added to the offsets of positions
	epoch  uint64
	prefix string // of ids that are positions: the epoch and a hyphen
}

// offset returns the hub's offset for p, which must have the span's epoch.
func (s *span) offset(p Position) uint64 { return p.Offset + s.base }

// maxSpans is of how many epochs a hub tells its members the positions. A member is at most
// one write behind when an epoch ends.
const maxSpans = 8

// spans are a hub's spans, in order. Hub.mu guards begin; all else needs no lock.
type spans struct{ all atomic.Pointer[[]*span] }

// last returns the present span.
func (s *spans) last() *span {
	all := *s.all.Load()
	return all[len(all)-1]
}

// begin adds a span with the epoch, in which the position with the offset 0 has the hub's
// offset base.
func (s *spans) begin(epoch, base uint64) {
	next := &span{from: base, base: base, epoch: epoch, prefix: strings.TrimSuffix(Position{Epoch: epoch}.String(), "0")}
	var all []*span
	if old := s.all.Load(); old != nil {
		all = append(all, (*old)[max(0, len(*old)+1-maxSpans):]...)
	}
	all = append(all, next)
	s.all.Store(&all)
}

// position returns the position with the hub's offset.
func (s *spans) position(offset uint64) Position {
	all := *s.all.Load()
	i := len(all) - 1
	for i > 0 && offset < all[i].from {
		i--
	}
	return Position{all[i].epoch, offset - all[i].base}
}
