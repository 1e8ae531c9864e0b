//go:build unix

package soak

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/chi-sse/sse/hub"
)

// check checks that the segment has all events of the topics between its ends, and no others.
func (seg *segment) check(events []*sent, topics map[string]bool) error {
	i, _ := slices.BinarySearchFunc(events, seg.after+1, func(e *sent, offset uint64) int { return cmp.Compare(e.offset, offset) })
	got := seg.got
	for _, e := range events[i:] {
		if e.offset > seg.upTo {
			break
		}
		if !topics[e.Topic] {
			continue
		}
		switch {
		case len(got) == 0 || got[0] > e.offset:
			return fmt.Errorf("%s at %d is missing, and in no gap; the reader was at %d, and went on to %d", e.Key, e.offset, seg.after, seg.upTo)
		case got[0] < e.offset:
			return fmt.Errorf("%d was not acknowledged, or is not after %d", got[0], seg.after)
		}
		got = got[1:]
	}
	if len(got) > 0 {
		return fmt.Errorf("%d came, but the reader was to get nothing after %d", got[0], seg.upTo)
	}
	return nil
}

// checkKicks checks that no connection has got events after a kick that concerned it. mu of r
// is held.
func (s *soak) checkKicks(r *reader) error {
	s.kicker.mu.Lock()
	defer s.kicker.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range r.connections {
		at, ok := s.admitted[c.id]
		if !ok {
			continue
		}
		for _, o := range s.kicker.orders {
			if !r.follow[o.topic] || o.offset <= at.Offset {
				continue
			}
			s.concerned++
			if c.most <= o.offset {
				continue
			}
			if !r.lost(o.offset) {
				return fmt.Errorf("connection %s of node %d was admitted at %v, kicked at %d, and has got %d", c.id, c.node, at, o.offset, c.most)
			}
			s.lostOrders++
		}
	}
	return nil
}

// lost reports whether the reader was told that what is at offset was lost.
func (r *reader) lost(offset uint64) bool {
	return slices.ContainsFunc(r.segments, func(seg *segment) bool {
		return seg.gap.Reason == hub.GapLost && offset > seg.upTo && offset <= seg.gap.Position.Offset
	})
}
