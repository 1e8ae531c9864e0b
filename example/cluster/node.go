package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/example/internal/chat"
	"github.com/chi-sse/sse/example/internal/page"
	"github.com/chi-sse/sse/log/natslog"
	"github.com/chi-sse/sse/log/natslog/embedded"
	"github.com/chi-sse/sse/middleware"
)

const (
	// maxEvents is the largest number of events that the stream keeps.
	maxEvents = 10_000

	// retry is how long a window waits before it goes on at another node.
	retry = 500 * time.Millisecond

	// maxEnd is how long a node may take to end.
	maxEnd = 2 * time.Second

	// ready is the line that a node prints when it takes requests.
	ready = "ready"
)

// nodeConfig is what a node is told on its standard input, as JSON. The input stays open as
// long as the node must run, so a node ends with the process that has started it.
type nodeConfig struct {
	Dir     string           `json:"dir"`    // of its NATS server
	Socket  string           `json:"socket"` // on which it listens
	Cluster embedded.Cluster `json:"cluster"`
}

// runNode runs a node until in ends.
func runNode(name string, in io.Reader, out io.Writer) error {
	signal.Ignore(os.Interrupt) // Ctrl-C is sent to all processes; the first one ends the others
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var cfg nodeConfig
	d := json.NewDecoder(in)
	if err := d.Decode(&cfg); err != nil {
		return fmt.Errorf("the node %s has no configuration; start the program without -node: %w", name, err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, in)
		stop()
	}()
	if err := serveNode(ctx, name, cfg, out); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the node %s: %w", name, err)
	}
	return nil
}

// serveNode serves the chat until ctx ends.
func serveNode(ctx context.Context, name string, cfg nodeConfig, out io.Writer) (err error) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})).With("node", name)
	ending := func() (context.Context, context.CancelFunc) { return context.WithTimeout(context.Background(), maxEnd) }

	server, err := embedded.Start(ctx, embedded.Config{
		Name: name, Dir: cfg.Dir, Cluster: &cfg.Cluster,
		Logger: slog.New(slog.DiscardHandler), // or it logs each attempt to reach a node that does not run
	})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := ending()
		defer cancel()
		err = errors.Join(err, server.Shutdown(ctx))
	}()
	nc, err := server.Connect(nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	// This waits until all three nodes run, and have elected a leader; later, until two run.
	log, err := natslog.Open(ctx, js, natslog.Config{
		Stream: "chat",
		Create: &jetstream.StreamConfig{Replicas: 3, MaxMsgs: maxEvents, MaxAge: -1},
		Logger: logger,
	})
	if err != nil {
		return err
	}
	room, err := chat.New(ctx, chat.Config{Log: log, Node: name, Detached: true, Logger: logger})
	if err != nil {
		return err
	}

	r := sse.Install(chi.NewRouter(), sse.Config{Logger: logger, Retry: retry, ShutdownSpread: -1})
	page.Routes(r, map[string]string{"/chat": "chat.html"}, page.Data{Kept: true, Nodes: true})
	r.Get("/", http.RedirectHandler("/chat", http.StatusFound).ServeHTTP)
	room.Routes(sse.From(r.With(middleware.SameOrigin())))
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	r.Plugin().Attach(srv)
	if err := os.Remove(cfg.Socket); err != nil && !errors.Is(err, os.ErrNotExist) { // of a node that was killed
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", cfg.Socket)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	_, _ = fmt.Fprintln(out, ready)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}

	// The listener is first, so that new requests go to other nodes. Then the plugin ends the
	// streams, and the room publishes that their people leave.
	_ = listener.Close()
	end, cancel := ending()
	defer cancel()
	return errors.Join(r.Plugin().Shutdown(end), room.Hub().Shutdown(end), srv.Shutdown(end))
}
