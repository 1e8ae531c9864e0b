package library

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// source is Source for a library's own kind of event.
type source[T any] func(ctx context.Context, send func(T) error) error

// channels is Start of a library whose streams are served by handler, and which has no
// hub: each subscriber has a channel, as in the libraries' examples.
func channels[T any](handler func(source[T]) http.Handler, event func(Message) T) func(net.Listener, Setup) (Publish, error) {
	return func(ln net.Listener, setup Setup) (Publish, error) {
		hub := newBroadcast[T](setup)
		serveEvents(ln, handler(hub.follow))
		return func(m Message) error { hub.publish(event(m)); return nil }, nil
	}
}

// single is Stream of such a library.
func single[T any](handler func(source[T]) http.Handler, event func(Message) T) func(net.Listener, Source) error {
	return func(ln net.Listener, events Source) error {
		serveEvents(ln, handler(func(ctx context.Context, send func(T) error) error {
			return events(ctx, func(m Message) error { return send(event(m)) })
		}))
		return nil
	}
}

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

// follow sends what is published, until the subscriber leaves or is dropped.
func (b *broadcast[T]) follow(ctx context.Context, send func(T) error) error {
	ch := b.subscribe()
	defer b.unsubscribe(ch)
	for {
		select {
		case v, ok := <-ch:
			if !ok {
				return errDropped
			}
			if err := send(v); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errDropped = errors.New("dropped, since its channel was full")

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
