//go:build unix

package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/natslog"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// A node is a process of its own: this test binary, with its configuration in the environment.
const nodeEnv = "SSE_NATSLOG_NODE"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(nodeEnv); cfg != "" {
		os.Exit(runNode(cfg))
	}
	os.Exit(m.Run())
}

const (
	stream         = "soak"
	beat           = time.Second     // the sessions' heartbeat
	writeTimeout   = 5 * time.Second // of the sessions
	publishTimeout = 3 * time.Second
	tail           = 300 // how many events a hub holds in memory
	startPatience  = 3 * time.Minute
	stopPatience   = 10 * time.Second // for each step of a clean shutdown
)

// nodeConfig configures a node.
type nodeConfig struct {
	Name     string
	HTTP     string        // the address of its HTTP server
	Server   *serverConfig // of its NATS server; nil if it has none
	InMemory bool          // the hub's connection to that server needs no network
	URLs     []string      // the servers of the hub's connection otherwise
	Pings    bool          // whether the hub's connection is tested every few seconds
	Detached bool          // of the hub
	MaxMsgs  int64         // of the stream
}

// serverConfig configures a node's NATS server.
type serverConfig struct {
	Dir, Listen, Cluster string
	Peers                []string
}

// node is what a process has.
type node struct {
	cfg nodeConfig
	js  jetstream.JetStream
	hub *hub.Hub
	out sync.Mutex // for lines on stdout
}

// runNode runs a node until it is told to stop, and returns the process's exit code.
func runNode(config string) int {
	go func() { // ends with the test, whatever becomes of that
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(2)
	}()
	n := &node{}
	if err := json.Unmarshal([]byte(config), &n.cfg); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := n.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		if ctx.Err() == nil || !errors.Is(err, context.Canceled) { // it may be stopped while it starts
			return 1
		}
	}
	return 0
}

// run serves until ctx ends, and then shuts down.
func (n *node) run(ctx context.Context) (err error) {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})))
	starting, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	var s *embedded.Server
	if cfg := n.cfg.Server; cfg != nil {
		s, err = embedded.Start(starting, embedded.Config{
			Name: n.cfg.Name, Dir: cfg.Dir, Listen: cfg.Listen, SlowSync: true, // a kill must lose nothing even so
			Cluster: &embedded.Cluster{Listen: cfg.Cluster, Peers: cfg.Peers, Secret: "secret"},
			Options: func(o *server.Options) {
				o.Cluster.Advertise = "127.0.0.1:1" // no server finds another one but through the proxies
			},
		})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, within(s.Shutdown)) }()
	}
	nc, err := n.connect(starting, s)
	if err != nil {
		return err
	}
	defer nc.Close()
	if n.js, err = jetstream.New(nc); err != nil {
		return err
	}
	l, err := natslog.Open(starting, n.js, natslog.Config{Stream: stream, Create: &jetstream.StreamConfig{Replicas: 3, MaxMsgs: n.cfg.MaxMsgs}})
	if err != nil {
		return err
	}
	n.hub, err = hub.Open(starting, hub.Config{
		Log: orderLog{l}, LogEvents: tail, Detached: n.cfg.Detached, PublishTimeout: publishTimeout,
		OnJoin: func(m *hub.Member, _ string) { n.admitted(m.Info()) },
	})
	if err != nil {
		return err
	}
	cancel()
	return n.serve(ctx)
}

// within calls f with a context that ends after a while.
func within(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	return f(ctx)
}

// connect connects to the server in the process, or to the servers elsewhere.
func (n *node) connect(ctx context.Context, s *embedded.Server) (nc *nats.Conn, err error) {
	opts := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond), nats.IgnoreDiscoveredServers()}
	if n.cfg.Pings {
		opts = append(opts, nats.PingInterval(2*time.Second))
	}
	if n.cfg.InMemory {
		return s.Connect(opts...)
	}
	for {
		if nc, err = nats.Connect(strings.Join(n.cfg.URLs, ","), opts...); err == nil {
			return nc, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// serve serves until ctx ends, and then shuts down what it serves.
func (n *node) serve(ctx context.Context) error {
	r := sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: beat}, WriteTimeout: writeTimeout, Retry: 100 * time.Millisecond, ShutdownSpread: -1})
	r.SSE("/events", n.events)
	r.Post("/publish", n.publish)
	r.Post("/kick", n.kick)
	r.Get("/state", n.state)
	listener, err := net.Listen("tcp", n.cfg.HTTP)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	r.Plugin().Attach(srv)
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	n.say("open")
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// A client that takes nothing is cut off, which these report. It is no fault.
	fmt.Fprintln(os.Stderr, "node: stopped with", within(n.hub.Shutdown), within(r.Plugin().Shutdown), within(srv.Shutdown))
	return nil
}

