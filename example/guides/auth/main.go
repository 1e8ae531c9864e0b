// Command auth shows how a page without cookies opens streams: with a token in a header, or with a
// ticket in the URL. The guide docs/guides/auth.md explains it.
//
//		go run .
//
//	  - auth.go has the routes, and who may use them.
//	  - page.html is the page, and events.js reads the stream.
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
)

func main() {
	addr := flag.String("addr", "localhost:8080", "listen on this `address`")
	lifetime := flag.Duration("token", time.Minute, "let a token live for this `duration`")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program

	a, err := newApp(*lifetime)
	if err == nil {
		fmt.Printf("Listening on http://%s\n", *addr)
		srv := &http.Server{Addr: *addr, ReadHeaderTimeout: 5 * time.Second}
		err = sse.ListenAndServe(ctx, srv, a.routes(), sse.WithHubs(a.hub))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "auth:", err)
		os.Exit(1)
	}
}
