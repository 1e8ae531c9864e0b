package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/chi-sse/sse/client"
)

// follow calls handle with each event named placed after the one with the id last, in order,
// and with the id of the event before it. It goes on until ctx ends, handle fails, events are
// missing, or the server ends the stream for good.
func follow(ctx context.Context, url, last string, handle func(last string, ev client.Event) error) error {
	c := client.Install(http.DefaultClient, client.Config{
		MaxReconnectionAttempts: client.Unlimited,
		IdleTimeout:             45 * time.Second, // the server sends a heartbeat every 15 seconds
		OnFailure:               goOn,
	})
	return c.SSE(ctx, url, func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			switch {
			case err != nil:
				return err
			case ev.Name == "gap": // of a hub that no longer has every event after the last one
				return fmt.Errorf("events after %q are missing: %s", last, ev.Data)
			case ev.Name != "placed":
				continue
			case ev.ID == last:
				return fmt.Errorf("the event after %q has no id, so nobody can resume after it", last)
			}
			if err := handle(last, ev); err != nil {
				return fmt.Errorf("event %q: %w", ev.ID, err)
			}
			last = ev.ID
		}
		return nil
	}, client.WithLastEventID(last))
}

// goOn also retries after an answer that is no stream. The server may be in the middle of a
// deployment.
func goOn(f client.Failure) client.Decision {
	_, status := errors.AsType[*client.StatusError](f.Err)
	_, content := errors.AsType[*client.ContentError](f.Err)
	if status || content {
		return client.Retry()
	}
	return client.DefaultDecision(f)
}
