package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/example/internal/chat"
	"github.com/chi-sse/sse/example/internal/guard"
	"github.com/chi-sse/sse/example/internal/page"
	"github.com/chi-sse/sse/middleware"
)

// retry is how long a client waits before it reconnects.
const retry = 2 * time.Second

// routes returns the router of the whole site.
func routes(log *logFile, vitals *monitor, room *chat.Room, hosts *guard.Hosts, logger *slog.Logger) *sse.Router {
	r := sse.Install(chi.NewRouter(), sse.Config{
		Logger: logger,
		Retry:  retry,
		// The spread keeps a crowd of clients from reconnecting all at once after a
		// restart. This server has few clients, and its page counts down to Retry.
		ShutdownSpread: -1,
	})
	// The plugin is installed before the middleware, so the streams can pass through
	// the compressor and the timeout and neither affects them.
	r.Use(
		chimiddleware.RequestID,
		accessLog(log, logger),
		hosts.Middleware,
		chimiddleware.Recoverer,
		chimiddleware.Compress(5),
		chimiddleware.Timeout(30*time.Second),
	)

	page.Routes(r, map[string]string{"/": "index.html", "/chat": "chat.html"}, page.Data{LogPath: log.path(), Kept: room.Kept()})
	r.SSE("/vitals", vitals.stream)
	r.SSE("/log", log.tail)
	r.Get("/hello", hello)

	// These change something, so only this server's own pages may use them. A page of another site
	// could otherwise make its visitors join the chat.
	own := sse.From(r.With(middleware.SameOrigin()))
	room.Routes(own)
	own.Post("/drop", drop(r.Plugin()))
	return r
}

// hello gives the pages something to request: each request adds a line to the access
// log.
func hello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	_, _ = fmt.Fprintln(w, "Hello! The access log has a new line.")
}

// drop closes the streams of one page. The page opened them with a query parameter
// "page", and the request for drop has the same. To the browser it looks like a lost
// connection.
func drop(plugin *sse.Plugin) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from := r.URL.Query().Get("page")
		if from == "" {
			http.Error(w, `the query parameter "page" is missing; it must be the one that the page's streams were opened with`, http.StatusBadRequest)
			return
		}
		for s := range plugin.Sessions() {
			if s.Call().URL.Query().Get("page") == from {
				_ = s.Close() // fails if the stream has already ended
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}
}
