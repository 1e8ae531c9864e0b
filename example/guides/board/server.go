package main

import (
	"embed"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

//go:embed lib
var lib embed.FS

// routes returns the program's router. The page for Datastar loads it from a URL.
func routes(b *board, datastarURL string) *sse.Router {
	r := sse.Install(chi.NewRouter(), sse.Config{Retry: time.Second})
	r.Use(http.NewCrossOriginProtection().Handler) // pages of other sites move no cards
	r.Get("/lib/*", http.FileServerFS(lib).ServeHTTP)
	r.Get("/", b.page("htmx", ""))
	r.Get("/datastar", b.page("datastar", datastarURL))
	r.Post("/cards", b.postCard)
	r.Post("/cards/{id}", b.moveCard)
	for _, l := range libraries {
		r.SSE("/events/"+l.name, func(s *sse.ServerSession) error { return b.follow(s, l) })
	}
	return r
}

// follow sends the whole board, and then what changes. A client that comes back is sent what it has
// missed.
func (b *board) follow(s *sse.ServerSession, l library) error {
	return b.hub.Serve(s, hub.Subscription{
		Topics: []string{l.name},
		Snapshot: func(s *sse.ServerSession, at hub.Position) (hub.Position, error) {
			b.mu.Lock()
			views := b.view(columns...) // not older than at
			b.mu.Unlock()
			return at, s.SendFunc(l.event, func(w io.Writer) error { return l.write(w, views) })
		},
	})
}

// page returns a handler for the page of a library.
func (b *board) page(library, url string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		b.mu.Lock()
		views := b.view(columns...)
		b.mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_ = templates.ExecuteTemplate(w, "page", map[string]any{"Library": library, "URL": url, "Columns": views})
	}
}

// postCard adds the card in the form. The page hears of it by its stream.
func (b *board) postCard(w http.ResponseWriter, r *http.Request) {
	text := r.PostFormValue("text")
	if strings.TrimSpace(text) == "" || len(text) > 500 {
		http.Error(w, "text must have 1 to 500 bytes", http.StatusBadRequest)
		return
	}
	answer(w, b.add(r.Context(), text))
}

// moveCard moves a card to the column in the form.
func (b *board) moveCard(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(chi.URLParam(r, "id"))
	if err != nil {
		id = -1
	}
	answer(w, b.move(r.Context(), id, r.PostFormValue("to")))
}

func answer(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errNotThere):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, "the change cannot be published", http.StatusInternalServerError)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
