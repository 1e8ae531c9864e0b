// Command client follows a stream of server-sent events at a terminal. It is what
// curl -N is used for, and reconnects, resumes, filters and reads well besides.
//
//	go run ./client localhost:8080/vitals
//	go run ./client -e vitals -json localhost:8080/vitals | jq .data.cpu.total
//
// With -h it says what else it can do.
//
// This file is the program's outside. Of the rest, flags.go is what the user asks
// for, follow.go the stream from its opening to its end, print.go, json.go and
// text.go what is printed of its events, and status.go what is told about it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The exit codes, as usage explains them.
const (
	exitOK          = 0
	exitBroken      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the program, in order. From then on signals do what
	// they always do, so a second one ends it at once.
	context.AfterFunc(ctx, stop)
	// A reader of stdout that leaves is an error of a write, not a signal.
	signal.Ignore(syscall.SIGPIPE)

	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program. Its interrupt is the end of ctx.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (exit int) {
	opts, err := parse(args)
	if err != nil {
		return misused(stderr, err)
	}
	if opts.help {
		_, _ = io.WriteString(stdout, usage)
		return exitOK
	}
	log := &status{w: stderr, color: colored(stderr, opts), quiet: opts.silent, terminal: isTerminal(stderr)}
	if err := opts.readBody(ctx, stdin); ctx.Err() != nil {
		log.interrupted(&tally{})
		return exitInterrupted
	} else if err != nil {
		return misused(stderr, err)
	}

	f := &follower{
		opts: opts,
		log:  log,
		out: &printer{
			w:        stdout,
			format:   opts.format,
			color:    colored(stdout, opts),
			terminal: isTerminal(stdout),
			now:      time.Now,
		},
	}
	return f.follow(ctx)
}

// misused says what is wrong with how the program was called.
func misused(stderr io.Writer, err error) int {
	_, _ = fmt.Fprintf(stderr, "client: %s\nFor help: client -h\n", visible(err.Error(), inLine))
	return exitUsage
}

// colored reports whether what is written to w is to have colors.
func colored(w io.Writer, opts *options) bool {
	return isTerminal(w) && !opts.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
