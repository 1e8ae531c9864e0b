// Package sse adds Server-Sent Events to go-chi/chi. [Install] puts a plugin on a router.
// The plugin adds SSE routes, and keeps their streams alive behind chi's whole middleware
// stack.
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
//
// Until the session opens, the handler can answer with an HTTP status by returning [Error].
// The session opens with the first send, with [ServerSession.Open], or after
// [Config].OpenDelay, which by default is for GET only. The status is then 200 and cannot change.
//
// The session ends when the handler returns. If an open session's handler returns an error
// or panics, the connection is aborted, so that no client mistakes a truncated stream for a
// complete one.
//
// The session also ends when the client leaves, when a write takes longer than
// [Config].WriteTimeout, when a middleware cancels the request, when its time is over
// ([ServerSession.EndAt], [WithMaxAge], [WithRecheck]), and when [Plugin.Shutdown] is called. A
// deadline of a middleware, such as that of chi's Timeout, does not end it.
// When the session has ended, [ServerSession.Done] is closed, sends fail with an error that
// matches [ErrClosed], and the handler should return.
package sse

import (
	"cmp"
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
	"github.com/chi-sse/sse/internal/alarm"
	"github.com/chi-sse/sse/internal/wheel"
)

// Event is [event.Event]: one event, as it is sent.
type Event = event.Event

// RetryImmediately is [event.RetryImmediately]. As the Retry of an Event it writes
// "retry: 0".
const RetryImmediately = event.RetryImmediately

// The defaults of a zero [Config]. DefaultOpenDelay is for GET only.
const (
	DefaultHeartbeat      = 15 * time.Second
	DefaultOpenDelay      = 500 * time.Millisecond
	DefaultWriteTimeout   = 10 * time.Second
	DefaultMaxSessions    = 100_000
	DefaultShutdownSpread = 5 * time.Second
)

// Config configures a plugin. The zero value is ready to use. [Install] copies it. A
// [RouteOption] replaces some of its fields for one route.
type Config struct {
	// Serializer turns the values of SendData and SendTyped into text. The serializers of a
	// hub that serves the session, and of the route, come before it. Default: JSON.
	Serializer Serializer

	// Heartbeat keeps idle connections alive. Default: a comment after every 15 seconds
	// without traffic. A negative Period turns heartbeats off. Then only the next send
	// notices that a client is dead.
	Heartbeat Heartbeat

	// Retry is the reconnection time that a client is told when its session opens.
	// Default: none. Clients then use their own, which is 3 to 5 seconds in browsers.
	Retry time.Duration

	// OpenDelay is the time from the request to the opening, if the handler has not sent
	// anything by then. It lets clients know soon that they are connected. From the opening on
	// the handler cannot answer with a status. Default: 500 ms for GET. Sessions of other
	// methods stay closed until the handler sends or calls Open, because their handlers often
	// have to work, or to ask another service, before they know the status. A positive value is
	// for every method. Negative: all sessions stay closed until then.
	OpenDelay time.Duration

	// WriteTimeout bounds each write. A client that takes longer to receive what it is
	// sent is cut off. WriteTimeout replaces http.Server.WriteTimeout, which would bound
	// the whole stream. Default: 10 seconds.
	WriteTimeout time.Duration

	// MaxSessions bounds the sessions of the plugin at one time. Further clients get the answer
	// that they get during a shutdown; see [Plugin.Shutdown]. WithSessionLimit bounds the
	// sessions of one route, and WithSessionLimitBy those of one user. Default: 100,000.
	MaxSessions int

	// ShutdownSpread is the time over which clients reconnect after a shutdown. Each client
	// is told a reconnection time of Retry (or 3 seconds) plus a random part of
	// ShutdownSpread. Default: 5 seconds. Negative: clients with an open session are told
	// nothing and all return at once, and clients that connect during the shutdown are told
	// Retry, or a second.
	ShutdownSpread time.Duration

	// Logger gets the end of each session: at level Debug if it is normal (a client that
	// leaves is), Warn if a slow client was cut off or a middleware returned without the
	// handler, and Error if the handler returned an
	// error or panicked. Default: slog.Default().
	Logger *slog.Logger

	// RenderError answers a request whose session did not open, and any request that
	// middleware.SameOrigin refuses. It must write a complete
	// response. err is never nil. It matches *StatusError, unless the handler returned an
	// error of another kind: that calls for a 500, and should not be shown to the client.
	// Default: the function RenderError, which uses chi/render.
	RenderError func(w http.ResponseWriter, r *http.Request, err error)

	// OnOpen is called when a session has opened.
	OnOpen func(*ServerSession)

	// OnSend is called after each write, including heartbeats.
	OnSend func(*ServerSession, Sent)

	// OnRefuse is called for each request that gets no session, before it is answered. The
	// error matches ErrTooManySessions, ErrShutdown, ErrUnsupported or ErrAbandoned. One that
	// matches ErrTooManySessions is a *LimitError, which names the limit. That of
	// middleware.SameOrigin matches *middleware.CrossOriginError. No other hook is called for
	// such a request.
	OnRefuse func(*http.Request, error)

	// OnClose is called once for each session, after its handler has returned and the
	// session has ended. The session cannot send any longer.
	OnClose func(*ServerSession, End)
}

