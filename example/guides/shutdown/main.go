// Command shutdown is a server that can be replaced while clients follow its streams: a feed that
// never ends, and answers that take some seconds. The guide docs/guides/shutdown.md explains it.
//
//	go run . -wait 30s
//	curl -N http://localhost:8080/feed
//	curl -N http://localhost:8080/answer
//	curl -d hello http://localhost:8080/feed
//
// Its parts:
//
//   - server.go serves, and drains after a signal.
//   - routes.go has the streams.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/log/boltlog"
)

func main() {
	s := server{
		pace:    200 * time.Millisecond,
		streams: sse.Config{Retry: 2 * time.Second},
		timeout: sse.DefaultDrainTimeout,
	}
	file := flag.String("file", "feed.db", "keep the feed in this `file`")
	addr := flag.String("addr", "localhost:8080", "listen on this `address`")
	flag.DurationVar(&s.over, "over", 0, "end the streams one after the other, over this `time`")
	flag.DurationVar(&s.wait, "wait", 0, "wait this `time` for answers that finish; replaces -over")
	flag.DurationVar(&s.notice, "notice", 0, "wait this `time` between the signal and the drain")
	flag.DurationVar(&s.maxAge, "max-age", time.Hour, "end each stream of the feed after this `time`")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program

	if err := run(ctx, &s, *file, *addr); err != nil {
		fmt.Fprintln(os.Stderr, "shutdown:", err)
		os.Exit(1)
	}
}

// run serves the feed in file until ctx ends.
func run(ctx context.Context, s *server, file, addr string) (err error) {
	events, err := boltlog.Open(file, boltlog.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()
	s.log = events
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	fmt.Printf("Listening on http://%s\n", listener.Addr())
	return s.serve(ctx, listener)
}
