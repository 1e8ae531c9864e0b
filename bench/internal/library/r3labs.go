package library

import (
	"context"
	"fmt"
	"net"

	"github.com/r3labs/sse/v2"
)

// r3labs/sse v2.10.0, as its README does it, with AutoReplay off: on, which is the
// default, it keeps every event for ever, sends them all to each new subscriber, and
// numbers them itself. The 64 events that it buffers for a subscriber are fixed; when
// they are full, its stream waits, so it loses nothing. Its encoder and decoder are not
// exported.
func init() {
	Register(Library{
		Name:   "r3labs/sse",
		Kind:   Peer,
		Module: "github.com/r3labs/sse/v2",
		Target: DefaultTarget + "?stream=bench",
		Note:   "replay off; waits for a subscriber that is 64 events behind, and everyone with it",
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
