package hub_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/hub/logtest"
	"github.com/chi-sse/sse/internal/testkit"
)

// TestRandom publishes from several goroutines, while many clients connect and disconnect
// at random over real sockets. Connections are also cut in the middle of an event, and members
// are kicked. A few events have 100 KB. The test
// compares what each client has seen with what was published: no event is lost, sent twice
// or out of order, unless the client was told of a gap, and the missing events had left the
// log.
//
// With a Log, two hubs have it, which hold only a few events in memory. The clients go to
// either, and no client may be told of a gap. With SSE_HUB_LOG, only the rows run that it changes,
// and only over HTTP/1.1: the Log does not know of the transports.
//
// With SSE_HUB_SOAK=5m it runs for 5 minutes.
func TestRandom(t *testing.T) {
	for _, tr := range randomTransports {
		if os.Getenv("SSE_HUB_LOG") != "" && (tr.log || tr.protocol.Name != http1.protocol.Name) {
			continue
		}
		t.Run(tr.String(), func(t *testing.T) { newRandomRun(t, tr).run() })
	}
}

type randomTransport struct {
	transport
	ownIDs bool
	log    bool // two hubs of one Log that keeps all
	opaque bool // the hubs have an IDKey
}

var randomTransports = []randomTransport{
	{http1, false, false, false},
	{http2, false, false, false},
	{h2c, false, false, false},
	{detached, false, false, false},
	{detachedTLS, false, false, false},
	{http1, true, false, false},
	{detached, true, false, false},
	{http1, false, true, false},
	{h2c, false, true, false},
	{detached, false, true, false},
	{detached, true, true, false},
	{http1, false, false, true},
	{detached, false, true, true},
}

// String returns the name of tr for its test.
func (tr randomTransport) String() string {
	name := tr.name
	if tr.ownIDs {
		name += "-own-ids"
	}
	if tr.log {
		name += "-log"
	}
	if tr.opaque {
		name += "-opaque"
	}
	return name
}

const (
	randomLog      = 1500 // events in the log
	randomTail     = 8    // events in the memory of a hub of a Log
	randomPatience = 60 * time.Second
)

type randomRun struct {
	t    *testing.T
	tr   randomTransport
	log  *logtest.Memory // of the hubs, or nil
	hubs []*randomHub
	stop chan struct{} // closed before the last events are published

	mu      sync.Mutex
	events  []randomEvent     // by offset once all are published, and unordered before
	ends    map[string]uint64 // by topic
	offsets map[string]uint64 // by id
	seenBy  []*randomConn
	ranks   []uint64 // the offsets by rank; see verify
	errors  int

	conns, cuts, gaps, kicks, seen, slowEnds atomic.Int64
}

// randomHub is a hub and its server.
type randomHub struct {
	*hub.Hub
	srv *httptest.Server
}

// some returns one of the hubs.
func (run *randomRun) some() *randomHub { return run.hubs[rand.IntN(len(run.hubs))] }

type randomEvent struct {
	offset          uint64
	topic, id, data string
	odd             bool
}

var randomTopics = []string{"a", "b", "c", "d"}

func newRandomRun(t *testing.T, tr randomTransport) *randomRun {
	t.Helper()
	run := &randomRun{t: t, tr: tr, stop: make(chan struct{}), ends: make(map[string]uint64), offsets: make(map[string]uint64)}
	cfg := hub.Config{LogEvents: randomLog, Detached: tr.detached, OwnIDs: tr.ownIDs, Logger: slog.New(slog.DiscardHandler)}
	if tr.opaque {
		cfg.IDKey = []byte("a key that has thirty-two bytes.")
	}
	if tr.log {
		run.log = logtest.NewMemory(3)
		cfg.Log, cfg.LogEvents = run.log, randomTail
		run.start(cfg)
	}
	run.start(cfg)
	return run
}

