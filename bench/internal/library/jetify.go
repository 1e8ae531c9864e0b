package library

import (
	"net"
	"net/http"

	"go.jetify.com/sse"
)

// jetify-com/sse v0.1.0, as its README does it: Upgrade and SendEvent, with its
// defaults (a heartbeat goroutine, a write deadline for each event); the hub is ours.
// Raw data, since it would encode a string as JSON.
func init() {
	Register(Library{
		Name:   "jetify-com/sse",
		Kind:   Peer,
		Module: "go.jetify.com/sse",
		Note:   "no hub of its own: a channel for each subscriber",
		Start: func(ln net.Listener, setup Setup) (Publish, error) {
			hub := newBroadcast[*sse.Event](setup)
			serveEvents(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ch := hub.subscribe()
				defer hub.unsubscribe(ch)
				conn, err := sse.Upgrade(r.Context(), w)
				if err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
					return
				}
				defer conn.Close()
				for {
					select {
					case ev, ok := <-ch:
						if !ok || conn.SendEvent(r.Context(), ev) != nil {
							return
						}
					case <-r.Context().Done():
						return
					}
				}
			}))
			return func(m Message) error {
				hub.publish(&sse.Event{ID: m.ID, Event: m.Name, Data: sse.Raw(m.Data)})
				return nil
			}, nil
		},
	})
}
