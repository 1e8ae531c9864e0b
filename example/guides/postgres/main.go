// Command postgres takes orders, and shows on a page what becomes of them. Each change of an order
// and the event that tells of it are committed in one transaction of Postgres. The guide
// docs/guides/postgres.md explains it.
//
//	go run . -database postgres://postgres@localhost/shop -migrate
//	go run . -database postgres://postgres@localhost/shop
//	go run . -database postgres://postgres@localhost/shop -addr localhost:8081
//
// The program can run as often as you like on one database, each with its own address.
//
//   - store.go has the tables, and writes orders and events.
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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/pglog"
)

// options are those of the command line.
type options struct {
	database string // how to connect to it
	direct   string // how to connect without a pooler; "" if database does
	addr     string
}

func main() {
	var o options
	flag.StringVar(&o.database, "database", "postgres://postgres@localhost/shop", "keep the orders in the database at this `URL`")
	flag.StringVar(&o.direct, "direct", "", "if -database leads through PgBouncer: a `URL` that does not")
	flag.StringVar(&o.addr, "addr", "localhost:8080", "listen on this `address`")
	migrates := flag.Bool("migrate", false, "make the tables, and exit")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program

	do := run
	if *migrates {
		do = migrate
	}
	if err := do(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "postgres:", err)
		os.Exit(1)
	}
}

// migrate makes the tables of the log and those of the application. What exists is left as it is.
func migrate(ctx context.Context, o options, _ io.Writer) error {
	pool, err := pgxpool.New(ctx, o.database)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := pglog.DefaultSchema.Migrate(ctx, pool); err != nil {
		return err
	}
	_, err = pool.Exec(ctx, tables)
	return err
}

// run serves until ctx ends.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	pool, err := pgxpool.New(ctx, o.database)
	if err != nil {
		return err
	}
	defer pool.Close()
	var cfg pglog.Config
	if o.direct != "" {
		if cfg.Listen, err = pgx.ParseConfig(o.direct); err != nil {
			return err
		}
	}
	log, err := pglog.Open(ctx, pool, cfg)
	if err != nil {
		return err // it says what the database lacks
	}
	defer log.Close()
	h, err := hub.Open(ctx, hub.Config{Log: log, Detached: true})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.addr)
	if err != nil {
		return errors.Join(err, h.Shutdown(context.Background()))
	}
	_, _ = fmt.Fprintf(out, "Listening on http://%s\n", listener.Addr())
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second}
	return sse.ListenAndServe(ctx, srv, routes(&store{pool, log}, h), sse.WithListener(listener), sse.WithHubs(h), sse.WithDrainTimeout(2*time.Second))
}
