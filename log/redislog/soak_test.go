package redislog

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

const (
	soakNodes      = 3
	soakReaders    = 6
	soakPublishers = 4
	soakTopics     = 3
)

// soak is a run: two servers, one the replica of the other, nodes with hubs and HTTP servers,
// publishers, and readers that go from node to node.
type soak struct {
	t       *testing.T
	rng     *rand.Rand
	master  *server
	replica *server
	links   map[*server]*testkit.Proxy // through which the other one replicates from it
	nodes   []*soakNode
	readers []*soakReader
	ledger  *soakLedger
	faults  map[string]int
	began   time.Time
	trace   []string // of the faults
}

// TestSoak makes as much trouble as it can for the servers and the nodes of a log: they are killed,
// frozen, restarted, cut off, emptied, and the replica is promoted before it has all that was
// acknowledged. What each reader gets is compared with what was published: in each stretch between
// two gaps, it must have everything of its topics, once and in order, of one epoch.
//
// SSE_REDISLOG_SOAK is how long there is trouble, such as 10m; default: 6s. SSE_REDISLOG_SOAK_SEED
// is the seed of the choices; default: a random one, which the test names.
func TestSoak(t *testing.T) {
	t.Parallel()
	length, seed := logkit.Soak(t, "SSE_REDISLOG_SOAK", 6*time.Second)
	s := &soak{t: t, began: time.Now(), rng: rand.New(rand.NewPCG(seed, 0)), links: make(map[*server]*testkit.Proxy), ledger: newSoakLedger(), faults: make(map[string]int)}
	s.start()
	publishing, stop := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	for i := range soakPublishers {
		rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
		publishers.Go(func() { s.publish(publishing, i, rng) })
	}
	reading, leave := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for i := range soakReaders {
		r := &soakReader{s: s, name: fmt.Sprint("reader ", i), rng: rand.New(rand.NewPCG(seed, uint64(200+i)))}
		for k := range soakTopics {
			if i%2 == 0 || k == i%soakTopics {
				r.topics = append(r.topics, fmt.Sprint("t", k))
			}
		}
		s.readers = append(s.readers, r)
		readers.Go(func() { r.run(reading) })
	}
	for began := time.Now(); time.Since(began) < length && !t.Failed(); {
		s.fault()
		time.Sleep(time.Duration(200+s.rng.IntN(500)) * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	stop()
	publishers.Wait()
	s.awaitReaders()
	leave()
	readers.Wait()
	s.ledger.check(s)
	t.Log(s.report())
	if t.Failed() {
		t.Log(strings.Join(s.trace, ", "))
	}
}

// start starts everything.
func (s *soak) start() {
	for _, one := range []**server{&s.master, &s.replica} {
		*one = startServer(s.t, "--appendonly", "yes", "--appendfsync", "everysec")
		s.links[*one] = testkit.NewProxy(s.t, (*one).addr)
	}
	s.follow(s.replica, s.master)
	for i := range soakNodes {
		n := &soakNode{s: s, name: fmt.Sprint("node ", i), addr: testkit.FreeAddress(s.t), detached: i%2 == 1}
		n.client, n.proxy = through(s.t, s.master)
		s.nodes = append(s.nodes, n)
		n.start()
		s.t.Cleanup(func() { n.stop(time.Second) })
	}
}

// follow makes a server the replica of another one, and waits until it is.
func (s *soak) follow(replica, master *server) {
	host, port, err := net.SplitHostPort(s.links[master].Addr())
	require.NoError(s.t, err)
	replica.do("REPLICAOF", host, port)
	s.awaitLink(replica)
}

func (s *soak) awaitLink(replica *server) {
	testkit.Eventually(s.t, func() bool {
		return parseInfo(replica.do("INFO", "replication").(string))["master_link_status"] == "up"
	}, "the replica to have what the master has")
}

// wait waits for up to a time.
func (s *soak) wait(most time.Duration) { time.Sleep(time.Duration(s.rng.Int64N(int64(most)))) }

// fault makes trouble of one kind, and ends it.
func (s *soak) fault() {
	kinds := []string{"restart", "failover", "failover", "split", "handover", "freeze", "flush", "kill connections", "forget scripts", "cut", "hold", "hold", "slow", "refuse", "restart node", "restart node"}
	kind := kinds[s.rng.IntN(len(kinds))]
	if s.faults[kind]++; kind == "flush" && s.faults[kind] > 1 && s.rng.IntN(4) > 0 {
		return
	}
	s.trace = append(s.trace, fmt.Sprintf("%.1fs %s", time.Since(s.began).Seconds(), kind))
	p := s.nodes[s.rng.IntN(soakNodes)].proxy
	switch kind {
	case "restart":
		// The server does not write its file while it syncs it, for up to two seconds.
		s.ledger.mayLose(time.Now().Add(-2*time.Second), s.master.kill)
		s.wait(300 * time.Millisecond)
		s.master.start()
	case "failover", "split":
		s.failover(kind == "split")
	case "handover":
		s.handover()
	case "freeze":
		s.master.signal(syscall.SIGSTOP)
		s.wait(5 * time.Second)
		s.master.signal(syscall.SIGCONT)
	case "flush":
		s.ledger.mayLose(time.Time{}, func() { s.master.do("FLUSHALL") })
	case "kill connections":
		s.master.do("CLIENT", "KILL", "TYPE", "normal")
	case "forget scripts":
		s.master.do("SCRIPT", "FLUSH")
	case "cut":
		p.Cut()
	case "hold":
		direction := s.rng.IntN(2)
		p.Hold(direction, true)
		s.wait(2 * time.Second)
		if s.rng.IntN(2) == 0 {
			p.Cut() // what was held is lost
		}
		p.Hold(direction, false)
	case "slow":
		p.Slow(20 * time.Millisecond)
		s.wait(time.Second)
		p.Slow(0)
	case "refuse":
		p.Refuse(true)
		p.Cut()
		s.wait(time.Second)
		p.Refuse(false)
	case "restart node":
		n := s.nodes[s.rng.IntN(soakNodes)]
		n.stop(time.Duration(s.rng.IntN(2)) * time.Second)
		n.start()
	}
}

// failover promotes the replica, which does not have what was acknowledged lately. If the network is
// split, some nodes go to the new master while others still publish to the old one.
func (s *soak) failover(split bool) {
	old := s.master
	s.awaitLink(s.replica) // after a restart of the master
	s.ledger.mayLose(time.Now(), func() {
		s.links[old].Hold(testkit.ToClient, true)
		s.wait(400 * time.Millisecond)
		if split {
			s.replica.do("REPLICAOF", "NO", "ONE")
			for i := range 1 + s.rng.IntN(soakNodes-1) {
				move(s.nodes[i].proxy, s.replica)
			}
			s.wait(600 * time.Millisecond)
		}
		old.kill()
		s.wait(200 * time.Millisecond)
		s.replica.do("REPLICAOF", "NO", "ONE")
	})
	for _, n := range s.nodes {
		move(n.proxy, s.replica)
	}
	s.master, s.replica = s.replica, old
	s.links[old].Hold(testkit.ToClient, false)
	old.start()
	s.follow(old, s.master)
}

// handover makes the master and the replica change their roles without losing anything.
func (s *soak) handover() {
	c := s.master.client(nil)
	if err := c.Do(s.t.Context(), "FAILOVER", "TO", "127.0.0.1", port(s.replica)).Err(); err != nil {
		return // the replica has just lost its connection
	}
	testkit.Eventually(s.t, func() bool {
		old, next := parseInfo(s.master.do("INFO", "replication").(string)), parseInfo(s.replica.do("INFO", "replication").(string))
		return old["role"] == "slave" && next["role"] == "master" && old["master_failover_state"] == "no-failover"
	}, "the roles to be changed")
	s.master, s.replica = s.replica, s.master
	for _, n := range s.nodes {
		move(n.proxy, s.master)
	}
	s.follow(s.replica, s.master)
}

// soakNode is a node: a hub and an HTTP server.
type soakNode struct {
	s        *soak
	name     string
	addr     string
	detached bool
	client   *redis.Client
	proxy    *testkit.Proxy

	log  *Log
	http *http.Server
	mu   sync.Mutex
	hub  *hub.Hub // nil while it is down
}

func (n *soakNode) start() {
	t := n.s.t
	logger := quiet
	if testing.Verbose() && os.Getenv("SSE_REDISLOG_SOAK_LOG") != "" {
		logger = slog.Default().With("node", n.name)
	}
	n.log = openLog(t, n.client, Config{Name: "soak", MaxEvents: -1, MaxBytes: -1, MaxAge: -1, Logger: logger})
	h, err := hub.Open(t.Context(), hub.Config{Log: n.log, LogEvents: 300, Detached: n.detached, PublishTimeout: 2 * time.Second, Logger: logger})
	require.NoError(t, err)
	r := sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: 500 * time.Millisecond}, Retry: 50 * time.Millisecond, ShutdownSpread: -1, Logger: logger})
	r.SSE("/events", func(s *sse.ServerSession) error {
		return h.Serve(s, hub.Subscription{Topics: strings.Split(s.Call().URL.Query().Get("topics"), ","), Start: hub.Beginning})
	})
	n.http = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	r.Plugin().Attach(n.http)
	listener, err := net.Listen("tcp", n.addr)
	require.NoError(t, err)
	go func(srv *http.Server) { _ = srv.Serve(listener) }(n.http)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hub = h
}

