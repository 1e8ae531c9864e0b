// Command client follows a stream of server-sent events at a terminal. It does what
// curl -N does, and also reconnects, resumes, filters the events, and formats them.
//
//	go run ./client localhost:8080/vitals
//	go run ./client -e vitals -json localhost:8080/vitals | jq .data.cpu.total
//
// The flag -h prints all that it can do.
//
// This file starts the program. These are the others:
//
//   - flags.go parses the flags.
//   - follow.go follows the stream from its opening to its end.
//   - print.go and json.go print the events.
//   - status.go prints what happens to the connection.
//   - text.go makes text safe for a terminal, and colors it.
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

// The exit codes. The usage text explains them.
const (
	exitOK          = 0
	exitBroken      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the program in order. After it, signals have their usual
	// effect again, so a second one kills the program.
	context.AfterFunc(ctx, stop)
	// If the reader of stdout leaves, the next write must fail. Without this, a signal
	// would kill the program.
	signal.Ignore(syscall.SIGPIPE)

	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs the program with args and returns its exit code. The end of ctx interrupts it.
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

// misused prints what is wrong with the program's arguments, and returns the exit code.
func misused(stderr io.Writer, err error) int {
	_, _ = fmt.Fprintf(stderr, "client: %s\nFor help: client -h\n", visible(err.Error(), inLine))
	return exitUsage
}

// colored reports whether text that is written to w gets colors.
func colored(w io.Writer, opts *options) bool {
	return isTerminal(w) && !opts.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// isTerminal reports whether w is a character device.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
