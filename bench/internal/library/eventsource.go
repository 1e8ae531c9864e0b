package library

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// The two eventsource libraries, of which one is a fork of the other, have the same
// forms with types of their own.

// sourceEvent is a Message as they want it.
type sourceEvent struct{ m Message }

func (e sourceEvent) Id() string    { return e.m.ID } //nolint:revive // the interface's name
func (e sourceEvent) Event() string { return e.m.Name }
func (e sourceEvent) Data() string  { return e.m.Data }

// received is an event as they hand it out.
type received interface {
	Id() string
	Event() string
	Data() string
}

// decodeSource is Decode by their decoders.
func decodeSource[E received](next func() (E, error), sink Sink) error {
	for {
		ev, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("decode: %w", err)
		}
		if !sink.Event(ev.Id(), ev.Event(), ev.Data()) {
			return nil
		}
	}
}

// readSource is Read from their streams.
func readSource[E received](ctx context.Context, events <-chan E, errs <-chan error, sink Sink) error {
	for {
		select {
		case ev := <-events:
			if !sink.Event(ev.Id(), ev.Event(), ev.Data()) {
				return nil
			}
		case err := <-errs:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
