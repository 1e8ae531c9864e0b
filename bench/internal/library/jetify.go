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

// jetify-com/sse v0.1.0, as its README does it: Upgrade and SendEvent, with its
// defaults (a heartbeat goroutine, a write deadline for each event); the hub is ours.
// Raw data, since it would encode a string as JSON, with Split where it has lines. It has a decoder, but no client.
func init() {
	Register(Library{
		Name:   "jetify-com/sse",
		Kind:   Peer,
		Module: "go.jetify.com/sse",
		Note:   "no hub of its own: a channel for each subscriber",
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
