// Command example is a server whose pages are live. One page shows how this machine is
// doing and the server's own access log, each as a stream of server-sent events. The
// other page is a chat room, with one stream that is broadcast to everyone in it.
//
//	go run .
//
// The pages are at http://localhost:8080/ and http://localhost:8080/chat. The streams
// can be read at a terminal too:
//
//	curl -N http://localhost:8080/vitals
//	curl -N http://localhost:8080/log
//	curl -N http://localhost:8080/chat/events
//
// This file has the flags, and what the program prints. These are the others:
//
//   - server.go starts and ends the server, and routes.go has its routes.
//   - internal/guard refuses requests that web pages of others could send.
//   - internal/page has the pages, and serves them.
//   - vitals.go is the stream /vitals, and machine.go reads the machine's counters.
//   - tail.go is the stream /log. It follows the file that logfile.go keeps, and to which
//     accesslog.go adds a line for each request.
//   - internal/chat is the chat. Its stream is broadcast by package hub. chatfile.go keeps
//     its events in a file, with package boltlog.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/example/internal/chat"
	"github.com/chi-sse/sse/example/internal/elapsed"
	"github.com/chi-sse/sse/example/internal/guard"
	"github.com/chi-sse/sse/hub"
)

func main() {
	var o options
	flag.StringVar(&o.addr, "addr", "localhost:8080", "listen on this `address`")
	flag.Var(&o.hosts, "host", "answer requests for this `host` too, written as in a URL, such as mybox:8080;\n"+
		"can be repeated. The server always answers for localhost, 127.0.0.1, [::1],\n"+
		"the host in -addr, and the address that a client has connected to")
	flag.StringVar(&o.logPath, "log", defaultPath("access.log"), "append the access log to this `file`")
	flag.StringVar(&o.chatPath, "chat", defaultPath("chat.db"), "keep the chat in this `file`, so that it continues after a restart;\n"+
		"with -chat= it is kept in memory")
	flag.BoolVar(&o.detached, "detached", true, "let the chat's streams over HTTP/1.1 live without a goroutine each, as\n"+
		"hub.Config.Detached describes; with -detached=false their handlers keep running")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal shuts the server down in order. After it, signals have their
	// usual effect again, so a second one kills the program.
	context.AfterFunc(ctx, stop)

	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

// options are the values of the flags.
type options struct {
	addr     string
	hosts    guard.Hosts
	logPath  string
	chatPath string // "" for memory
	detached bool
}

// run serves until ctx ends. Then it closes all streams and returns.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	logger := newLogger(out)

	listener, err := listen(ctx, o.addr)
	if err != nil {
		return err
	}
	// srv.Serve closes the listener too. This is for returns before it.
	defer listener.Close()
	o.hosts.Addr, _, _ = net.SplitHostPort(o.addr) // listen has accepted it

	log, err := openLogFile(o.logPath)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.close()) }()

	vitals := newMonitor(func() reading { return readMachine(filepath.Dir(log.path())) })
	stopVitals := start(vitals.sampleWhileWatched)
	defer stopVitals()

	var chatLog hub.Log // nil for memory
	if o.chatPath != "" {
		file, err := openChatFile(o.chatPath, logger)
		if err != nil {
			return err
		}
		// The hub has been shut down by then, unless this function returns an error.
		defer func() { err = errors.Join(err, file.Close()) }()
		chatLog = file
	}
	room, err := chat.New(ctx, chat.Config{Log: chatLog, Detached: o.detached, Logger: logger})
	if err != nil {
		return err
	}

	r := routes(log, vitals, room, &o.hosts, logger)
	srv := newServer(r, logger)
	printAddresses(out, o, listener, log.path())
	var open int
	var began time.Time
	serving, drain := context.WithCancel(context.WithoutCancel(ctx))
	defer drain()
	context.AfterFunc(ctx, func() {
		open, began = r.Plugin().Len(), time.Now()
		drain()
	})
	err = sse.ListenAndServe(serving, srv, r, sse.WithListener(listener), sse.WithHubs(room.Hub()), sse.WithDrainTimeout(drainTimeout))
	if errors.Is(err, context.DeadlineExceeded) {
		logger.Warn("Clients were cut off.", "error", err)
	} else if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nShut down in %s. Streams that were open: %d.\n", elapsed.Text(time.Since(began)), open)
	return nil
}

// start runs f in a goroutine. The function stop cancels the context of f and waits
// until f has returned.
func start(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// newLogger returns a logger that writes text to out, with durations as package elapsed
// formats them.
func newLogger(out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration {
				a.Value = slog.StringValue(elapsed.Text(a.Value.Duration()))
			}
			return a
		},
	}))
}

// printAddresses prints the URLs of the pages and streams, and where the access log and the
// chat are.
func printAddresses(out io.Writer, o options, listener net.Listener, logPath string) {
	host, _, _ := net.SplitHostPort(o.addr) // listen has accepted it
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "localhost"
	}
	site := "http://" + net.JoinHostPort(host, port)
	chat := "in " + o.chatPath + ", and continues after a restart"
	if o.chatPath == "" {
		chat = "in memory, and is lost when the server stops"
	}
	_, _ = fmt.Fprintf(out, `
Open  %s/
and   %[1]s/chat in two windows
or    curl -N %[1]s/vitals
and   curl -N %[1]s/log
and   curl -N %[1]s/chat/events

The access log is kept in %s.
The chat is kept %s.
Press Ctrl-C to stop the server, twice to kill it.

`, site, logPath, chat)
}

// defaultPath returns the path of a file in the user's cache directory, or in the directory
// for temporary files if there is none. It is the same in each run, so that clients can
// resume after the server restarts.
func defaultPath(name string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "chi-sse-example", name)
}
