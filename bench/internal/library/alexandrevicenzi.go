package library

import (
	"net"

	"github.com/alexandrevicenzi/go-sse"
)

// alexandrevicenzi/go-sse v1.6.0, as its README does it. The channel is the path of
// the request. Options without a Logger keep it silent; without options it would log
// each message. Its clients have no buffer: a message is handed to each in turn, and
// waits until that one has written the message before, so it loses nothing.
func init() {
	Register(Library{
		Name:   "alexandrevicenzi/go-sse",
		Kind:   Peer,
		Module: "github.com/alexandrevicenzi/go-sse",
		Note:   "waits for a subscriber that does not read, and everyone with it",
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
