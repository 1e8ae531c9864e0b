package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// server is one of the servers of the feed. If neither over nor wait is set, it drains at once.
type server struct {
	log     hub.Log       // of the feed; all servers share it
	streams sse.Config    // of all streams
	maxAge  time.Duration // of a stream of the feed
	pace    time.Duration // of an answer's words

	notice  time.Duration // from the signal to the drain
	over    time.Duration // the streams end one after the other
	wait    time.Duration // for answers that finish
	timeout time.Duration // for the end of everything, after over or wait
}

// serve serves until ctx ends, and then drains.
func (s *server) serve(ctx context.Context, l net.Listener) error {
	h, err := hub.Open(ctx, hub.Config{Log: s.log, Detached: true})
	if err != nil {
		return errors.Join(err, l.Close())
	}
	r := s.routes(ctx, h)
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}

	// After ctx, /ready says 503. The drain begins later, when the balancer knows.
	serving, drain := context.WithCancel(context.WithoutCancel(ctx))
	defer drain()
	context.AfterFunc(ctx, func() { time.AfterFunc(s.notice, drain) })

	options := []sse.ServeOption{sse.WithListener(l), sse.WithHubs(h), sse.WithDrainTimeout(s.timeout)}
	switch {
	case s.wait > 0:
		options = append(options, sse.WithDrainWait(s.wait))
		// The feed never finishes, so it ends at once.
		context.AfterFunc(serving, func() { _ = h.Shutdown(context.Background()) })
	case s.over > 0:
		options = append(options, sse.WithDrainOver(s.over))
	}
	return sse.ListenAndServe(serving, srv, r, options...)
}
