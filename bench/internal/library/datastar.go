package library

import (
	"net"
	"net/http"

	"github.com/starfederation/datastar-go/datastar"
)

// starfederation/datastar-go v1.2.2: NewSSE, and Send, on which its other methods
// rest, for each event; the hub is ours. Compression, an option, is off as in all
// the others.
func init() {
	Register(Library{
		Name:   "datastar-go",
		Kind:   Peer,
		Module: "github.com/starfederation/datastar-go",
		Note:   "no hub of its own: a channel for each subscriber",
		Start: func(ln net.Listener, setup Setup) (Publish, error) {
			hub := newBroadcast[Message](setup)
			serveEvents(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ch := hub.subscribe()
				defer hub.unsubscribe(ch)
				gen := datastar.NewSSE(w, r)
				for {
					select {
					case m, ok := <-ch:
						if !ok || gen.Send(datastar.EventType(m.Name), []string{m.Data}, datastar.WithSSEEventId(m.ID)) != nil {
							return
						}
					case <-r.Context().Done():
						return
					}
				}
			}))
			return func(m Message) error { hub.publish(m); return nil }, nil
		},
	})
}
