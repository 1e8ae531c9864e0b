// Command board serves a board whose cards move, as HTML, to pages with htmx and with Datastar. The
// guide docs/guides/html.md explains it.
//
//		go run .
//
//	  - board.go has the cards, and publishes their changes.
//	  - server.go has the routes.
//	  - html.tmpl has the pages and what the streams send.
//	  - lib has htmx.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/chi-sse/sse"
)

func main() {
	addr := flag.String("addr", "localhost:8081", "listen on this `address`")
	datastar := flag.String("datastar", "https://cdn.jsdelivr.net/gh/starfederation/datastar@v1.0.3/bundles/datastar.js", "pages load Datastar from this `URL`")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program

	if err := run(ctx, *addr, *datastar, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "board:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, addr, datastar string, out io.Writer) (err error) {
	b, err := newBoard("Write the guide", "Move this card")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.hub.Shutdown(context.WithoutCancel(ctx))) }()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "Listening on http://%s\n", listener.Addr())
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second}
	return sse.ListenAndServe(ctx, srv, routes(b, datastar), sse.WithListener(listener), sse.WithHubs(b.hub))
}
