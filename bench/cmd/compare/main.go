//go:build linux

// Compare measures this module, other libraries, and code without a library in the same
// run. It measures how fast they encode, decode, read and send events. It also measures
// how well they send each event to many subscribers: at full rate, at a fixed rate, in a
// burst, idle, and with one client that never reads. With -growth it measures instead how
// the costs of the hub grow. Run it by make bench, make bench-full or make bench-growth;
// -help lists the flags.
//
// Each measurement starts two new processes of this program that talk over loopback. One
// is measured, and the other generates its load. So the measured CPU and memory contain
// nothing of the load generator.
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
	runtime.LockOSThread() // the system kills the children when the thread that started them ends
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
