//go:build unix

package pglog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

const (
	crashNodes      = 3
	crashReaders    = 8
	crashPublishers = 6
	crashTopics     = 3
	crashRecords    = 1500 // how many the log keeps
)

// crashSoak is a run: a server, nodes with hubs and HTTP servers, publishers, and readers that go from
// node to node.
type crashSoak struct {
	t       *testing.T
	rng     *rand.Rand
	server  *server
	dsn     string
	pool    *pgxpool.Pool // of the publishers and of the test
	nodes   []*crashNode
	readers []*crashReader
	faults  map[string]int

	next      atomic.Int64 // the number of the next transaction
	committed atomic.Int64
	aborted   atomic.Int64
	unknown   atomic.Int64

	ending chan struct{} // closed when readers no longer leave

	mu    sync.Mutex
	acked map[string]hub.Position // what hubs have published, by its data
	first []firstAt
}

// firstAt is the number of the log's first record at a time.
type firstAt struct {
	at    time.Time
	first uint64
}

// tablesForCrashes are the application's table, and a copy of all that has ever got a number.
const tablesForCrashes = `
CREATE TABLE published (n bigint PRIMARY KEY, topic text NOT NULL, events int NOT NULL, counter int, version bigint);
CREATE TABLE counters (counter int PRIMARY KEY, version bigint NOT NULL);
INSERT INTO counters SELECT i, 0 FROM generate_series(0, 4) i;
CREATE TABLE archive (number bigint PRIMARY KEY, record bytea NOT NULL);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.archive SELECT number, record FROM fresh;
	RETURN NULL;
END $$;
CREATE TRIGGER keep AFTER INSERT ON sse.log REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION keep();`

