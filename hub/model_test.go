package hub

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
)

// The model of a hub is a list of all events that have been published. A run does the same
// random steps with the model and with a hub. After each step it compares what every
// session has been sent with the list: the session's events, in order, each once. Where the
// hub has told a client of a gap, the list must contain an event of the session that has
// left the log. Where it has not, no event may be missing.
//
// The files: model_test.go has the model and its runs, model_steps_test.go what a step
// does, model_client_test.go the clients, model_session_test.go the sessions that record
// what the hub sends, model_expect_test.go what a session should be sent,
// model_check_test.go the comparison, and model_fuzz_test.go the fuzz target.

var (
	modelSeed = os.Getenv("SSE_HUB_MODEL_SEED") // runs only this seed
	soak, _   = time.ParseDuration(os.Getenv("SSE_HUB_SOAK"))
)

func TestModel(t *testing.T) {
	const steps = 150
	if modelSeed != "" {
		seed, err := strconv.ParseUint(modelSeed, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		runModel(t, &modelChance{rand.New(rand.NewPCG(seed, 0)), steps}, "SSE_HUB_MODEL_SEED="+modelSeed)
		return
	}
	first, seeds := uint64(1), uint64(40)
	if soak > 0 {
		first, seeds = rand.Uint64()>>1, 1<<62
	}
	began := time.Now()
	var total modelTotals
	for seed := first; seed < first+seeds && !t.Failed(); seed++ {
		if soak > 0 && time.Since(began) > soak {
			break
		}
		total.add(runModel(t, &modelChance{rand.New(rand.NewPCG(seed, 0)), steps}, fmt.Sprintf("SSE_HUB_MODEL_SEED=%d", seed)))
	}
	t.Logf("%+v in %v", total, time.Since(began).Round(time.Millisecond))
	if modelSeed == "" && !t.Failed() {
		total.requireAll(t)
	}
}

// modelSource makes the choices of a run: by chance, or from a fuzz input.
type modelSource interface {
	more() bool
	intn(n int) int
}

type modelChance struct {
	*rand.Rand
	steps int
}

func (c *modelChance) more() bool     { c.steps--; return c.steps >= 0 }
func (c *modelChance) intn(n int) int { return c.IntN(n) }

// modelTotals counts what happened in runs. The runs must cover all of it.
type modelTotals struct {
	Steps, Published, Evicted, Sessions, Resumed, Items int
	Gaps                                                map[GapReason]int
	Slow, Snapshots, Beats, Pending, Held, Cut          int
	CaughtUp, Refused                                   int
}

func (a *modelTotals) add(b modelTotals) {
	a.Steps += b.Steps
	a.Published += b.Published
	a.Evicted += b.Evicted
	a.Sessions += b.Sessions
	a.Resumed += b.Resumed
	a.Items += b.Items
	a.Slow += b.Slow
	a.Snapshots += b.Snapshots
	a.Beats += b.Beats
	a.Pending += b.Pending
	a.Held += b.Held
	a.Cut += b.Cut
	a.CaughtUp += b.CaughtUp
	a.Refused += b.Refused
	if a.Gaps == nil {
		a.Gaps = make(map[GapReason]int)
	}
	for r, n := range b.Gaps {
		a.Gaps[r] += n
	}
}

func (a *modelTotals) requireAll(t *testing.T) {
	t.Helper()
	for what, n := range map[string]int{
		"evicted": a.Evicted, "resumed": a.Resumed, "ended for being slow": a.Slow, "snapshots": a.Snapshots,
		"heartbeats with a position": a.Beats, "pending writes": a.Pending, "writes that held up a worker": a.Held, "cut off in mid-write": a.Cut,
		"older events of topics that were subscribed later": a.CaughtUp, "subscriptions that would have a gap": a.Refused,
	} {
		if n == 0 {
			t.Errorf("no run had any of these: %s", what)
		}
	}
	for _, r := range gapReasons {
		if r != GapLost && a.Gaps[r] == 0 { // only a Log can lose events
			t.Errorf("no run had a gap with reason %s", r)
		}
	}
}

type model struct {
	t      *testing.T
	name   string
	src    modelSource
	h      *Hub
	router *sse.Router
	trace  []string
	totals modelTotals

	logEvents int
	logAge    time.Duration
	beat      time.Duration
	beaten    bool // heartbeats have been sent in this step, and nothing was published after them
	ownIDs    bool
	opaque    bool // the hub has an IDKey
	maxReplay int64
	bySize    bool // the log is also bounded by size; the model then takes Stats.Evicted from the hub

	mu      sync.Mutex
	events  []modelEvent // events[i] has offset i+1
	ids     map[string]uint64
	number  int      // of the last event's data
	faults  []string // that other goroutines have found
	present map[modelPresence]bool

	clients  []*modelClient
	sessions []*modelSession   // without those whose end has been checked
	dropped  map[string]uint64 // for each topic, the head when it may have been dropped last
	readable []modelEvent      // a copy of events, for the test's goroutine
	before   modelState
	closed   bool
}

type modelEvent struct {
	topic, key, id, data string
	size                 int64 // of its frame
	at                   time.Time
}

type modelPresence struct {
	m     *Member
	topic string
}

// modelState is the state before a step.
type modelState struct {
	evicted, head uint64
	follows       map[*modelSession][]string
}

var modelTopics = []string{"a", "b", "c", "d", "e"}

// runModel makes steps until src has no more choices.
func runModel(t *testing.T, src modelSource, name string) (totals modelTotals) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, src, name)
		defer m.tearDown()
		m.quiesce()
		for src.more() {
			m.step()
			m.quiesce()
			m.check()
			m.totals.Steps++
		}
		m.shutdown()
		m.totals.Published = len(m.events)
		m.totals.Evicted = int(m.h.Stats().Evicted)
		totals = m.totals
	})
	return totals
}

