// Command sse works with streams of server-sent events at a terminal.
//
// Its command follow does what curl -N does, and also reconnects, resumes, filters the
// events, and formats them:
//
//	sse follow localhost:8080/vitals
//	sse follow -e vitals -json localhost:8080/vitals | jq .data.cpu.total
//
// sse follow -h prints all that it can do.
//
// This file starts the program. These are the others:
//
//   - flags.go parses the flags of follow.
//   - follow.go follows the stream from its opening to its end.
//   - ends.go decides how an end is reported, and has the exit codes.
//   - checkpoint.go keeps the last event id in a file.
//   - print.go and json.go print the events.
//   - status.go and tally.go print what happens to the connection.
//   - text.go makes text safe for a terminal, and colors it.
//   - writer.go keeps a full pipe from blocking the program's end.
//   - reader_linux.go notices that the reader of a pipe has left.
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

const help = `Usage: sse COMMAND

Commands
  follow  print the events of a stream

For the flags of a command: sse COMMAND -h
`

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
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "follow":
		return runFollow(ctx, args[1:], stdin, stdout, stderr)
	case "help", "-h", "-help", "--help":
		_, _ = io.WriteString(stdout, help)
		return exitComplete
	case "":
		_, _ = io.WriteString(stderr, help)
		return exitUsage
	default:
		return misused(stderr, "sse", fmt.Errorf("there is no command %s; the only one is follow", command))
	}
}

// runFollow runs the command follow.
func runFollow(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (exit int) {
	opts, err := parse(args)
	if err != nil {
		return misused(stderr, "sse follow", err)
	}
	if opts.help {
		_, _ = io.WriteString(stdout, usage)
		return exitComplete
	}
	log := &status{
		w:        newWriter(ctx, stderr),
		color:    colored(stderr, opts),
		quiet:    opts.silent,
		terminal: isTerminal(stderr),
	}
	if err := opts.readBody(ctx, stdin); ctx.Err() != nil {
		log.interrupted(&tally{})
		return exitInterrupted
	} else if err != nil {
		return misused(stderr, "sse follow", err)
	}
	cp, err := openCheckpoint(opts.checkpoint, stdout)
	if err != nil {
		return misused(stderr, "sse follow", err)
	}

	f := &follower{
		opts:       opts,
		log:        log,
		checkpoint: cp,
		left:       readerLeft(stdout),
		out: &printer{
			w:        newWriter(ctx, stdout),
			format:   opts.format,
			color:    colored(stdout, opts),
			terminal: isTerminal(stdout),
			now:      time.Now,
		},
	}
	return f.follow(ctx)
}

// misused prints what is wrong with the arguments of a command, and returns the exit code.
func misused(stderr io.Writer, command string, err error) int {
	_, _ = fmt.Fprintf(stderr, "%s: %s\nFor help: %[1]s -h\n", command, visible(err.Error(), inLine))
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
