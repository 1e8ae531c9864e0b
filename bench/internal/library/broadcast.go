package library

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// source is a Source whose send takes a library's own type of event.
type source[T any] func(ctx context.Context, send func(T) error) error

// channels returns the Start function of a library that has no hub. handler serves one
// stream with the events of its source, and event converts a Message to the library's
// type. Each subscriber gets a channel, as in the libraries' examples.
func channels[T any](handler func(source[T]) http.Handler, event func(Message) T) func(net.Listener, Setup) (Publish, error) {
	return func(ln net.Listener, setup Setup) (Publish, error) {
		hub := newBroadcast[T](setup)
		serveEvents(ln, handler(hub.follow))
		return func(m Message) error { hub.publish(event(m)); return nil }, nil
	}
}

// single returns the Stream function of a library that has no hub. handler and event are
// as for channels.
func single[T any](handler func(source[T]) http.Handler, event func(Message) T) func(net.Listener, Source) error {
	return func(ln net.Listener, events Source) error {
		serveEvents(ln, handler(func(ctx context.Context, send func(T) error) error {
			return events(ctx, func(m Message) error { return send(event(m)) })
		}))
		return nil
	}
}

// broadcast stands in for the hub of a library that has none. Each subscriber has a
// channel, as in the libraries' examples and in most programs. A subscriber whose channel
// is full is dropped, so that no other waits for it.
type broadcast[T any] struct {
	backlog int // events that a channel holds

	mu   sync.Mutex
	subs map[chan T]struct{}
}

// newBroadcast returns a broadcast whose channels hold 64 events, or setup.Backlog if that
// is more.
func newBroadcast[T any](setup Setup) *broadcast[T] {
	return &broadcast[T]{backlog: max(64, setup.Backlog), subs: map[chan T]struct{}{}}
}

// subscribe adds a subscriber and returns its channel, which publish closes if it drops
// the subscriber.
func (b *broadcast[T]) subscribe() chan T {
	ch := make(chan T, b.backlog)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs[ch] = struct{}{}
	return ch
}

// follow sends each published event by send until ctx is done, send fails, or the
// subscriber is dropped. It returns the reason.
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

var errDropped = errors.New("the subscriber was dropped because its channel was full")

// unsubscribe removes the subscriber of ch.
func (b *broadcast[T]) unsubscribe(ch chan T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, ch)
}

// publish puts v into each subscriber's channel and drops the subscribers whose channel is
// full.
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
