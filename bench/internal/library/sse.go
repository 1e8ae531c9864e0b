package library

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// This module without its hub: a session of the server plugin, the encoder and the decoder
// of package event, and the client, each with its defaults.
func init() {
	Register(Library{
		Name:   "sse",
		Kind:   Ours,
		Module: "github.com/chi-sse/sse",
		Stream: func(ln net.Listener, events Source) error {
			r := sse.Install(chi.NewRouter(), sse.Config{})
			r.SSE(DefaultTarget, func(s *sse.ServerSession) error {
				return events(s.Context(), func(m Message) error {
					return s.Send(sse.Event{ID: m.ID, Name: m.Name, Data: m.Data})
				})
			})
			serve(ln, r)
			return nil
		},
		NewEncode: func() Encode {
			var buf []byte
			return func(m Message) (frame []byte, err error) {
				buf, err = event.Event{ID: m.ID, Name: m.Name, Data: m.Data}.AppendText(buf[:0])
				return buf, err
			}
		},
		Decode: func(r io.Reader, sink Sink) error {
			for ev, err := range event.NewDecoder(r).All() {
				if err != nil {
					return fmt.Errorf("decode: %w", err)
				}
				if !sink.Event(ev.ID, ev.Name, ev.Data) {
					return nil
				}
			}
			return nil
		},
		Read: func(ctx context.Context, url string, sink Sink) error {
			c := client.Install(&http.Client{}, client.Config{})
			return c.SSE(ctx, url, func(s *client.Session) error {
				for ev, err := range s.Incoming() {
					if err != nil {
						return err
					}
					if !sink.Event(ev.ID, ev.Name, ev.Data) {
						return nil
					}
				}
				return errors.New("the stream ended")
			})
		},
	})
	Register(Library{
		Name:   "sse, raw",
		Kind:   Ours,
		Module: "github.com/chi-sse/sse",
		Note:   "DecodeRaw: an event is slices of the decoder's buffer, valid until the next call",
		Decode: func(r io.Reader, sink Sink) error {
			d := event.NewDecoder(r)
			for {
				ev, err := d.DecodeRaw()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return fmt.Errorf("decode: %w", err)
				}
				if !sink.RawEvent(ev.ID, ev.Name, ev.Data) {
					return nil
				}
			}
		},
	})
}
