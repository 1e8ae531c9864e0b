// Package sse is Server-Sent Events for go-chi/chi: a plugin that adds SSE routes
// to a router and keeps their streams alive behind chi's whole middleware stack.
//
// A complete program:
//
//	package main
//
//	import (
//		"log"
//		"net/http"
//		"strconv"
//		"time"
//
//		"github.com/go-chi/chi/v5"
//		"github.com/go-chi/chi/v5/middleware"
//
//		"github.com/chi-sse/sse"
//	)
//
//	func main() {
//		r := sse.Install(chi.NewRouter(), sse.Config{}) // first, before other middleware
//		r.Use(middleware.Logger, middleware.Recoverer, middleware.Compress(5), middleware.Timeout(30*time.Second))
//
//		r.SSE("/clock", func(s *sse.ServerSession) error {
//			tick := time.NewTicker(time.Second)
//			defer tick.Stop()
//			for i := 0; ; i++ {
//				select {
//				case <-s.Done():
//					return nil
//				case now := <-tick.C:
//					if err := s.Send(sse.Event{ID: strconv.Itoa(i), Name: "tick", Data: now.Format(time.TimeOnly)}); err != nil {
//						return err
//					}
//				}
//			}
//		})
//
//		log.Fatal(http.ListenAndServe("localhost:8080", r))
//	}
//
// # Life of a session
//
// A request for an SSE route runs the route's [Handler] with a [ServerSession].
// Until the session opens, the handler may still answer with an HTTP status by
// returning [Error]. The first send opens it, or [ServerSession.Open], or the end
// of [Config].OpenDelay: the status is then 200 and cannot change. The session
// ends when the handler returns. An error it returns then, or a panic, aborts the
// connection, so that no client takes the torso for a whole.
//
// The session ends from outside when the client leaves, a write exceeds
// [Config].WriteTimeout, a middleware cancels the request (a deadline, such as
// that of chi's Timeout, is not heeded), or [Plugin.Shutdown] is called.
// [ServerSession.Done] is closed then, sends fail with an error that matches
// [ErrClosed], and the handler is expected to return.
package sse

import (
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/wheel"
)

// Event is [event.Event]: one event, as it goes over the wire.
type Event = event.Event

// RetryImmediately is [event.RetryImmediately]. As an Event's Retry it writes
// "retry: 0".
const RetryImmediately = event.RetryImmediately

// The defaults of a zero [Config].
const (
	DefaultHeartbeat      = 15 * time.Second
	DefaultOpenDelay      = 500 * time.Millisecond
	DefaultWriteTimeout   = 10 * time.Second
	DefaultMaxSessions    = 100_000
	DefaultShutdownSpread = 5 * time.Second
)

// Config sets up a plugin. Its zero value is ready to use; it is copied by
// [Install] and can differ by route through each [RouteOption].
type Config struct {
	// Serializer turns the values of SendData and SendTyped into text. Default:
	// JSON.
	Serializer Serializer

	// Heartbeat keeps idle connections alive. Default: a comment after every 15
	// seconds without traffic. A negative Period turns it off; dead clients are
	// then noticed by the next send only.
	Heartbeat Heartbeat

	// Retry is the reconnection time that clients are told when a session opens.
	// Default: none, which leaves it to them (3 to 5 seconds in browsers).
	Retry time.Duration

	// OpenDelay is how long a handler may take to its first send before the
	// session opens by itself, so that clients see an open connection. Default: 500
	// ms. Negative: the session waits for the handler.
	OpenDelay time.Duration

	// WriteTimeout bounds each write. A client that does not take what it is sent
	// for so long is cut off. It replaces http.Server.WriteTimeout, which would
	// bound the whole stream. Default: 10 seconds.
	WriteTimeout time.Duration

	// MaxSessions bounds the sessions of the plugin at one time. Those beyond are
	// turned away as by a draining server; see [Plugin.Shutdown]. Default: 100,000.
	// WithSessionLimit bounds those of a route.
	MaxSessions int

	// ShutdownSpread is the time over which Shutdown spreads the return of the
	// clients: each is told a reconnection time of its own, Retry (or 3 seconds) and
	// up to ShutdownSpread more. Default: 5 seconds. Negative: clients are told
	// nothing, and all return at once; those that come during the shutdown are told
	// Retry, or a second.
	ShutdownSpread time.Duration

	// Logger gets what operators want to know: the end of each session, at level
	// Debug if it is ordinary (a client that leaves is), Warn if a slow client was
	// cut off, Error for an error or panic of the handler. Default: slog.Default().
	Logger *slog.Logger

	// RenderError answers a request whose session did not open. It must write a
	// whole response. err is never nil, and matches *StatusError unless the handler
	// returned an error of another kind, which calls for a 500 and should not be
	// shown. Default: RenderError, which goes through chi/render.
	RenderError func(w http.ResponseWriter, r *http.Request, err error)

	// OnOpen is called when a session has opened.
	OnOpen func(*ServerSession)

	// OnSend is called after each write, heartbeats included.
	OnSend func(*ServerSession, Sent)

	// OnClose is called once for each session, when its handler has returned. The
	// session cannot send anymore.
	OnClose func(*ServerSession, End)
}

