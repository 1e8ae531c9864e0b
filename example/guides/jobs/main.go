// Command jobs runs exports, and shows on a page how far they are. The stream of a job ends with
// the job, and its EventSource does not come back. The guide docs/guides/jobs.md explains it.
//
//	go run .
//	curl -d name=customers -d rows=100 http://localhost:8080/jobs
//	curl -N 'http://localhost:8080/jobs/events?id=1'
//
// The program can be stopped and killed at any time. The jobs go on when it is started again.
//
//   - jobs.go runs the jobs.
//   - store.go keeps them in a table.
//   - server.go has the routes.
//   - page.html is the page.
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
	dir := flag.String("dir", "data", "keep the jobs and their events in this `directory`")
	addr := flag.String("addr", "localhost:8080", "listen on this `address`")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program

	if err := run(ctx, *dir, *addr, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "jobs:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, dir, addr string, out io.Writer) (err error) {
	b, err := openBoard(ctx, dir, export)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.resume(ctx); err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "Listening on http://%s\n", listener.Addr())
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second}
	return sse.ListenAndServe(ctx, srv, routes(b), sse.WithListener(listener), sse.WithDrainTimeout(2*time.Second))
}
