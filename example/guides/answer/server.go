package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
)

//go:embed page.html events.js
var files embed.FS

// routes returns the program's router.
func routes(m *model, cfg sse.Config) *sse.Router {
	r := sse.Install(chi.NewRouter(), cfg)
	r.Use(http.NewCrossOriginProtection().Handler) // pages of other sites must not spend our tokens
	r.Get("/", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, files, "page.html")
	})
	r.Get("/events.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, files, "events.js")
	})
	r.Post("/answers", m.post)
	return r
}

// post answers a prompt with a stream, or with JSON if the client prefers that.
func (m *model) post(w http.ResponseWriter, r *http.Request) {
	var question struct{ Prompt string }
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&question)
	if err != nil || strings.TrimSpace(question.Prompt) == "" {
		sse.RenderError(w, r, sse.Error(http.StatusBadRequest, errors.New("the body must be JSON with a prompt, of at most 64 KiB")))
		return
	}
	if sse.Negotiate(w, r, "application/json", "text/event-stream") == "text/event-stream" {
		sse.Serve(w, r, func(s *sse.ServerSession) error { return m.stream(s, question.Prompt) })
		return
	}
	var text strings.Builder
	stop, err := m.ask(r.Context(), question.Prompt, func(piece string) error {
		text.WriteString(piece)
		return nil
	})
	if err != nil {
		sse.RenderError(w, r, refusal(w.Header(), err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{"text": text.String(), "stop": stop})
}

// stream sends the answer piece by piece. The first piece opens the stream. Until then, an error
// becomes the status of the response.
func (m *model) stream(s *sse.ServerSession, prompt string) error {
	begun := false
	stop, err := m.ask(s.Context(), prompt, func(piece string) error {
		begun = true
		return s.Send(sse.Event{Name: "text", Data: piece})
	})
	switch {
	case err == nil:
		return s.Send(sse.Event{Name: "done", Data: stop})
	case !begun:
		return refusal(s.Header(), err)
	}
	_ = s.Send(sse.Event{Name: "failed", Data: "the model has broken off"})
	select {
	case <-s.Done(): // the client has left
	case <-time.After(time.Second): // a browser drops what its page has not read when the response is cut off
	}
	return err // the response is cut off, so that no client takes it for complete
}

// refusal returns the error that answers a request before the answer has begun, and sets its
// header h. What the API says is for the log: its 401 is our mistake, not the user's.
func refusal(h http.Header, err error) error {
	if !errors.Is(err, context.Canceled) { // the client has not left
		slog.Warn("the model does not answer", "error", err)
	}
	status, text := http.StatusBadGateway, "the model cannot be asked"
	if said, ok := errors.AsType[*client.StatusError](err); ok {
		switch said.Status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			status, text = said.Status, "the model is busy"
			if said.RetryAfter > 0 {
				h.Set("Retry-After", strconv.Itoa(int((said.RetryAfter+time.Second-1)/time.Second)))
			}
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			status, text = http.StatusBadRequest, "the model does not accept this prompt"
		}
	} else if _, late := errors.AsType[*client.TimeoutError](err); late || errors.Is(err, context.DeadlineExceeded) {
		status, text = http.StatusGatewayTimeout, "the model takes too long"
	}
	return sse.Error(status, errors.New(text))
}
