package library

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"go.jetify.com/sse"
)

// jetify-com/sse v0.1.0, set up as in its README: Upgrade and SendEvent with their
// defaults, a heartbeat goroutine and a write deadline for each event. The hub is ours.
// Data is Raw, because the library would encode a string as JSON, and Split is set if the
// data has several lines. The library has a decoder but no client.
func init() {
	Register(Library{
		Name:   "jetify-com/sse",
		Kind:   Peer,
		Module: "go.jetify.com/sse",
		Note:   "has no hub; here each subscriber gets a channel",
		Start:  channels(jetifyHandler, jetifyEvent),
		Stream: single(jetifyHandler, jetifyEvent),
		NewEncode: func() Encode {
			var buf bytes.Buffer
			enc := sse.NewEncoder(&buf)
			return func(m Message) ([]byte, error) {
				buf.Reset()
				err := enc.EncodeEvent(jetifyEvent(m))
				return buf.Bytes(), err
			}
		},
		Decode: func(r io.Reader, sink Sink) error {
			dec := sse.NewDecoder(r)
			for {
				var ev sse.Event
				if err := dec.Decode(&ev); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return fmt.Errorf("decode: %w", err)
				}
				data, ok := ev.Data.(sse.Raw)
				if !ok {
					return fmt.Errorf("data is a %T", ev.Data)
				}
				if !sink.Event(ev.ID, ev.Event, string(data)) {
					return nil
				}
			}
		},
	})
}

func jetifyEvent(m Message) *sse.Event {
	return &sse.Event{ID: m.ID, Event: m.Name, Data: sse.Raw(m.Data), Split: strings.Contains(m.Data, "\n")}
}

func jetifyHandler(events source[*sse.Event]) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := sse.Upgrade(r.Context(), w)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer conn.Close()
		_ = events(r.Context(), func(ev *sse.Event) error { return conn.SendEvent(r.Context(), ev) })
	})
}
