package library

import (
	"net/http"

	"github.com/starfederation/datastar-go/datastar"
)

// starfederation/datastar-go v1.2.2: NewSSE, and Send, on which its other methods
// rest, for each event; the hub is ours. Compression, an option, is off as in all
// the others. It encodes into nothing but a response.
func init() {
	Register(Library{
		Name:   "datastar-go",
		Kind:   Peer,
		Module: "github.com/starfederation/datastar-go",
		Note:   "no hub of its own: a channel for each subscriber",
		Start:  channels(datastarHandler, func(m Message) Message { return m }),
		Stream: single(datastarHandler, func(m Message) Message { return m }),
	})
}

func datastarHandler(events source[Message]) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gen := datastar.NewSSE(w, r)
		_ = events(r.Context(), func(m Message) error {
			return gen.Send(datastar.EventType(m.Name), []string{m.Data}, datastar.WithSSEEventId(m.ID))
		})
	})
}