// start starts a hub.
func (run *randomRun) start(cfg hub.Config) {
	t, tr, quiet := run.t, run.tr, cfg.Logger
	t.Helper()
	h, log := newHubAndLog(t, cfg)
	run.log = log
	r := sse.Install(chi.NewRouter(), sse.Config{
		Heartbeat: sse.Heartbeat{Period: 20 * time.Millisecond}, WriteTimeout: 2 * time.Second, ShutdownSpread: -1, Logger: quiet,
		OpenDelay: -1, // on a busy machine, the head would tell the client of a start before the hub has chosen it
		OnClose: func(_ *sse.ServerSession, e sse.End) {
			if e.Reason == sse.EndSlow {
				run.slowEnds.Add(1)
			}
		},
	})
	r.SSE("/", func(s *sse.ServerSession) error {
		q := s.Call().URL.Query()
		sub := hub.Subscription{Topics: q["topic"]}
		if tr.ownIDs { // so that a client that has a gap gets the last event
			sub.Start = hub.Beginning
		}
		if q.Has("odd") {
			sub.Filter = func(m *hub.Message) bool { return randomOdd(m.Event.Data) }
		}
		if q.Has("skip") {
			sub.Slow = hub.SlowSkip
		}
		return h.Serve(s, sub)
	})
	// This runs after the cleanup of testkit.Serve, which closes the server.
	t.Cleanup(func() {
		deadline := time.Now().Add(randomPatience)
		for (r.Plugin().Len() > 0 || h.Stats().Members > 0) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if n, m := r.Plugin().Len(), h.Stats().Members; n > 0 || m > 0 {
			t.Errorf("%d sessions, %d members are left", n, m)
		}
	})
	run.hubs = append(run.hubs, &randomHub{h, testkit.Serve(t, r, tr.protocol.Setup, testkit.SendBuffer(8<<10))})
}

func (run *randomRun) run() {
	t := run.t
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	for _, topic := range randomTopics {
		run.mustPublish(topic, sse.Event{ID: "first " + topic, Data: "first"})
	}
	var publishers, clients, dead sync.WaitGroup
	for i := range 4 {
		publishers.Go(func() { run.publish(i) })
	}
	for i := range 24 {
		clients.Go(func() { run.newClient(i).live(ctx) })
	}
	for i := range 6 {
		clients.Go(func() { run.newClient(100 + i).liveByClient(ctx) })
	}
	for i := range 4 {
		dead.Go(func() { run.newClient(200 + i).playDead(ctx) })
	}
	publishers.Go(run.kick)
	time.Sleep(cmp.Or(randomSoak()/time.Duration(len(randomTransports)), 2*time.Second))
	close(run.stop)
	publishers.Wait()
	run.publishEnds()
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(randomPatience):
		for _, h := range run.hubs {
			t.Errorf("clients still wait for their last events: %+v", h.Stats())
		}
		cancel()
		<-done
	}
	cancel()
	dead.Wait()
	shutdown, cancelShutdown := context.WithTimeout(context.Background(), randomPatience)
	defer cancelShutdown()
	for _, h := range run.hubs {
		if err := h.Shutdown(shutdown); err != nil {
			t.Error(err)
		}
	}
	run.verify()
	t.Logf("%d published, %d connections, %d cut off, %d kicked, %d seen, %d gaps, %d ended for being slow, %v", len(run.events), run.conns.Load(),
		run.cuts.Load(), run.kicks.Load(), run.seen.Load(), run.gaps.Load(), run.slowEnds.Load(), time.Since(began).Round(time.Millisecond))
}

func randomSoak() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("SSE_HUB_SOAK"))
	return d
}

func randomOdd(data string) bool {
	number, _, _ := strings.Cut(data, " ")
	return number == "end" || number != "" && number[len(number)-1]&1 == 1
}

// publish publishes in bursts until run.stop is closed.
func (run *randomRun) publish(by int) {
	for n := by; ; {
		select {
		case <-run.stop:
			return
		default:
		}
		for range 1 + rand.IntN(12) {
			data := strconv.Itoa(n) + " " + strings.Repeat("x", rand.IntN(300))
			if rand.IntN(40) == 0 {
				data += "\n" + strings.Repeat("long ", rand.IntN(2000)) + "."
			}
			if rand.IntN(400) == 0 {
				data += "\n" + strings.Repeat("larger than a part ", 5500) + "."
			}
			e := sse.Event{ID: fmt.Sprintf("own %d", n), Data: data}
			n += 4
			run.mustPublish(randomTopics[rand.IntN(len(randomTopics))], e)
		}
		time.Sleep(rand.N(4 * time.Millisecond))
	}
}

