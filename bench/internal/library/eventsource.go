package library

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// donovanhide/eventsource and launchdarkly/eventsource have the same API with different
// types, because one is a fork of the other. This file has what both need.

// sourceEvent is a Message with the methods that the two libraries' Event interfaces ask
// for.
type sourceEvent struct{ m Message }

func (e sourceEvent) Id() string    { return e.m.ID } //nolint:revive // the interface's name
func (e sourceEvent) Event() string { return e.m.Name }
func (e sourceEvent) Data() string  { return e.m.Data }

// received is the interface of the events that the two libraries decode.
type received interface {
	Id() string
	Event() string
	Data() string
}

// decodeSource passes the events that next returns to sink until sink wants no more or
// next returns io.EOF. It returns any other error of next.
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

// readSource passes the events of a stream to sink until sink wants no more. It returns
// the stream's first error, or ctx's error.
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
