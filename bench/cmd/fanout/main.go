//go:build linux

// Fanout measures how well this module's hub, its peers and bare loops send events
// to many subscribers, side by side in one run: at full rate, at a fixed one, in a
// burst, idle, and beside a client that does not read. make bench and
// make bench-full run it; -help has the flags.
//
// Each measurement is two new processes of this program on loopback, a server and a
// load generator, so that the server's CPU and memory are its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fanout:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) == 3 {
		switch os.Args[1] {
		case serverRole:
			return runServer(os.Args[2])
		case loadRole:
			return runLoad()
		}
	}
	runtime.LockOSThread() // the children die with the thread that started them
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	opts, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	return compare(ctx, opts)
}
