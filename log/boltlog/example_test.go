package boltlog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/boltlog"
)

// A hub whose events are in a file goes on after a restart.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var last hub.Position
	for range 2 { // as two processes would, one after the other
		events, err := boltlog.Open(filepath.Join(dir, "events.db"), boltlog.Config{})
		if err != nil {
			panic(err)
		}
		h, err := hub.Open(ctx, hub.Config{Log: events})
		if err != nil {
			panic(err)
		}
		fmt.Println("goes on where it was:", h.Position() == last)
		if last, err = h.Publish(ctx, "chat", sse.Event{Data: "hello"}); err != nil {
			panic(err)
		}
		fmt.Println("offset", last.Offset)
		if err := h.Shutdown(ctx); err != nil {
			panic(err)
		}
		if err := events.Close(); err != nil {
			panic(err)
		}
	}
	// Output:
	// goes on where it was: false
	// offset 1
	// goes on where it was: true
	// offset 2
}