// stop stops the node, within a time; without one, as a node that is killed.
func (n *soakNode) stop(within time.Duration) {
	n.mu.Lock()
	h := n.hub
	n.hub = nil
	n.mu.Unlock()
	if h == nil {
		return
	}
	if within == 0 {
		_ = n.http.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_ = h.Shutdown(ctx)
	_ = n.http.Close()
	_ = n.log.Close()
}

// publish publishes on all nodes until ctx ends. What is unknown or failed is published again with
// its key, until it is known.
func (s *soak) publish(ctx context.Context, who int, rng *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		ps := make([]hub.Publication, 1+rng.IntN(4))
		for k := range ps {
			key := fmt.Sprint("p", who, "-", i, "-", k)
			ps[k] = hub.Publication{Topic: fmt.Sprint("t", rng.IntN(soakTopics)), Key: key, Event: sse.Event{Data: key}}
		}
		s.ledger.add(ps)
		for !s.t.Failed() {
			n := s.nodes[rng.IntN(soakNodes)]
			n.mu.Lock()
			h := n.hub
			n.mu.Unlock()
			if h == nil {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			began := time.Now()
			positions, err := h.PublishAll(s.t.Context(), ps)
			if err == nil {
				s.ledger.ack(s, ps, positions, began)
				break
			}
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
		time.Sleep(time.Duration(rng.IntN(4)) * time.Millisecond)
	}
}

// awaitReaders waits until each reader has what is newest in its topics.
func (s *soak) awaitReaders() {
	s.t.Helper()
	var last []hub.Position
	testkit.Eventually(s.t, func() bool {
		var ps []hub.Publication
		for k := range soakTopics {
			key := fmt.Sprint("last-", k, "-", rand.Uint64())
			ps = append(ps, hub.Publication{Topic: fmt.Sprint("t", k), Key: key, Event: sse.Event{Data: key}})
		}
		s.ledger.add(ps)
		began := time.Now()
		positions, err := s.nodes[0].hub.PublishAll(s.t.Context(), ps)
		if err == nil {
			s.ledger.ack(s, ps, positions, began)
			last = positions
		}
		return err == nil
	}, "the last events to be published")
	for _, r := range s.readers {
		deadline := time.Now().Add(time.Minute)
		for !r.has(last) && !s.t.Failed() {
			require.True(s.t, time.Now().Before(deadline), "%s does not come to %v: it is at %v", r.name, last, r.position())
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// report says what there was.
func (s *soak) report() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", s.ledger.report())
	gaps := make(map[hub.GapReason]int)
	events := 0
	for _, r := range s.readers {
		for _, seg := range r.segments {
			events += len(seg.got)
			if seg.gap != "" {
				gaps[seg.gap]++
			}
		}
	}
	fmt.Fprintf(&b, "%d readers have got %d events; gaps: %v\n", len(s.readers), events, gaps)
	kinds := make([]string, 0, len(s.faults))
	for kind, n := range s.faults {
		kinds = append(kinds, fmt.Sprint(kind, " ", n))
	}
	slices.Sort(kinds)
	fmt.Fprintf(&b, "trouble: %s", strings.Join(kinds, ", "))
	return b.String()
}
