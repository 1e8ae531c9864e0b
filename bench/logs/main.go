//go:build linux

// Logs measures a hub over each log in the same run: in memory, in a file, and in streams and tables
// of the real servers, which it starts at ports and in folders of their own. Run it by make bench-logs;
// -help lists the flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
)

func main() {
	if isChild() {
		runChild()
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "logs:", err)
		os.Exit(1)
	}
}

// run measures what the arguments say.
func run(args []string) error {
	runtime.LockOSThread() // the system kills the children when the thread that started them ends
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	o.progress = os.Stderr
	page, err := measure(ctx, o)
	if err != nil {
		return err
	}
	if o.write == "" {
		fmt.Print(page)
		return nil
	}
	return os.WriteFile(o.write, []byte(page), 0o644)
}

// parseFlags returns the options that the arguments say.
func parseFlags(args []string) (options, error) {
	o := options{sizes: fullSizes}
	f := flag.NewFlagSet("logs", flag.ContinueOnError)
	f.StringVar(&o.write, "write", "", "the `file` to write the page to, instead of the standard output")
	f.StringVar(&o.dir, "dir", os.TempDir(), "the `folder` in which the servers get theirs; it decides what a sync costs")
	f.IntVar(&o.rounds, "rounds", 5, "how often everything is measured")
	which := f.String("logs", "", "a regular `expression` that matches the names of the logs to measure")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.which, err = regexp.Compile(*which); err != nil {
		return o, fmt.Errorf("-logs: %w", err)
	}
	if o.rounds < 1 || f.NArg() > 0 {
		return o, errors.New("-rounds must be at least 1, and there are no arguments but flags")
	}
	return o, nil
}
