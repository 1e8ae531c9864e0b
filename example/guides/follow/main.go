// Command follow makes a parcel for each order that a stream tells of. It can be stopped and
// killed at any time. It makes no parcel twice, and misses none. The guide
// docs/guides/follow.md explains it.
//
//	go run . -serve localhost:8080
//	go run . -db parcels.db http://localhost:8080/orders/events
//
// The first command serves a stream of orders, to try the second with.
// With -checkpoint instead of -db, it prints the orders. After a crash, it may print some of
// them twice.
//
//   - follow.go reads the stream.
//   - store.go keeps the parcels and the checkpoint in a database.
//   - file.go keeps the checkpoint in a file.
//   - server.go serves orders.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	db := flag.String("db", "parcels.db", "keep the parcels in this SQLite `file`")
	checkpoint := flag.String("checkpoint", "", "print the orders, and keep the last id in this `file`")
	addr := flag.String("serve", "", "serve orders at this `address` instead")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the program

	var err error
	switch {
	case *addr != "":
		err = serve(ctx, *addr)
	case *checkpoint != "":
		err = followToFile(ctx, flag.Arg(0), *checkpoint, os.Stdout)
	default:
		err = followToStore(ctx, flag.Arg(0), *db)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "follow:", err)
		os.Exit(1)
	}
}

// followToStore makes a parcel for each order in the stream at url, exactly once.
func followToStore(ctx context.Context, url, file string) (err error) {
	s, err := openStore(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return s.follow(ctx, url)
}
