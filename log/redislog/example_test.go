package redislog_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/redislog"
)

// Two hubs share a stream.
func Example() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer client.Close()
	var logs [2]*redislog.Log
	var hubs [2]*hub.Hub
	for i := range hubs { // as two nodes would
		events, err := redislog.Open(ctx, client, redislog.Config{Name: "chat"})
		if err != nil {
			panic(err)
		}
		logs[i] = events
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
	fmt.Println("on both:", hubs[0].Position() == hubs[1].Position())
	for i, h := range hubs {
		if err := h.Shutdown(ctx); err != nil {
			panic(err)
		}
		_ = logs[i].Close()
	}
}
