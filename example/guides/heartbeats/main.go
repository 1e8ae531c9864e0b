// Command heartbeats serves a page that notices within seconds when its stream is dead. The guide
// docs/guides/heartbeats.md explains it.
//
//	go run .
//
// Open http://localhost:8080, and stop the program for a while with Ctrl+Z and fg.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

func main() {
	addr := flag.String("addr", "localhost:8080", "listen on this `address`")
	period := flag.Duration("period", 5*time.Second, "send a heartbeat each `time`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program
	if err := run(ctx, *addr, *period); err != nil {
		fmt.Fprintln(os.Stderr, "heartbeats:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, addr string, period time.Duration) error {
	h, err := hub.New(hub.Config{Detached: true})
	if err != nil {
		return err
	}
	fmt.Printf("Listening on http://%s\n", addr)
	srv := &http.Server{Addr: addr, ReadHeaderTimeout: 5 * time.Second}
	return sse.ListenAndServe(ctx, srv, routes(h, period), sse.WithHubs(h), sse.WithDrainTimeout(2*time.Second))
}

// routes returns the program's router.
func routes(h *hub.Hub, period time.Duration) *sse.Router {
	r := sse.Install(chi.NewRouter(), sse.Config{Retry: time.Second})
	r.Get("/", page(period))
	var published atomic.Int64
	r.Post("/news", func(w http.ResponseWriter, r *http.Request) {
		n := published.Add(1)
		_, _ = h.Publish(r.Context(), "news", sse.Event{Data: "News " + strconv.FormatInt(n, 10)})
		w.WriteHeader(http.StatusNoContent)
	})
	r.SSE("/events", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"news"}})
	}, sse.WithHeartbeat(sse.Heartbeat{Period: period, Provider: func() sse.Event {
		members := h.Count("news") // asked anew for each heartbeat of each stream
		return sse.Event{Name: "beat", Data: strconv.Itoa(members) + " connected"}
	}}))
	return r
}

//go:embed page.html
var pageText string

// page serves the page, which is told the period in milliseconds.
func page(period time.Duration) http.HandlerFunc {
	t := template.Must(template.New("page").Parse(pageText))
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = t.Execute(w, period.Milliseconds())
	}
}
