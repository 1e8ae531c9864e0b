package library

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/gin-contrib/sse"
)

// gin-contrib/sse v1.1.2, because v1.2.0 requires Go 1.26.10. It encodes each event into
// the response, as its README does, and flushes after each, as gin's Context.SSEvent and
// Stream do. The hub is ours. There is no client row, because its Decode returns the
// events only when it has read the whole stream.
func init() {
	Register(Library{
		Name:   "gin-contrib/sse",
		Kind:   Peer,
		Module: "github.com/gin-contrib/sse",
		Note:   "has no hub; here each subscriber gets a channel",
		Start:  channels(ginHandler, ginEvent),
		Stream: single(ginHandler, ginEvent),
		NewEncode: func() Encode {
			var buf bytes.Buffer
			return func(m Message) ([]byte, error) {
				buf.Reset()
				err := sse.Encode(&buf, ginEvent(m))
				return buf.Bytes(), err
			}
		},
		Decode: func(r io.Reader, sink Sink) error {
			all, err := sse.Decode(r)
			if err != nil {
				return fmt.Errorf("decode: %w", err)
			}
			for _, ev := range all {
				data, ok := ev.Data.(string)
				if !ok {
					return fmt.Errorf("data is a %T", ev.Data)
				}
				if !sink.Event(ev.Id, ev.Event, data) {
					return nil
				}
			}
			return nil
		},
	})
}

func ginEvent(m Message) sse.Event { return sse.Event{Id: m.ID, Event: m.Name, Data: m.Data} }

func ginHandler(events source[sse.Event]) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(sse.Event{}).WriteContentType(w)
		flusher := w.(http.Flusher)
		flusher.Flush()
		_ = events(r.Context(), func(ev sse.Event) error {
			if err := sse.Encode(w, ev); err != nil {
				return err
			}
			flusher.Flush()
			return nil
		})
	})
}