func newModel(t *testing.T, src modelSource, name string) *model {
	t.Helper()
	m := &model{
		t: t, name: name, src: src, ids: make(map[string]uint64), present: make(map[modelPresence]bool),
		dropped: make(map[string]uint64), totals: modelTotals{Gaps: make(map[GapReason]int)},
	}
	m.logEvents = []int{1, 2, 5, 8, 20, 60, 2000}[src.intn(7)]
	m.logAge = []time.Duration{-1, 100 * time.Millisecond, time.Second, time.Minute}[src.intn(4)]
	cfg := Config{LogEvents: m.logEvents, LogAge: m.logAge, Detached: true, OnJoin: m.onJoin, OnLeave: m.onLeave, Logger: slog.New(slog.DiscardHandler)}
	m.ownIDs = src.intn(3) == 0
	m.maxReplay = []int64{0, 0, 150, 3000}[src.intn(4)]
	cfg.OwnIDs, cfg.MaxReplay = m.ownIDs, m.maxReplay
	if m.opaque = !m.ownIDs && src.intn(2) == 0; m.opaque {
		cfg.IDKey = []byte("sixteen byte key")
	}
	if m.bySize = src.intn(4) == 0; m.bySize {
		cfg.LogSize = 100_000
	}
	var err error
	if m.h, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	m.h.shards = nil
	for range 1 + src.intn(3) {
		m.h.shards = append(m.h.shards, &shard{hub: m.h})
	}
	m.beat = []time.Duration{-1, time.Second}[src.intn(2)]
	m.router = sse.Install(chi.NewRouter(), sse.Config{Heartbeat: sse.Heartbeat{Period: m.beat}, OpenDelay: -1, Logger: slog.New(slog.DiscardHandler)})
	m.router.SSE("/", m.serve)
	for i := range 3 + src.intn(6) {
		m.clients = append(m.clients, m.newClient(i))
	}
	m.tracef("log %d, %v, by size %t, shards %d, heartbeat %v, own ids %t, opaque %t, replay %d", m.logEvents, m.logAge, m.bySize, len(m.h.shards), m.beat, m.ownIDs, m.opaque, m.maxReplay)
	return m
}

