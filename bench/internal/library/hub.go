package library

import (
	"context"
	"fmt"
	"net"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// This module's hub, through net/http and detached, set up as in its documentation. Each
// event's id is its position in the hub's log, from which a client resumes. Keeping that
// log is part of what is measured.
func init() {
	Register(Library{
		Name:   "sse hub",
		Kind:   Ours,
		Module: "github.com/chi-sse/sse",
		OwnIDs: true,
		Start: func(ln net.Listener, _ Setup) (Publish, error) {
			return startHub(ln, hub.Config{})
		},
	})
	Register(Library{
		Name:   "sse hub, detached",
		Kind:   Ours,
		Module: "github.com/chi-sse/sse",
		OwnIDs: true,
		Note:   "no goroutine for an idle session",
		Start: func(ln net.Listener, _ Setup) (Publish, error) {
			return startHub(ln, hub.Config{Detached: true})
		},
	})
}

// startHub serves the sessions of a new hub on ln and returns a function that publishes to
// them.
func startHub(ln net.Listener, cfg hub.Config) (Publish, error) {
	h, err := hub.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE(DefaultTarget, func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: []string{"bench"}})
	})
	serve(ln, r)
	return func(m Message) error {
		_, err := h.Publish(context.Background(), "bench", sse.Event{Name: m.Name, Data: m.Data})
		return err
	}, nil
}
