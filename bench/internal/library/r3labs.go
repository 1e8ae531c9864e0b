package library

import (
	"context"
	"fmt"
	"net"

	"github.com/r3labs/sse/v2"
)

// r3labs/sse v2.10.0, set up as in its README, but with AutoReplay off. With AutoReplay,
// the default, the library keeps every event forever, sends them all to each new
// subscriber, and numbers them itself. It buffers 64 events for a subscriber; that number
// is fixed. When a buffer is full, the stream waits, so the library loses nothing. Its
// encoder and decoder are not exported.
func init() {
	Register(Library{
		Name:   "r3labs/sse",
		Kind:   Peer,
		Module: "github.com/r3labs/sse/v2",
		Target: DefaultTarget + "?stream=bench",
		Note:   "replay off; a subscriber that is 64 events behind blocks all others",
		Start: func(ln net.Listener, _ Setup) (Publish, error) {
			srv := sse.New()
			srv.AutoReplay = false
			srv.CreateStream("bench")
			serveEvents(ln, srv)
			return func(m Message) error {
				srv.Publish("bench", &sse.Event{ID: []byte(m.ID), Event: []byte(m.Name), Data: []byte(m.Data)})
				return nil
			}, nil
		},
		Read: func(ctx context.Context, url string, sink Sink) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			err := sse.NewClient(url).SubscribeRawWithContext(ctx, func(ev *sse.Event) {
				if !sink.RawEvent(ev.ID, ev.Event, ev.Data) {
					cancel()
				}
			})
			if ctx.Err() == nil {
				return fmt.Errorf("subscribe: %w", err)
			}
			return nil
		},
	})
}
