package library

import (
	"context"
	"fmt"
	"net"
	"net/http"
)

// What anyone would write with net/http alone: a channel for each subscriber, on
// which the frame comes encoded, a write, a flush. There is no id to resume from, no
// heartbeat, and no deadline. As a client it reads the body, and looks for nothing in
// it but where each event ends.
func init() {
	Register(Library{
		Name:  "net/http",
		Kind:  Limit,
		Note:  "a bare handler and a channel for each subscriber; the event is encoded once, by an append that checks nothing",
		Start: channels(plainHandler, plainFrame),
		Stream: func(ln net.Listener, events Source) error {
			var buf []byte
			return single(plainHandler, func(m Message) []byte {
				buf = appendFrame(buf[:0], m)
				return buf
			})(ln, events)
		},
		Read: func(ctx context.Context, url string, sink Sink) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			if err != nil {
				return fmt.Errorf("request: %w", err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("get: %w", err)
			}
			defer resp.Body.Close()
			return splitFrames(resp.Body, sink)
		},
	})
}

func plainFrame(m Message) []byte { return appendFrame(nil, m) }

func plainHandler(events source[[]byte]) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		flusher := w.(http.Flusher)
		flusher.Flush()
		_ = events(r.Context(), func(frame []byte) error {
			if _, err := w.Write(frame); err != nil {
				return err
			}
			flusher.Flush()
			return nil
		})
	})
}