// kick ends sessions at random until run.stop is closed. Their clients come back.
func (run *randomRun) kick() {
	for {
		select {
		case <-run.stop:
			return
		case <-time.After(rand.N(60 * time.Millisecond)):
		}
		topic := randomTopics[rand.IntN(len(randomTopics))]
		if rand.IntN(20) == 0 {
			n, err := run.some().Kick(context.Background(), topic, nil)
			testkit.NoError(run.t, err)
			run.kicks.Add(int64(n))
			continue
		}
		for m := range run.some().Members(topic) {
			m.Kick(nil)
			run.kicks.Add(1)
			break
		}
	}
}

// mustPublish publishes e, without its ID unless the hub has OwnIDs.
func (run *randomRun) mustPublish(topic string, e sse.Event) {
	pos := run.send(topic, &e)
	run.mu.Lock()
	defer run.mu.Unlock()
	run.note(pos, topic, e)
}

func (run *randomRun) publishLocked(topic string, e sse.Event) uint64 {
	pos := run.send(topic, &e)
	run.note(pos, topic, e)
	return pos.Offset
}

func (run *randomRun) send(topic string, e *sse.Event) hub.Position {
	if !run.tr.ownIDs {
		e.ID = ""
	}
	pos, err := run.some().Publish(context.Background(), topic, *e)
	if err != nil {
		run.t.Error(err)
	}
	return pos
}

func (run *randomRun) note(pos hub.Position, topic string, e sse.Event) {
	id := cmp.Or(e.ID, run.idOf(pos))
	run.events = append(run.events, randomEvent{pos.Offset, topic, id, e.Data, randomOdd(e.Data)})
	run.offsets[id] = pos.Offset
}

// publishEnds publishes the last event of each topic. It holds mu meanwhile, so a client
// that sees one of them waits until all are known.
func (run *randomRun) publishEnds() {
	run.mu.Lock()
	defer run.mu.Unlock()
	for _, topic := range randomTopics {
		run.ends[topic] = run.publishLocked(topic, sse.Event{ID: "end " + topic, Data: "end"})
	}
	slices.SortFunc(run.events, func(a, b randomEvent) int { return cmp.Compare(a.offset, b.offset) })
	for i, e := range run.events {
		if run.log == nil && e.offset != uint64(i+1) || i > 0 && e.offset == run.events[i-1].offset {
			run.t.Errorf("event %d has the offset %d", i+1, e.offset)
			break
		}
	}
}

// evicted returns the offset up to which events may have left the log.
func (run *randomRun) evicted(h *randomHub) uint64 {
	if run.log == nil {
		return h.Stats().Evicted
	}
	b, err := run.log.Bounds(context.Background())
	if err != nil {
		run.t.Error(err)
	}
	return b.First - 1
}

func (run *randomRun) keep(cn *randomConn) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.seenBy = append(run.seenBy, cn)
}

// end returns the offset of the last event of topics. It is not known before all events are
// published.
func (run *randomRun) end(topics []string) (offset uint64, known bool) {
	run.mu.Lock()
	defer run.mu.Unlock()
	for _, topic := range topics {
		offset = max(offset, run.ends[topic])
	}
	return offset, offset > 0
}

// offsetOf returns the offset of the event with id. All events must be known.
func (run *randomRun) offsetOf(id string) uint64 {
	run.mu.Lock()
	defer run.mu.Unlock()
	if offset, ok := run.offsets[id]; ok {
		return offset
	}
	return run.parse(id).Offset
}

// idOf returns the id of pos for the hubs, which have one key.
func (run *randomRun) idOf(pos hub.Position) string { return run.hubs[0].ID(pos) }

// parse returns the position with the id, or zero if the id is none.
func (run *randomRun) parse(id string) hub.Position {
	pos, _ := run.hubs[0].ParseID(id)
	return pos
}
