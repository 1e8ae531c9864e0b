package hub

// A hub without a Log remembers the Keys of the publications that are in its log. It needs no
// more for an event that has none.

// key is a Publication's Key, in its topic.
type key struct{ topic, key string }

// keys are the keys of the entries in the log. Hub.mu guards them. Their zero value is empty.
type keys struct {
	positions map[key]Position
	order     deque[keyed] // in the order of the log
}

type keyed struct {
	key
	offset uint64
}

// find returns the position of the event with k.
func (ks *keys) find(k key) (Position, bool) {
	pos, ok := ks.positions[k]
	return pos, ok
}

// add remembers the key of the newest event.
func (ks *keys) add(k key, pos Position) {
	if ks.positions == nil {
		ks.positions = make(map[key]Position)
	}
	ks.positions[k] = pos
	ks.order.push(keyed{k, pos.Offset})
}

// evict forgets the key of the entry with the offset, which is evicted.
func (ks *keys) evict(offset uint64) {
	for ks.order.len() > 0 && ks.order.at(0).offset <= offset {
		delete(ks.positions, ks.order.pop().key)
	}
}
