// Command origins serves a page at one origin, and the stream that it reads at another. The guide
// docs/guides/origins.md explains it.
//
//	go run .
//
// Open http://localhost:8080. The stream is at http://localhost:8081. A page at
// http://127.0.0.1:8080 is of another origin, and may not read it.
//
//   - server.go has the routes: CORS, the login and the stream.
//   - page.html is the page.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

func main() {
	site := flag.String("site", "localhost:8080", "serve the page at this `address`")
	api := flag.String("api", "localhost:8081", "serve the stream at this `address`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program
	if err := run(ctx, *site, *api); err != nil {
		fmt.Fprintln(os.Stderr, "origins:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, site, api string) error {
	h, err := hub.New(hub.Config{Detached: true})
	if err != nil {
		return err
	}
	go publish(ctx, h)
	pages := &http.Server{Addr: site, Handler: page("http://" + api), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = pages.Close() })
	go func() {
		if err := pages.ListenAndServe(); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "origins:", err)
		}
	}()
	fmt.Printf("The page is at http://%s, and the stream at http://%s\n", site, api)
	srv := &http.Server{Addr: api, ReadHeaderTimeout: 5 * time.Second}
	return sse.ListenAndServe(ctx, srv, routes(h, "http://"+site), sse.WithHubs(h), sse.WithDrainTimeout(2*time.Second))
}

// publish publishes the time, each second.
func publish(ctx context.Context, h *hub.Hub) {
	for tick := time.Tick(time.Second); ctx.Err() == nil; {
		select {
		case now := <-tick:
			_, _ = h.Publish(ctx, "news", sse.Event{Data: now.Format(time.TimeOnly)})
		case <-ctx.Done():
		}
	}
}
