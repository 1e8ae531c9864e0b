package library

import (
	"net"
	"net/http"
)

// What anyone would write with net/http alone: a channel for each subscriber, on
// which the frame comes encoded, a write, a flush. There is no id to resume from, no
// heartbeat, and no deadline.
func init() {
	Register(Library{
		Name: "net/http",
		Kind: Limit,
		Note: "a bare handler and a channel for each subscriber; the event is encoded once",
		Start: func(ln net.Listener, setup Setup) (Publish, error) {
			hub := newBroadcast[[]byte](setup)
			serveEvents(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ch := hub.subscribe()
				defer hub.unsubscribe(ch)
				w.Header().Set("Content-Type", "text/event-stream")
				w.WriteHeader(http.StatusOK)
				flusher := w.(http.Flusher)
				flusher.Flush()
				for {
					select {
					case frame, ok := <-ch:
						if !ok {
							return
						}
						if _, err := w.Write(frame); err != nil {
							return
						}
						flusher.Flush()
					case <-r.Context().Done():
						return
					}
				}
			}))
			return func(m Message) error { hub.publish(appendFrame(nil, m)); return nil }, nil
		},
	})
}

// appendFrame appends m as it goes over the wire.
func appendFrame(dst []byte, m Message) []byte {
	dst = append(dst, "event: "...)
	dst = append(dst, m.Name...)
	dst = append(dst, "\ndata: "...)
	dst = append(dst, m.Data...)
	dst = append(dst, "\nid: "...)
	dst = append(dst, m.ID...)
	return append(dst, "\n\n"...)
}
