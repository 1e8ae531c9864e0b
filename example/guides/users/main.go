// Command users streams to the users who have logged in, and to nobody else. A logout takes effect
// in all tabs at once. The guide docs/guides/users.md explains it.
//
//	go run .
//
// Open http://localhost:8080 in several tabs. A page of another origin can use the streams too:
//
//		go run . -addr localhost:8081 -file users2.db -api http://localhost:8080
//		go run . -origin http://localhost:8081
//
//	  - server.go has the routes: the stream, the login and the logout.
//	  - store.go keeps users and logins in a database.
//	  - origin.go lets pages of another origin use the streams.
//	  - page.html is the page.
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

// options are the values of the flags.
type options struct {
	file, addr, origin, api string
	lifetime, recheck       time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.file, "file", "users.db", "keep users and logins in this SQLite `file`")
	flag.StringVar(&o.addr, "addr", "localhost:8080", "listen on this `address`")
	flag.StringVar(&o.origin, "origin", "", "let pages of this `origin` use the streams too, such as http://localhost:8081")
	flag.StringVar(&o.api, "api", "", "let the page use the streams of this `origin`")
	flag.DurationVar(&o.lifetime, "lifetime", 30*time.Minute, "end a login after this `time` without a request")
	flag.DurationVar(&o.recheck, "recheck", 10*time.Second, "look in the database this often whether a stream may go on")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program

	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "users:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	a, err := newApp(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.store.close()) }()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.addr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "Listening on http://%s\n", listener.Addr())
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second}
	return sse.ListenAndServe(ctx, srv, a.routes(), sse.WithListener(listener), sse.WithHubs(a.hub), sse.WithDrainTimeout(2*time.Second))
}
