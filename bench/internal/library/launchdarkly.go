package library

import (
	"net"

	"github.com/launchdarkly/eventsource"
)

// launchdarkly/eventsource v1.11.0, as its documentation does it: a handler for a
// channel, without a repository to replay from. It disconnects a subscriber that is
// BufferSize events behind, so that is raised from 128 where the workload asks for
// more.
func init() {
	Register(Library{
		Name:   "launchdarkly/eventsource",
		Kind:   Peer,
		Module: "github.com/launchdarkly/eventsource",
		Note:   "disconnects a subscriber that is BufferSize events behind; raised for burst",
		Start: func(ln net.Listener, setup Setup) (Publish, error) {
			srv := eventsource.NewServer()
			srv.BufferSize = max(srv.BufferSize, setup.Backlog)
			serveEvents(ln, srv.Handler("bench"))
			channels := []string{"bench"}
			return func(m Message) error {
				srv.Publish(channels, sourceEvent{m})
				return nil
			}, nil
		},
	})
}

// sourceEvent is a Message as the two eventsource libraries want it.
type sourceEvent struct{ m Message }

func (e sourceEvent) Id() string    { return e.m.ID } //nolint:revive // the interface's name
func (e sourceEvent) Event() string { return e.m.Name }
func (e sourceEvent) Data() string  { return e.m.Data }