// Plugin holds the sessions of an installed plugin, and ends them. Get it from
// [Router.Plugin].
type Plugin struct {
	cfg   Config
	root  chi.Router
	plain *route // of sessions that Serve serves without options

	routes     atomic.Pointer[routeTable]
	freeRoutes sync.Map // weak.Pointer[freeRoute] -> *route

	warnedOfDeadlines atomic.Bool // no sync.Once: the logger is called, and others must not wait for it
	warnedNotAttached atomic.Bool
	wheels            *wheel.Set[*ServerSession] // the shared timers of detached sessions
	rechecks          *wheel.Set[*recheck]       // the timers of WithRecheck

	lingering sync.WaitGroup // connections of ended sessions that are about to be closed

	mu        sync.Mutex // guards what follows but the channels, and the limits of routes
	sessions  map[*ServerSession]struct{}
	expiries  *alarm.Queue[*ServerSession]   // those that expire
	keyLimits map[*byte]*keyLimit            // by option: see withKeyLimit
	servers   map[*http.Server]*servedServer // that are attached; nil for those that ListenAndServe does not serve
	ending    bool                           // the sessions have been asked to end
	draining  chan struct{}                  // closed when the plugin refuses sessions, because it begins to shut down
	drained   chan struct{}                  // closed when it has no session left after that
}

// Install adds the plugin to r and returns r as a [Router]. Call it before r.Use.
// Middleware that is used before Install still works, but a compressor there keeps an
// encoder, of about 800 KiB, for each stream.
//
// Install panics if r has routes already, if r has the plugin, or if cfg is invalid.
func Install(r chi.Router, cfg Config) *Router {
	if _, ok := r.(*Router); ok {
		panic("sse: Install on a router that already has the plugin; use the router as it is")
	}
	if len(r.Routes()) > 0 {
		panic("sse: Install after routes were added; call sse.Install(chi.NewRouter(), ...) first")
	}
	p := newPlugin(r, cfg)
	r.Use(p.guard)
	return &Router{Router: r, plugin: p}
}

// newPlugin returns a plugin for root, which is nil if the plugin is on no router.
func newPlugin(root chi.Router, cfg Config) *Plugin {
	p := &Plugin{
		cfg:       cfg.withDefaults(),
		root:      root,
		wheels:    wheel.NewSet((*ServerSession).onWheel),
		sessions:  make(map[*ServerSession]struct{}),
		keyLimits: make(map[*byte]*keyLimit),
		servers:   make(map[*http.Server]*servedServer),
		draining:  make(chan struct{}),
		drained:   make(chan struct{}),
	}
	p.expiries = alarm.New(func(s *ServerSession) *alarm.Place { return &s.alarm }, p.expireDue)
	p.rechecks = wheel.NewSet((*recheck).onWheel)
	p.plain = p.newPlain()
	return p
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

// Len returns the number of sessions that have not ended. It counts a session until its
// handler has returned.
func (p *Plugin) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sessions)
}

// Sessions returns the sessions that Len counts at the time of the call, in no particular
// order.
func (p *Plugin) Sessions() iter.Seq[*ServerSession] {
	return slices.Values(p.snapshot())
}

func (p *Plugin) snapshot() []*ServerSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.sessions))
}

// logger returns the plugin's logger with what tells s from other sessions.
func (s *ServerSession) logger() *slog.Logger {
	r := s.Call()
	pattern := cmp.Or(chi.RouteContext(s.ctx).RoutePattern(), r.Pattern) // http.ServeMux sets the latter only
	return s.route.plugin.cfg.Logger.With("pattern", pattern, "remote", r.RemoteAddr)
}
