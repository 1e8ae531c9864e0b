package library

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	gosse "github.com/tmaxmax/go-sse"
)

// tmaxmax/go-sse v0.12.0, set up as in its README: the zero Server, whose provider is a Joe
// without a replayer. Joe writes to all subscribers in turn from one goroutine and waits
// for each; that cannot be configured. For one connection, a Session is flushed after
// each message. The decoder is Read with a limit of 1 MiB, because events of 64 KiB exceed
// its default. The client is a Connection with its defaults.
func init() {
	Register(Library{
		Name:   "tmaxmax/go-sse",
		Kind:   Peer,
		Module: "github.com/tmaxmax/go-sse",
		Note:   "one goroutine writes to all subscribers and waits for one that does not read",
		Start: func(ln net.Listener, _ Setup) (Publish, error) {
			srv := &gosse.Server{}
			serveEvents(ln, srv)
			return func(m Message) error {
				msg, err := goSSEMessage(m)
				if err != nil {
					return err
				}
				return srv.Publish(msg)
			}, nil
		},
		Stream: func(ln net.Listener, events Source) error {
			serveEvents(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s, err := gosse.Upgrade(w, r)
				if err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
					return
				}
				_ = events(r.Context(), func(m Message) error {
					msg, err := goSSEMessage(m)
					if err != nil {
						return err
					}
					if err := s.Send(msg); err != nil {
						return err
					}
					return s.Flush()
				})
			}))
			return nil
		},
		NewEncode: func() Encode {
			var buf bytes.Buffer
			return func(m Message) ([]byte, error) {
				msg, err := goSSEMessage(m)
				if err != nil {
					return nil, err
				}
				buf.Reset()
				_, err = msg.WriteTo(&buf)
				return buf.Bytes(), err
			}
		},
		Decode: func(r io.Reader, sink Sink) error {
			for ev, err := range gosse.Read(r, &gosse.ReadConfig{MaxEventSize: 1 << 20}) {
				if err != nil {
					return fmt.Errorf("read: %w", err)
				}
				if !sink.Event(ev.LastEventID, ev.Type, ev.Data) {
					return nil
				}
			}
			return nil
		},
		Read: func(ctx context.Context, url string, sink Sink) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			if err != nil {
				return fmt.Errorf("request: %w", err)
			}
			conn := gosse.NewConnection(req)
			conn.SubscribeToAll(func(ev gosse.Event) {
				if !sink.Event(ev.LastEventID, ev.Type, ev.Data) {
					cancel()
				}
			})
			if err := conn.Connect(); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("connect: %w", err)
			}
			return nil
		},
	})
}

// goSSEMessage converts m to the library's type. It returns an error if the library does
// not accept the id or the name.
func goSSEMessage(m Message) (*gosse.Message, error) {
	id, err := gosse.NewID(m.ID)
	if err != nil {
		return nil, fmt.Errorf("id: %w", err)
	}
	typ, err := gosse.NewType(m.Name)
	if err != nil {
		return nil, fmt.Errorf("type: %w", err)
	}
	msg := &gosse.Message{ID: id, Type: typ}
	msg.AppendData(m.Data)
	return msg, nil
}
