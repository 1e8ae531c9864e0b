package library

import (
	"net"

	"github.com/alexandrevicenzi/go-sse"
)

// alexandrevicenzi/go-sse v1.6.0, set up as in its README. A channel is named by the
// request's path. Options without a Logger keep the server silent; without Options it
// would log each message. Its clients have no buffer: the server hands a message to one
// client after the other, and waits for each until that client has written the message
// before. So it loses nothing.
func init() {
	Register(Library{
		Name:   "alexandrevicenzi/go-sse",
		Kind:   Peer,
		Module: "github.com/alexandrevicenzi/go-sse",
		Note:   "a subscriber that does not read blocks all others",
		Start: func(ln net.Listener, _ Setup) (Publish, error) {
			srv := sse.NewServer(&sse.Options{})
			serveEvents(ln, srv)
			return func(m Message) error {
				srv.SendMessage(DefaultTarget, sse.NewMessage(m.ID, m.Data, m.Name))
				return nil
			}, nil
		},
		NewEncode: func() Encode {
			return func(m Message) ([]byte, error) { return sse.NewMessage(m.ID, m.Data, m.Name).Bytes(), nil }
		},
	})
}
