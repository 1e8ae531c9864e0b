// Command outbox takes orders, and streams what happens to them. Each change of an order and
// the event that tells of it are written in one transaction, and a hub reads the events from
// their table. The guide docs/guides/outbox.md explains it.
//
//	go run . -file orders.db
//	curl -N http://localhost:8080/orders/events
//	curl -d item=tea -d quantity=2 http://localhost:8080/orders
//
// The program can run several times on one file, each with its own address.
//
//   - log.go is the hub's Log: it reads the events from the table.
//   - store.go has the tables, and writes orders and events.
//   - server.go has the routes.
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
	"github.com/chi-sse/sse/hub"
)

func main() {
	file := flag.String("file", "orders.db", "keep the orders in this SQLite `file`")
	addr := flag.String("addr", "localhost:8080", "listen on this `address`")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program

	if err := run(ctx, *file, *addr, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "outbox:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, file, addr string, out io.Writer) (err error) {
	s, err := openStore(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	h, err := hub.Open(ctx, hub.Config{Log: s.outbox, OwnIDs: true, Detached: true})
	if err != nil {
		return err
	}
	r := routes(s, h)
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return errors.Join(err, h.Shutdown(context.Background()))
	}
	_, _ = fmt.Fprintf(out, "Listening on http://%s\n", listener.Addr())
	return sse.ListenAndServe(ctx, srv, r, sse.WithListener(listener), sse.WithHubs(h), sse.WithDrainTimeout(2*time.Second))
}