// TestCrashSoak kills the server, its processes and the nodes, and cuts the network between them,
// while transactions publish and clients read from all nodes in turn. Each transaction writes its
// number to a table of the application. What each client gets is compared with that table: between
// two gaps, it must have every event of its topics, once and in the log's order. A gap must be due.
//
// SSE_PGLOG_CRASHES is how long there is trouble, such as 10m; default: 5s. SSE_PGLOG_CRASHES_SEED
// is the seed of the choices; default: a random one, which the test names.
func TestCrashSoak(t *testing.T) {
	t.Parallel()
	length, seed := logkit.Soak(t, "SSE_PGLOG_CRASHES", 5*time.Second)
	s := &crashSoak{t: t, rng: rand.New(rand.NewPCG(seed, 0)), faults: make(map[string]int), acked: make(map[string]hub.Position), ending: make(chan struct{})}
	s.start()
	publishing, stop := context.WithCancel(t.Context())
	var publishers, readers sync.WaitGroup
	for i := range crashPublishers {
		rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
		publishers.Go(func() { s.publish(publishing, rng) })
	}
	publishers.Go(func() { s.publishByHubs(publishing, rand.New(rand.NewPCG(seed, 99))) })
	reading, leave := context.WithCancel(t.Context())
	defer leave()
	readers.Go(func() { s.watch(reading) })
	for i := range crashReaders {
		r := newCrashReader(s, i, rand.New(rand.NewPCG(seed, uint64(200+i))))
		s.readers = append(s.readers, r)
		readers.Go(func() { r.run(reading) })
	}
	for _, r := range s.readers {
		testkit.Eventually(t, func() bool { return r.position() > 0 }, "a reader to have an event")
	}
	for began := time.Now(); time.Since(began) < length && !t.Failed(); {
		s.fault()
		time.Sleep(time.Duration(100+s.rng.IntN(400)) * time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	stop()
	publishers.Wait()
	s.awaitReaders()
	leave()
	readers.Wait()
	s.check()
	t.Log(s.report())
}

// start starts everything.
func (s *crashSoak) start() {
	s.server = startServer(s.t)
	s.dsn = s.server.dsn("postgres", "postgres")
	cfg, err := pgxpool.ParseConfig(s.dsn)
	require.NoError(s.t, err)
	cfg.MaxConns = crashPublishers + 6
	s.pool, err = pgxpool.NewWithConfig(s.t.Context(), cfg)
	require.NoError(s.t, err)
	s.t.Cleanup(s.pool.Close)
	migrate(s.t, s.pool)
	execute(s.t, s.pool, tablesForCrashes)
	for i := range crashNodes {
		n := &crashNode{s: s, name: fmt.Sprint("node ", i), addr: noAddr, detached: i%2 == 1, line: newLine()}
		n.start()
		s.nodes = append(s.nodes, n)
		s.t.Cleanup(func() { n.stop(time.Second) })
	}
}

// wait waits for up to a time.
func (s *crashSoak) wait(most time.Duration) { time.Sleep(time.Duration(s.rng.Int64N(int64(most)))) }

// fault makes trouble of one kind, and ends it.
func (s *crashSoak) fault() {
	kinds := []string{
		"stop the server at once", "stop the server at once", "kill the server", "restart the server", "kill a backend",
		"terminate a backend", "terminate a backend", "terminate a backend", "terminate all backends",
		"cut", "hold", "hold and cut", "refuse", "restart a node", "drop a node",
	}
	kind := kinds[s.rng.IntN(len(kinds))]
	s.faults[kind]++
	n := s.nodes[s.rng.IntN(crashNodes)]
	switch kind {
	case "stop the server at once":
		s.server.kill()
		s.wait(200 * time.Millisecond)
		require.NoError(s.t, s.server.start())
	case "kill the server":
		s.killAll()
		require.NoError(s.t, s.server.start())
	case "restart the server":
		s.server.Signal(syscall.SIGINT)
		require.NoError(s.t, s.server.start())
	case "kill a backend": // the server then ends all others, and recovers
		for _, pid := range s.pids("backend_type = 'client backend' ORDER BY random() LIMIT 1") {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	case "terminate a backend":
		s.terminate("ORDER BY random() LIMIT 1")
	case "terminate all backends":
		s.terminate("")
	case "cut":
		n.line.cut()
	case "hold", "hold and cut":
		n.line.hold(true)
		s.wait(1500 * time.Millisecond)
		if kind == "hold and cut" {
			n.line.cut() // what was held is lost
		}
		n.line.hold(false)
	case "refuse":
		n.line.refuse(true)
		n.line.cut()
		s.wait(time.Second)
		n.line.refuse(false)
	case "restart a node":
		n.stop(time.Second)
		n.start()
	case "drop a node": // as one that is killed
		n.stop(0)
		s.wait(300 * time.Millisecond)
		n.start()
	}
}

// terminate terminates backends in the middle of what they do.
func (s *crashSoak) terminate(which string) {
	_, _ = s.pool.Exec(s.t.Context(), "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() "+which+") x")
}

// pids returns the ids of processes of the server. It is empty while the server recovers.
func (s *crashSoak) pids(where string) (pids []int) {
	rows, err := s.pool.Query(s.t.Context(), "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "+where)
	if err == nil {
		pids, _ = pgx.CollectRows(rows, pgx.RowTo[int])
	}
	return pids
}

// killAll kills all processes of the server, as a power cut does.
func (s *crashSoak) killAll() {
	pids := s.pids("true")
	s.server.Signal(syscall.SIGKILL)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// watch notes which records the log has, until ctx ends.
func (s *crashSoak) watch(ctx context.Context) {
	for ctx.Err() == nil {
		var first uint64
		if err := s.pool.QueryRow(ctx, "SELECT first FROM sse.state ORDER BY n DESC LIMIT 1").Scan(&first); err == nil {
			s.mu.Lock()
			s.first = append(s.first, firstAt{time.Now(), first})
			s.mu.Unlock()
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// publish publishes in transactions until ctx ends. A third of them is rolled back.
func (s *crashSoak) publish(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		n, committing := s.next.Add(1), false
		err := pgx.BeginFunc(s.t.Context(), s.pool, func(tx pgx.Tx) error {
			if err := s.transaction(tx, n, rng); err != nil {
				return err
			}
			committing = true
			return nil
		})
		switch {
		case err == nil:
			s.committed.Add(1)
		case committing:
			s.unknown.Add(1)
		default:
			s.aborted.Add(1)
			if !errors.Is(err, errRollBack) {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(time.Duration(rng.IntN(15)) * time.Millisecond)
	}
}

func (s *crashSoak) transaction(tx pgx.Tx, n int64, rng *rand.Rand) error {
	topic, events := fmt.Sprint("t", rng.IntN(crashTopics)), 1+rng.IntN(4)
	var counter, version *int64
	if rng.IntN(3) == 0 { // it waits for the one before that has changed the counter
		if err := tx.QueryRow(s.t.Context(), "UPDATE counters SET version = version + 1 WHERE counter = $1 RETURNING *", rng.IntN(5)).Scan(&counter, &version); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(s.t.Context(), "INSERT INTO published VALUES ($1, $2, $3, $4, $5)", n, topic, events, counter, version); err != nil {
		return err
	}
	for i := range events {
		if err := Publish(s.t.Context(), tx, topic, sse.Event{Data: fmt.Sprint(n, " ", i, " ", events)}); err != nil {
			return err
		}
	}
	switch k := rng.IntN(100); {
	case k == 0:
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
	case k < 20:
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
	}
	if rng.IntN(3) == 0 {
		return errRollBack
	}
	return nil
}

// publishByHubs publishes on all nodes until ctx ends. What is unknown or failed is published again with
// its key, until it is known.
func (s *crashSoak) publishByHubs(ctx context.Context, rng *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprint("hub ", i)
		for !s.t.Failed() {
			h := s.nodes[rng.IntN(crashNodes)].current()
			if h == nil {
				time.Sleep(5 * time.Millisecond)
				continue
			}
			pos, err := h.PublishAll(s.t.Context(), []hub.Publication{{Topic: "t0", Key: key, Event: sse.Event{Data: key}}})
			if err == nil {
				s.mu.Lock()
				s.acked[key] = pos[0]
				s.mu.Unlock()
				break
			}
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
		time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
	}
}

// awaitReaders waits until each reader has what is newest in its topics.
func (s *crashSoak) awaitReaders() {
	s.t.Helper()
	last := make(map[string]uint64) // by topic
	close(s.ending)
	testkit.Eventually(s.t, func() bool {
		for k := range crashTopics {
			key, topic := fmt.Sprint("last ", k), fmt.Sprint("t", k)
			pos, err := s.nodes[k].current().PublishAll(s.t.Context(), []hub.Publication{{Topic: topic, Key: key, Event: sse.Event{Data: key}}})
			if err != nil {
				return false
			}
			s.acked[key], last[topic] = pos[0], pos[0].Offset
		}
		return true
	}, "the last events to be published")
	for _, r := range s.readers {
		deadline := time.Now().Add(time.Minute)
		for !r.has(last) && !s.t.Failed() {
			require.True(s.t, time.Now().Before(deadline), "%s does not come to %v: it is at %d", r.name, last, r.position())
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// report says what there was.
func (s *crashSoak) report() string {
	gaps, events, states := make(map[hub.GapReason]int), 0, 0
	for _, r := range s.readers {
		states += len(r.states)
		for _, seg := range r.segments {
			events += len(seg.got)
			if seg.gap != "" {
				gaps[seg.gap]++
			}
		}
	}
	kinds := make([]string, 0, len(s.faults))
	for _, kind := range slices.Sorted(maps.Keys(s.faults)) {
		kinds = append(kinds, fmt.Sprint(kind, " ", s.faults[kind]))
	}
	return fmt.Sprintf("%d transactions: %d committed, %d aborted, %d unknown; %d events of hubs\n%d readers have got %d events and %d snapshots; gaps: %v\ntrouble: %s",
		s.next.Load(), s.committed.Load(), s.aborted.Load(), s.unknown.Load(), len(s.acked), len(s.readers), events, states, gaps, strings.Join(kinds, ", "))
}

// crashNode is a node: a hub and an HTTP server.
type crashNode struct {
	s        *crashSoak
	name     string
	addr     string
	detached bool
	line     *line // to the database

	pool *pgxpool.Pool
	log  *Log
	http *http.Server
	mu   sync.Mutex
	hub  *hub.Hub // nil while it is down
}

// noAddr is the address of a node that has none yet.
const noAddr = "127.0.0.1:0"

// current returns the hub, or nil while the node is down.
func (n *crashNode) current() *hub.Hub {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hub
}

// start starts the node. The server may be in trouble.
func (n *crashNode) start() {
	t := n.s.t
	logger := quiet
	if os.Getenv("SSE_PGLOG_CRASHES_LOG") != "" {
		logger = slog.Default().With("node", n.name)
	}
	cfg, err := pgxpool.ParseConfig(n.s.dsn)
	require.NoError(t, err)
	cfg.ConnConfig.DialFunc = n.line.dial
	n.pool, err = pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	var h *hub.Hub
	testkit.Eventually(t, func() bool {
		if n.log, err = Open(t.Context(), n.pool, Config{MaxRecords: crashRecords, Logger: logger}); err != nil {
			return false
		}
		h, err = hub.Open(t.Context(), hub.Config{Log: n.log, LogEvents: 200, Detached: n.detached, PublishTimeout: 2 * time.Second, Logger: logger})
		if err != nil {
			n.log.Close()
		}
		return err == nil
	}, "the node to start")
	r := sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: 500 * time.Millisecond}, Retry: 50 * time.Millisecond, ShutdownSpread: -1, Logger: logger})
	r.SSE("/events", func(session *sse.ServerSession) error {
		q := session.Call().URL.Query()
		sub := hub.Subscription{Topics: strings.Split(q.Get("topics"), ","), Start: hub.Beginning}
		if q.Has("state") {
			sub.Snapshot = func(session *sse.ServerSession, _ hub.Position) (hub.Position, error) {
				st, err := n.state(session.Context(), sub.Topics)
				if err != nil {
					return st.at, err
				}
				return st.at, session.Send(sse.Event{ID: h.ID(st.at), Name: "state", Data: fmt.Sprint(st.at, " ", st.count, " ", st.events, " ", st.sum)})
			}
		}
		return h.Serve(session, sub)
	})
	n.http = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	r.Plugin().Attach(n.http)
	listener, err := net.Listen("tcp", n.addr)
	require.NoError(t, err)
	if n.addr == noAddr { // from then on, readers read it
		n.addr = listener.Addr().String()
	}
	go func(srv *http.Server) { _ = srv.Serve(listener) }(n.http)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hub = h
}

// state takes a snapshot of what was published in the topics.
func (n *crashNode) state(ctx context.Context, topics []string) (st state, err error) {
	err = pgx.BeginTxFunc(ctx, n.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		if st.at, err = n.log.Snapshot(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT count(*), coalesce(sum(events), 0), coalesce(sum(n), 0) FROM published WHERE topic = ANY($1)", topics).Scan(&st.count, &st.events, &st.sum)
	})
	return st, err
}

// stop stops the node, within a time; without one, as a node that is killed.
func (n *crashNode) stop(within time.Duration) {
	n.mu.Lock()
	h := n.hub
	n.hub = nil
	n.mu.Unlock()
	if h == nil {
		return
	}
	if within == 0 {
		n.line.cut()
		_ = n.http.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	_ = h.Shutdown(ctx)
	_ = n.http.Close()
	n.log.Close()
	n.pool.Close()
}
