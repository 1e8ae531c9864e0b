//go:build unix

package soak

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/chi-sse/sse/hub"
)

// sent is an event that a publisher has tried to publish.
type sent struct {
	publication
	offset uint64 // in the stream, as soon as it is known
	acked  bool
}

// ledger is what has been published.
type ledger struct {
	mu       sync.Mutex
	epoch    uint64
	byKey    map[string]*sent
	byOffset map[uint64]*sent
	head     uint64 // the highest offset that is known
	acked    int
	maxMsgs  uint64
	slack    uint64 // how many messages the stream may have in addition to what is known
}

// add notes events before anybody tries to publish them.
func (l *ledger) add(ps []publication) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range ps {
		l.byKey[p.Key] = &sent{publication: p}
	}
}

// ack notes that events were acknowledged at positions.
func (l *ledger) ack(ps []publication, at []hub.Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(ps) != len(at) {
		return fmt.Errorf("%d positions for %d events", len(at), len(ps))
	}
	for i, p := range ps {
		e := l.byKey[p.Key]
		if err := l.placeLocked(e, at[i]); err != nil {
			return err
		}
		if !e.acked {
			e.acked = true
			l.acked++
		}
	}
	return nil
}

// deliver notes that an event has arrived at a client, with its position as the id. It
// returns the event.
func (l *ledger) deliver(data string, at hub.Position) (*sent, error) {
	key, _, _ := strings.Cut(data, " ")
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byKey[key]
	if e == nil || e.Data != data {
		return nil, fmt.Errorf("%v is %.100q, which nobody has published", at, data)
	}
	return e, l.placeLocked(e, at)
}

// placeLocked notes that e is at a position.
func (l *ledger) placeLocked(e *sent, at hub.Position) error {
	if l.epoch == 0 {
		l.epoch = at.Epoch
	}
	other := l.byOffset[at.Offset]
	switch {
	case at.Epoch != l.epoch:
		return fmt.Errorf("%v has another epoch than %v", at, hub.Position{Epoch: l.epoch})
	case at.Offset == 0:
		return fmt.Errorf("%s has the offset 0", e.Key)
	case e.offset != 0 && e.offset != at.Offset:
		return fmt.Errorf("%s is at %d and at %d", e.Key, e.offset, at.Offset)
	case other != nil && other != e:
		return fmt.Errorf("%s and %s are at %d", e.Key, other.Key, at.Offset)
	}
	e.offset = at.Offset
	l.byOffset[at.Offset] = e
	l.head = max(l.head, at.Offset)
	return nil
}

func (l *ledger) epochNow() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// order notes the offset of an order.
func (l *ledger) order(at hub.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = max(l.head, at.Offset)
}

// dropped reports whether the stream may have dropped what is at offset.
func (l *ledger) dropped(offset uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return offset+l.maxMsgs <= l.head+l.slack
}

// last returns the highest offset of an event of the topics.
func (l *ledger) last(topics map[string]bool) (offset uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, e := range l.byOffset {
		if topics[e.Topic] {
			offset = max(offset, at)
		}
	}
	return offset
}

// events returns the events by offset, and the highest offset that is known. It returns an
// error if there is one that was not acknowledged.
func (l *ledger) events() (all []*sent, head uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.byKey {
		if !e.acked {
			return nil, 0, fmt.Errorf("%s was never acknowledged", e.Key)
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(x, y *sent) int { return cmp.Compare(x.offset, y.offset) })
	return all, l.head, nil
}

// prune forgets what the stream has dropped.
func (l *ledger) prune() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, e := range l.byKey {
		if e.acked && e.offset+2*l.maxMsgs+l.slack < l.head {
			delete(l.byKey, key)
			delete(l.byOffset, e.offset)
		}
	}
}
