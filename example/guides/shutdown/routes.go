package main

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

const topic = "feed"

// routes returns the server's router. The server is ready until ctx ends.
func (s *server) routes(ctx context.Context, h *hub.Hub) *sse.Router {
	r := sse.Install(chi.NewRouter(), s.streams)
	r.Get("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if ctx.Err() != nil {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
	})
	r.SSE("/feed", func(session *sse.ServerSession) error {
		return h.Serve(session, hub.Subscription{Topics: []string{topic}})
	}, sse.WithMaxAge(s.maxAge))
	r.SSE("/answer", s.answer)
	r.Post("/feed", func(w http.ResponseWriter, req *http.Request) {
		text, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 4096))
		if err == nil {
			_, err = h.Publish(req.Context(), topic, sse.Event{Data: string(text)})
		}
		if err != nil { // sse.ErrShutdown, for one, after the hub's end
			w.Header().Set("Retry-After", "1")
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
	})
	return r
}

var words = strings.Fields(`Ask for the streams to end, wait a little, and then end them.
	A client that resumes with its last event id never notices which server it was on.`)

// answer sends the words that the client does not have yet. Each has its number as its id.
func (s *server) answer(session *sse.ServerSession) error {
	n, _ := strconv.ParseUint(session.LastEventID(), 10, 16) // 0 without one
	if n >= uint64(len(words)) {
		return sse.Stop() // EventSource has the whole answer, and does not come back
	}
	for i, word := range words[n:] {
		select {
		case <-session.Done():
			return nil
		case <-time.After(s.pace):
		}
		if err := session.Send(sse.Event{ID: strconv.Itoa(int(n) + i + 1), Data: word}); err != nil {
			return err
		}
	}
	return nil
}