// say writes a line to the parent.
func (n *node) say(words ...any) {
	n.out.Lock()
	defer n.out.Unlock()
	_, _ = fmt.Fprintln(os.Stdout, words...)
}

// session is a session's Info.
type session struct {
	connection string
	once       sync.Once
}

// admitted tells the parent of a position that is not before the one at which the session was
// admitted to the hub. It is called as soon as possible after that.
func (n *node) admitted(info any) {
	s := info.(*session)
	s.once.Do(func() { n.say("admitted", s.connection, n.hub.Position()) })
}

func (n *node) events(s *sse.ServerSession) error {
	q := s.Call().URL.Query()
	start := hub.Now
	if q.Get("start") == "beginning" {
		start = hub.Beginning
	}
	info := &session{connection: q.Get("connection")}
	return n.hub.Serve(s, hub.Subscription{
		Topics: strings.Split(q.Get("topics"), ","), Start: start, Info: info,
		Filter: func(*hub.Message) bool { n.admitted(info); return true },
	})
}

// publication is an event that the parent publishes.
type publication struct{ Topic, Key, Data string }

func (n *node) publish(w http.ResponseWriter, r *http.Request) {
	var request []publication
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ps := make([]hub.Publication, len(request))
	for i, p := range request {
		ps[i] = hub.Publication{Topic: p.Topic, Key: p.Key, Event: sse.Event{Data: p.Data}}
	}
	positions, err := n.hub.PublishAll(r.Context(), ps)
	answer(w, positions, err)
}

// answer answers with v, or says whether it may have happened.
func answer(w http.ResponseWriter, v any, err error) {
	switch {
	case errors.Is(err, hub.ErrUnknown):
		http.Error(w, "unknown: "+err.Error(), http.StatusGatewayTimeout)
	case err != nil:
		http.Error(w, "failed: "+err.Error(), http.StatusServiceUnavailable)
	default:
		_ = json.NewEncoder(w).Encode(v)
	}
}

// kicked is the answer to a kick.
type kicked struct {
	Order hub.Position // of the order in the stream
	Here  int          // how many sessions this node has ended
}

func (n *node) kick(w http.ResponseWriter, r *http.Request) {
	var k kicked
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), orderKey{}, &k.Order), 2*publishTimeout)
	defer cancel()
	var err error
	k.Here, err = n.hub.Kick(ctx, r.URL.Query().Get("topic"), errors.New("kicked by the soak"))
	answer(w, k, err)
}

// orderLog notes the positions of orders for those who ask for them, by the context.
type orderLog struct{ *natslog.Log }

type orderKey struct{}

func (l orderLog) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	positions, err := l.Log.Append(ctx, records)
	if order, ok := ctx.Value(orderKey{}).(*hub.Position); ok && err == nil {
		*order = positions[0]
	}
	return positions, err
}

// state is how a node is.
type state struct {
	Trouble     string // why the hub cannot follow the stream; "" if it can
	Position    hub.Position
	Leader      string // the name of the stream's leader, as far as the node knows
	Consumers   int    // of the stream
	Replicas    string // of the stream, as the leader sees them
	Members     int
	Goroutines  int
	Heap        uint64 // after a collection, in bytes
	Descriptors int
	Stats       hub.Stats
	Stacks      string
}

func (n *node) state(w http.ResponseWriter, r *http.Request) {
	st := state{Position: n.hub.Position(), Stats: n.hub.Stats()}
	st.Members = st.Stats.Members
	if err := n.hub.Health().Err; err != nil {
		st.Trouble = err.Error()
	}
	q := r.URL.Query()
	if q.Has("leader") {
		ctx, cancel := context.WithTimeout(r.Context(), 700*time.Millisecond)
		defer cancel()
		if s, err := n.js.Stream(ctx, stream); err == nil && s.CachedInfo().Cluster != nil {
			st.Leader, st.Consumers = s.CachedInfo().Cluster.Leader, s.CachedInfo().State.Consumers
			for _, p := range s.CachedInfo().Cluster.Replicas {
				st.Replicas += fmt.Sprintf("%+v ", *p)
			}
		}
	}
	if q.Has("memory") {
		runtime.GC()
		runtime.GC() // what the first one has finalized
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		st.Heap = m.HeapAlloc
		st.Goroutines = runtime.NumGoroutine()
		if files, err := os.ReadDir("/dev/fd"); err == nil {
			st.Descriptors = len(files)
		}
	}
	if q.Has("stacks") {
		stacks := make([]byte, 1<<20)
		st.Stacks = string(stacks[:runtime.Stack(stacks, true)])
	}
	answer(w, st, nil)
}
