package library

import (
	"fmt"
	"net"

	gosse "github.com/tmaxmax/go-sse"
)

// tmaxmax/go-sse v0.12.0, as its README does it: the zero Server, whose provider is
// a Joe without a replayer. Joe writes to all subscribers from one goroutine, in
// turn, and waits for each; there is nothing to configure about that.
func init() {
	Register(Library{
		Name:   "tmaxmax/go-sse",
		Kind:   Peer,
		Module: "github.com/tmaxmax/go-sse",
		Note:   "one goroutine writes to all, and waits for a subscriber that does not read",
		Start: func(ln net.Listener, _ Setup) (Publish, error) {
			srv := &gosse.Server{}
			serveEvents(ln, srv)
			return func(m Message) error {
				id, err := gosse.NewID(m.ID)
				if err != nil {
					return fmt.Errorf("id: %w", err)
				}
				typ, err := gosse.NewType(m.Name)
				if err != nil {
					return fmt.Errorf("type: %w", err)
				}
				msg := &gosse.Message{ID: id, Type: typ}
				msg.AppendData(m.Data)
				return srv.Publish(msg)
			}, nil
		},
	})
}
