package natslog_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/natslog"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// Two hubs share a stream, whose server runs in the program.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	quiet := slog.New(slog.DiscardHandler)
	server, err := embedded.Start(ctx, embedded.Config{Dir: dir, Logger: quiet})
	if err != nil {
		panic(err)
	}
	nc, err := server.Connect()
	if err != nil {
		panic(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		panic(err)
	}
	var hubs [2]*hub.Hub
	for i := range hubs { // as two nodes would
		events, err := natslog.Open(ctx, js, natslog.Config{Stream: "chat", Create: &jetstream.StreamConfig{}, Logger: quiet})
		if err != nil {
			panic(err)
		}
		if hubs[i], err = hub.Open(ctx, hub.Config{Log: events}); err != nil {
			panic(err)
		}
	}
	pos, err := hubs[0].Publish(ctx, "chat", sse.Event{Data: "hello"})
	if err != nil {
		panic(err)
	}
	for _, h := range hubs { // Publish does not wait for its own hub either
		if err := h.Wait(ctx, pos); err != nil {
			panic(err)
		}
	}
	fmt.Println("offset", pos.Offset, "on both:", hubs[0].Position() == hubs[1].Position())
	for _, h := range hubs {
		if err := h.Shutdown(ctx); err != nil {
			panic(err)
		}
	}
	nc.Close()
	if err := server.Shutdown(ctx); err != nil {
		panic(err)
	}
	// Output: offset 1 on both: true
}
