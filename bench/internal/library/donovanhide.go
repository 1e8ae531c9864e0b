package library

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"

	"github.com/donovanhide/eventsource"
)

// donovanhide/eventsource at its latest commit, of August 2021 (it has no releases), set up
// as in its documentation: a handler for a channel, without a repository. It disconnects
// a subscriber that is BufferSize events behind. So BufferSize is raised from 128 if the
// workload asks for more.
func init() {
	Register(Library{
		Name:   "donovanhide/eventsource",
		Kind:   Peer,
		Module: "github.com/donovanhide/eventsource",
		Note:   "disconnects a subscriber that is BufferSize events behind (raised for burst); three such subscribers at once block it forever",
		Start: func(ln net.Listener, setup Setup) (Publish, error) {
			srv := eventsource.NewServer()
			srv.BufferSize = max(srv.BufferSize, setup.Backlog)
			serveEvents(ln, srv.Handler("bench"))
			channels := []string{"bench"}
			return func(m Message) error {
				srv.Publish(channels, sourceEvent{m})
				return nil
			}, nil
		},
		NewEncode: func() Encode {
			var buf bytes.Buffer
			enc := eventsource.NewEncoder(&buf, false)
			return func(m Message) ([]byte, error) {
				buf.Reset()
				err := enc.Encode(sourceEvent{m})
				return buf.Bytes(), err
			}
		},
		Decode: func(r io.Reader, sink Sink) error {
			return decodeSource(eventsource.NewDecoder(r).Decode, sink)
		},
		Read: func(ctx context.Context, url string, sink Sink) error {
			stream, err := eventsource.Subscribe(url, "")
			if err != nil {
				return fmt.Errorf("subscribe: %w", err)
			}
			// The stream is not closed: Close would panic if an event came at the same time.
			return readSource(ctx, stream.Events, stream.Errors, sink)
		},
	})
}
