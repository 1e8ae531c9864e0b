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
	"github.com/stretchr/testify/assert"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// TestRandom publishes from several goroutines, while many clients connect and disconnect
// at random over real sockets. Connections are also cut in the middle of an event, and members
// are kicked. A few events have 100 KB. The test
// compares what each client has seen with what was published: no event is lost, sent twice
// or out of order, unless the client was told of a gap, and the missing events had left the
// log.
//
// With SSE_HUB_SOAK=5m it runs for 5 minutes.
func TestRandom(t *testing.T) {
	for _, tr := range randomTransports {
		t.Run(tr.String(), func(t *testing.T) { newRandomRun(t, tr).run() })
	}
}

type randomTransport struct {
	transport
	ownIDs bool
}

var randomTransports = []randomTransport{
	{http1, false},
	{http2, false},
	{h2c, false},
	{detached, false},
	{detachedTLS, false},
	{http1, true},
	{detached, true},
}

// String returns the name of tr for its test.
func (tr randomTransport) String() string {
	if tr.ownIDs {
		return tr.name + "-own-ids"
	}
	return tr.name
}

const (
	randomLog      = 1500 // events in the log
	randomPatience = 60 * time.Second
)

type randomRun struct {
	t    *testing.T
	tr   randomTransport
	hub  *hub.Hub
	srv  *httptest.Server
	stop chan struct{} // closed before the last events are published

	mu      sync.Mutex
	events  []randomEvent     // by offset once all are published, and unordered before
	ends    map[string]uint64 // by topic
	offsets map[string]uint64 // by id
	seenBy  []*randomConn
	errors  int

	conns, cuts, gaps, kicks, seen, slowEnds atomic.Int64
}

type randomEvent struct {
	offset          uint64
	topic, id, data string
	odd             bool
}

var randomTopics = []string{"a", "b", "c", "d"}

func newRandomRun(t *testing.T, tr randomTransport) *randomRun {
	t.Helper()
	run := &randomRun{t: t, tr: tr, stop: make(chan struct{}), ends: make(map[string]uint64), offsets: make(map[string]uint64)}
	quiet := slog.New(slog.DiscardHandler)
	h := newHub(t, hub.Config{LogEvents: randomLog, Detached: tr.detached, OwnIDs: tr.ownIDs, Logger: quiet})
	run.hub = h
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
	run.srv = testkit.Serve(t, r, tr.protocol.Setup, testkit.SendBuffer(8<<10))
	return run
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
		t.Errorf("clients still wait for their last events: %+v", run.hub.Stats())
		cancel()
		<-done
	}
	cancel()
	dead.Wait()
	shutdown, cancelShutdown := context.WithTimeout(context.Background(), randomPatience)
	defer cancelShutdown()
	if err := run.hub.Shutdown(shutdown); err != nil {
		t.Error(err)
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

// mustPublish publishes e, without its ID unless the hub has OwnIDs.
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
			n, err := run.hub.Kick(context.Background(), topic, nil)
			assert.NoError(run.t, err)
			run.kicks.Add(int64(n))
			continue
		}
		for m := range run.hub.Members(topic) {
			m.Kick(nil)
			run.kicks.Add(1)
			break
		}
	}
}

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
	pos, err := run.hub.Publish(context.Background(), topic, *e)
	if err != nil {
		run.t.Error(err)
	}
	return pos
}

func (run *randomRun) note(pos hub.Position, topic string, e sse.Event) {
	id := cmp.Or(e.ID, pos.String())
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
		if e.offset != uint64(i+1) {
			run.t.Errorf("event %d is missing", i+1)
			break
		}
	}
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
	p, _ := hub.ParsePosition(id)
	return p.Offset
}