// Plugin is the life of an installed plugin: the sessions and their end. Reach it
// by [Router.Plugin].
type Plugin struct {
	cfg  Config
	root chi.Router

	routes atomic.Pointer[routeTable]

	deadlineWarning sync.Once
	wheels          *wheel.Set[*ServerSession] // timers of detached sessions

	mu       sync.Mutex
	sessions map[*ServerSession]struct{}
	draining chan struct{} // closed by Shutdown
	drained  chan struct{} // closed when then the last session has gone
}

// Install adds the plugin to r and returns r as a [Router]. It panics if r has
// routes already, or if cfg makes no sense. Call it before r.Use: what is used
// earlier stands outside the plugin, where streams work as well, but not for the
// cheapest (a compressor there holds an encoder for each).
func Install(r chi.Router, cfg Config) *Router {
	if _, ok := r.(*Router); ok {
		panic("sse: Install on a router that has the plugin already; use the router as it is")
	}
	if len(r.Routes()) > 0 {
		panic("sse: Install after routes were added; call sse.Install(chi.NewRouter(), ...) first")
	}
	p := &Plugin{
		cfg:      cfg.withDefaults(),
		root:     r,
		wheels:   wheel.NewSet((*ServerSession).onWheel),
		sessions: make(map[*ServerSession]struct{}),
		draining: make(chan struct{}),
		drained:  make(chan struct{}),
	}
	r.Use(p.guard)
	return &Router{Router: r, plugin: p}
}

func (c Config) withDefaults() Config {
	if c.WriteTimeout < 0 || c.MaxSessions < 0 {
		panic("sse: Config.WriteTimeout and Config.MaxSessions cannot be negative; leave them zero for their defaults")
	}
	if _, err := (Event{Retry: c.Retry}).AppendText(nil); err != nil {
		panic(fmt.Sprintf("sse: Config.Retry: %v", err))
	}
	if err := c.Heartbeat.check(); err != nil {
		panic(fmt.Sprintf("sse: Config.Heartbeat: %v", err))
	}
	setDefault(&c.Heartbeat.Period, DefaultHeartbeat)
	setDefault(&c.OpenDelay, DefaultOpenDelay)
	setDefault(&c.WriteTimeout, DefaultWriteTimeout)
	setDefault(&c.MaxSessions, DefaultMaxSessions)
	setDefault(&c.ShutdownSpread, DefaultShutdownSpread)
	if c.Serializer == nil {
		c.Serializer = JSON
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.RenderError == nil {
		c.RenderError = RenderError
	}
	return c
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Len returns the number of sessions whose handlers are running.
func (p *Plugin) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sessions)
}

// Sessions returns the sessions whose handlers are running at the time of the
// call, in no order.
func (p *Plugin) Sessions() iter.Seq[*ServerSession] {
	return slices.Values(p.snapshot())
}

func (p *Plugin) snapshot() []*ServerSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.sessions))
}

// admit takes s into the set of sessions, or says why not.
func (p *Plugin) admit(s *ServerSession) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch rt := s.route; {
	case p.isDraining():
		return ErrShutdown
	case len(p.sessions) >= p.cfg.MaxSessions:
		return ErrTooManySessions
	case rt.limit > 0 && rt.live >= rt.limit:
		return ErrTooManySessions
	default:
		rt.live++
		p.sessions[s] = struct{}{}
		return nil
	}
}

func (p *Plugin) dismiss(s *ServerSession) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.route.live--
	delete(p.sessions, s)
	if len(p.sessions) == 0 && p.isDraining() {
		close(p.drained)
	}
}
