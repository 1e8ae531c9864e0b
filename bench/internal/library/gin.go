package library

import (
	"net"
	"net/http"

	"github.com/gin-contrib/sse"
)

// gin-contrib/sse v1.1.2; v1.2.0 asks for Go 1.26.10. It encodes an event into a
// response, as its README does, and as gin's Context.SSEvent and Stream do, which
// flush after each; the hub is ours.
func init() {
	Register(Library{
		Name:   "gin-contrib/sse",
		Kind:   Peer,
		Module: "github.com/gin-contrib/sse",
		Note:   "no hub of its own: a channel for each subscriber",
		Start: func(ln net.Listener, setup Setup) (Publish, error) {
			hub := newBroadcast[sse.Event](setup)
			serveEvents(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ch := hub.subscribe()
				defer hub.unsubscribe(ch)
				(sse.Event{}).WriteContentType(w)
				flusher := w.(http.Flusher)
				flusher.Flush()
				for {
					select {
					case ev, ok := <-ch:
						if !ok || sse.Encode(w, ev) != nil {
							return
						}
						flusher.Flush()
					case <-r.Context().Done():
						return
					}
				}
			}))
			return func(m Message) error {
				hub.publish(sse.Event{Id: m.ID, Event: m.Name, Data: m.Data})
				return nil
			}, nil
		},
	})
}