func (m *model) tracef(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf("%4d ", m.totals.Steps)+fmt.Sprintf(format, args...))
}

// failf fails the test, and logs the last 60 steps.
func (m *model) failf(format string, args ...any) {
	m.t.Helper()
	for _, line := range m.trace[max(0, len(m.trace)-60):] {
		m.t.Log(line)
	}
	m.t.Fatalf("%s: %s", m.name, fmt.Sprintf(format, args...))
}

// fault is failf for other goroutines: check fails the test.
func (m *model) fault(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// tearDown ends all sessions and the hub, so that the synctest bubble can end.
func (m *model) tearDown() {
	for _, s := range m.sessions {
		s.openGate()
		s.cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = m.h.Shutdown(ctx)
	synctest.Wait()
}

// quiesce waits until the hub does nothing but wait for clients. It sleeps first, so that
// the watch of each shard can replace a worker that waits.
func (m *model) quiesce() {
	time.Sleep(5 * watchPeriod)
	synctest.Wait()
}

// idOf returns the id that p has, or would have without OwnIDs.
func (m *model) idOf(p Position) string {
	if m.ownIDs {
		return p.String()
	}
	return m.h.ID(p)
}

func (m *model) head() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.events))
}

// at returns the event at offset. It must be in readable: copyEvents has been called since
// it was published.
func (m *model) at(offset uint64) *modelEvent { return &m.readable[offset-1] }

// copyEvents makes all published events readable for the test's goroutine.
func (m *model) copyEvents() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readable = m.events
}

func (m *model) offsetOf(id string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ids[id]
}

// find returns the offset of the event with an own id, if it is of one of topics and is in
// the log or the last of its topic that has left it, and otherwise 0.
func (m *model) find(id string, topics map[string]uint64, evicted uint64) uint64 {
	offset := m.offsetOf(id)
	if offset == 0 {
		return 0
	}
	topic := m.at(offset).topic
	if _, ok := topics[topic]; !ok || offset <= evicted && offset != m.lastEvicted(topic, evicted) {
		return 0
	}
	return offset
}

// lastEvicted returns the offset of the last event of topic that has left the log, or 0.
func (m *model) lastEvicted(topic string, evicted uint64) uint64 {
	for offset := evicted; offset > 0; offset-- {
		if m.at(offset).topic == topic {
			return offset
		}
	}
	return 0
}

// evicted returns how many events have left the log. It fails if the hub has another number
// than the model, where the model can tell.
func (m *model) evicted() uint64 {
	st := m.h.Stats()
	if m.bySize || m.closed {
		return st.Evicted
	}
	n := max(0, len(m.events)-m.logEvents)
	for m.logAge > 0 && n < len(m.events) && time.Since(m.events[n].at) >= m.logAge {
		n++
	}
	if uint64(n) != st.Evicted {
		m.failf("%d of %d events are evicted, want %d", st.Evicted, len(m.events), n)
	}
	return st.Evicted
}

func (m *model) onJoin(member *Member, topic string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := modelPresence{member, topic}
	if m.present[at] {
		m.faults = append(m.faults, fmt.Sprintf("%s joins %s twice", member.Info(), topic))
	}
	m.present[at] = true
}

func (m *model) onLeave(member *Member, topic string, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := modelPresence{member, topic}
	if !m.present[at] {
		m.faults = append(m.faults, fmt.Sprintf("%s leaves %s, which it has not joined", member.Info(), topic))
	}
	delete(m.present, at)
}

func (m *model) stateBefore() modelState {
	m.copyEvents()
	st := modelState{evicted: m.evicted(), head: m.head(), follows: make(map[*modelSession][]string)}
	for _, s := range m.sessions {
		st.follows[s] = slices.Collect(maps.Keys(s.follow))
	}
	return st
}
