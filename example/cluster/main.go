// Command cluster is the chat of the example, on three nodes. They share a log in a stream
// of NATS JetStream, whose server is in each of them, and so they are one room: what is said
// at one reaches the windows at all, and a window whose node dies goes on at another, with
// nothing lost.
//
//	go run .
//
// The page is at http://localhost:8080/chat. The program prints the process of each node, so
// that it can be killed.
//
// This file has the flags, and what the program prints. These are the others:
//
//   - supervise.go starts the nodes, each as a process, and starts one again that has ended.
//   - balance.go passes requests to them.
//   - node.go is a node.
//
// The room and its page are those of the example, in example/internal.
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
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/chi-sse/sse/example/internal/guard"
)

func main() {
	var o options
	flag.StringVar(&o.addr, "addr", "localhost:8080", "listen on this `address`")
	flag.Var(&o.hosts, "host", "answer requests for this `host` too, written as in a URL, such as mybox:8080;\n"+
		"can be repeated")
	flag.StringVar(&o.dir, "dir", defaultDir(), "keep the chat in this `folder`, with a folder for each node")
	flag.DurationVar(&o.restart, "restart", 5*time.Second, "start a node that has ended again after this `time`")
	node := flag.String("node", "", "run as the node with this `name`; the program starts its nodes with it")
	flag.Parse()

	start := func() error { return runNode(*node, os.Stdin, os.Stdout) }
	if *node == "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop) // a second signal kills the program, and its nodes end with it
		start = func() error { return run(ctx, o, os.Stdout) }
	}
	if err := start(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// options are the values of the flags.
type options struct {
	addr    string
	hosts   guard.Hosts
	dir     string
	restart time.Duration
}

// run starts the nodes, and passes requests to them until ctx ends.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken by another program; choose an address with -addr, such as -addr localhost:8081", o.addr)
	}
	if err != nil {
		return err
	}
	defer listener.Close()
	o.hosts.Addr, _, _ = net.SplitHostPort(o.addr) // Listen has accepted it

	nodes, err := newNodes(ctx, o.dir, o.restart, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nodes.close()) }()

	srv := &http.Server{Handler: o.hosts.Middleware(newBalancer(nodes.sockets()).handler()), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(listener) })
	defer serving.Wait()
	defer srv.Close() // when the nodes have ended their streams

	_, _ = fmt.Fprintln(out, "Starting three nodes.")
	if err := nodes.run(ctx, func() { printAddresses(out, o, listener, nodes) }); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, "\nAll nodes have ended.")
	return nil
}

// printAddresses prints the URLs, the nodes, and what can be done with them.
func printAddresses(out io.Writer, o options, listener net.Listener, nodes *nodes) {
	host, _, _ := net.SplitHostPort(o.addr) // Listen has accepted it
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "localhost"
	}
	_, _ = fmt.Fprintf(out, `
Open  http://%s/chat in two windows
or    curl -N http://%[1]s/chat/events

%s
The page shows which node serves it. Kill that one:

  kill -9 PROCESS

The page goes on at another node, and nothing is lost. The node is started again after %[3]v.
Kill all three, and the chat continues when they are back. It is kept in
%[4]s.

Press Ctrl-C to stop all of this.

`, net.JoinHostPort(host, port), nodes, o.restart, o.dir)
}

// defaultDir returns a folder in the user's cache directory, or in the directory for
// temporary files if there is none. It is the same in each run, so that the chat continues.
func defaultDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "chi-sse-example", "cluster")
}
