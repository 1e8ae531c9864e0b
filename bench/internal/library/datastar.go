package library

import (
	"net/http"

	"github.com/starfederation/datastar-go/datastar"
)

// starfederation/datastar-go v1.2.2. NewSSE opens the stream, and Send, on which its other
// methods are built, sends each event. The hub is ours. Compression is optional and off,
// as for all libraries here. There is no encode row, because the library encodes only
// into a response.
func init() {
	Register(Library{
		Name:   "datastar-go",
		Kind:   Peer,
		Module: "github.com/starfederation/datastar-go",
		Note:   "has no hub; here each subscriber gets a channel",
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
