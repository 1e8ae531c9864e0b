package library

import (
	"context"
	"fmt"
	"net"
	"net/http"
)

// A plain handler, as one would write it with net/http alone. Each subscriber has a channel
// of encoded frames; the handler writes each frame and flushes. Nothing resumes from an
// id, and there are no heartbeats and no deadlines. The client reads the response's body
// and only looks for where each event ends.
func init() {
	Register(Library{
		Name:  "net/http",
		Kind:  Limit,
		Note:  "a bare handler with a channel for each subscriber; each event is encoded once, without checks",
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
