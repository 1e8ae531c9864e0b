//go:build linux

// Compare measures this module, its peers and bare loops side by side in one run: how
// fast they encode, decode, read and send events, and how well they fan them out, at
// full rate, at a fixed one, in a burst, idle, and beside a client that does not read.
// With -growth it measures how the costs of the hub grow. make bench, make bench-full
// and make bench-growth run it; -help has the flags.
//
// Each measurement is two new processes of this program on loopback, of which one is
// what is measured and the other generates its load, so that CPU and memory are its own.
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
		fmt.Fprintln(os.Stderr, "compare:", err)
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
	if opts.growth != nil {
		return growth(ctx, *opts.growth)
	}
	return compare(ctx, opts)
}
