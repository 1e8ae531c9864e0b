package library

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/dunglas/mercure"
)

// dunglas/mercure v0.24.2, set up as in the example of its package, without tokens
// (WithAnonymous) and with its default transport, which is local and keeps no history.
// Log messages are discarded, because the default logger logs each subscriber. The library
// disconnects a subscriber that is 1,000 events behind; that number is fixed.
func init() {
	Register(Library{
		Name:   "dunglas/mercure",
		Kind:   Peer,
		Module: "github.com/dunglas/mercure",
		Target: "/.well-known/mercure?topic=bench",
		Note:   "disconnects a subscriber that is 1,000 events behind",
		Start: func(ln net.Listener, _ Setup) (Publish, error) {
			ctx := context.Background()
			hub, err := mercure.NewHub(ctx, mercure.WithAnonymous(), mercure.WithLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				return nil, fmt.Errorf("hub: %w", err)
			}
			serve(ln, hub)
			topics := []string{"bench"}
			return func(m Message) error {
				return hub.Publish(ctx, &mercure.Update{
					Topics: topics,
					Event:  mercure.Event{ID: m.ID, Type: m.Name, Data: m.Data},
				})
			}, nil
		},
		NewEncode: func() Encode {
			var buf []byte
			return func(m Message) ([]byte, error) {
				buf = append(buf[:0], (&mercure.Event{ID: m.ID, Type: m.Name, Data: m.Data}).String()...)
				return buf, nil
			}
		},
	})
}
