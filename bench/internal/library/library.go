// Package library adapts the libraries that the benchmark compares to one set of
// functions: send an event to many subscribers or to one, encode, decode, and read a
// stream. Each library has a file that registers it. A file does no more than the
// library's documentation shows, so that all libraries do the same work.
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

// Message is an event that a library is given to send or encode. Messages to many
// subscribers have all three fields.
type Message struct{ ID, Name, Data string }

// Publish sends a message to all subscribers. It may block.
type Publish func(Message) error

// Kind says whether a Library is this module, another library, or code without a
// library.
type Kind int

// The kinds, in the order of the tables.
const (
	Ours  Kind = iota // this module
	Peer              // another library
	Limit             // no library: what remains when nearly everything is left out
)

// Source sends the events of one stream by send until ctx is done or send fails. When
// send returns nil, the event has been written to the connection.
type Source func(ctx context.Context, send func(Message) error) error

// Encode returns m in the wire format. The bytes are valid until the next call.
type Encode func(m Message) ([]byte, error)

// Sink receives the events that a library decodes. Its methods return false when it wants
// no more.
type Sink interface {
	Event(id, name, data string) bool
	RawEvent(id, name, data []byte) bool // for a library whose events are bytes
}

// Library is one library and what it can do. A function is nil if the library cannot do
// it.
type Library struct {
	Name   string
	Kind   Kind
	Module string // the module whose version is reported; empty for code without a library
	Target string // the request target of the stream; empty means DefaultTarget
	OwnIDs bool   // the library chooses the events' ids and ignores those of messages
	Note   string // what a reader of its figures should know

	// Start serves streams on ln until the process ends. Each stream gets every event
	// that the returned function publishes.
	Start func(ln net.Listener, setup Setup) (Publish, error)

	// Stream serves one stream at a time on ln. The stream has the events of source, each
	// flushed by itself.
	Stream func(ln net.Listener, source Source) error

	// NewEncode returns a function that encodes messages, with its own buffer if it
	// needs one.
	NewEncode func() Encode

	// Decode reads the events of r until the end of r or until sink wants no more.
	Decode func(r io.Reader, sink Sink) error

	// Read reads the stream at url with the library's client until sink wants no more.
	Read func(ctx context.Context, url string, sink Sink) error
}

// DefaultTarget is the request target of most libraries' streams.
const DefaultTarget = "/events"

// Setup holds what a workload requires of a library.
type Setup struct {
	// Backlog is how many events the workload lets a subscriber be behind. A library
	// that drops slow subscribers must be configured not to drop one earlier than that.
	// Its own default stays if it is larger.
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

// Find returns the library with that name and reports whether there is one.
func Find(name string) (l Library, ok bool) {
	i := slices.IndexFunc(registered, func(l Library) bool { return l.Name == name })
	if i < 0 {
		return l, false
	}
	return registered[i], true
}

// serve serves h on ln with a plain http.Server, as every library's documentation does.
func serve(ln net.Listener, h http.Handler) {
	srv := &http.Server{Handler: h} //nolint:gosec // on loopback, for a minute
	go func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Print(err)
			os.Exit(1)
		}
	}()
}

// serveEvents serves h on ln as the stream at DefaultTarget.
func serveEvents(ln net.Listener, h http.Handler) {
	mux := http.NewServeMux()
	mux.Handle(DefaultTarget, h)
	serve(ln, mux)
}
