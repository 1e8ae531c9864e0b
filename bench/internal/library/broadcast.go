package library

import "sync"

// broadcast is the hub that libraries without one are given: a channel for each
// subscriber, as in their examples and in most programs. A subscriber whose channel
// is full is dropped rather than waited for.
type broadcast[T any] struct {
	backlog int

	mu   sync.Mutex
	subs map[chan T]struct{}
}

func newBroadcast[T any](setup Setup) *broadcast[T] {
	return &broadcast[T]{backlog: max(64, setup.Backlog), subs: map[chan T]struct{}{}}
}

// subscribe returns the channel of a new subscriber, which is closed when it is
// dropped.
func (b *broadcast[T]) subscribe() chan T {
	ch := make(chan T, b.backlog)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs[ch] = struct{}{}
	return ch
}

func (b *broadcast[T]) unsubscribe(ch chan T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, ch)
}

func (b *broadcast[T]) publish(v T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.subs {
		select {
		case ch <- v:
		default:
			delete(b.subs, ch)
			close(ch)
		}
	}
}
