// Package library holds what the benchmark compares: ways to send one event to many
// subscribers or to one, to encode, to decode, and to read a stream. Each library is a
// file that registers itself, and does no more than the library's documentation
// shows, so that all of them do the same work.
package library

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
)

// Message is the event that each library is given. Those to many subscribers have all
// fields.
type Message struct{ ID, Name, Data string }

// Publish sends a message to everyone who is subscribed. It may block.
type Publish func(Message) error

// Kind says what a library is to the comparison.
type Kind int

// The kinds, in the order of the tables.
const (
	Ours  Kind = iota // this module
	Peer              // another library
	Limit             // not a library, but what one may be measured against
)

// Source sends the events of one stream, until ctx is done or send fails. When send
// returns nil, the event is on its way.
type Source func(ctx context.Context, send func(Message) error) error

// Encode returns m as it goes over the wire, valid until the next call.
type Encode func(m Message) ([]byte, error)

// Sink takes in what a library decodes. It returns false if it wants no more.
type Sink interface {
	Event(id, name, data string) bool
	RawEvent(id, name, data []byte) bool // for a library that hands out bytes
}

// Library is a library, with what it can do. A function is nil if it cannot.
type Library struct {
	Name   string
	Kind   Kind
	Module string // the module whose version is reported, if it is one
	Target string // the request target of the stream; empty means DefaultTarget
	OwnIDs bool   // it gives events ids of its own
	Note   string // what a reader of its figures should know

	// Start serves streams on ln until the process ends, each with all events.
	Start func(ln net.Listener, setup Setup) (Publish, error)

	// Stream serves one stream on ln at a time, with the events of source, each of
	// which is flushed by itself.
	Stream func(ln net.Listener, source Source) error

	NewEncode func() Encode

	// Decode reads the events of r until its end, or until sink wants no more.
	Decode func(r io.Reader, sink Sink) error

	// Read is a client that reads the stream at url until sink wants no more.
	Read func(ctx context.Context, url string, sink Sink) error
}

// DefaultTarget is the request target of most libraries' streams.
const DefaultTarget = "/events"

// Setup is what the workload asks of a library.
type Setup struct {
	// Backlog is by how many events the workload lets a subscriber be behind. A
	// library that drops the slow is to be configured so that it does not drop
	// before that; it is never below what a library has as its default.
	Backlog int
}

var registered []Library

// Register adds l to the libraries that are compared.
func Register(l Library) {
	l.Target = cmp.Or(l.Target, DefaultTarget)
	registered = append(registered, l)
}

// All returns the libraries in the order of the tables.
func All() []Library {
	all := slices.Clone(registered)
	slices.SortFunc(all, func(a, b Library) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// Find returns the library of that name.
func Find(name string) (l Library, ok bool) {
	i := slices.IndexFunc(registered, func(l Library) bool { return l.Name == name })
	if i < 0 {
		return l, false
	}
	return registered[i], true
}

// serve serves h on ln with a plain server, as every library's documentation does.
func serve(ln net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h} //nolint:gosec // on loopback, for a minute
	go func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Print(err)
			os.Exit(1)
		}
	}()
}

// serveEvents serves h as the stream of the default target.
func serveEvents(ln net.Listener, h http.Handler) {
	mux := http.NewServeMux()
	mux.Handle(DefaultTarget, h)
	serve(ln, mux)
}
