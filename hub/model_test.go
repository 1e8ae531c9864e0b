package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/engine"
)

// The model of a hub is a list of all events that were ever published. A run does
// the same to it and to a hub, by chance, and asks after each step what every session
// has been sent: the events of the list that are the session's, in order, each once.
// Where the hub told of a gap the list must know of an event that had left the log;
// where it did not, nothing may be missing.

var (
	modelSeed = os.Getenv("SSE_HUB_MODEL_SEED") // runs this one only
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

// FuzzHub lets the input choose what is done.
func FuzzHub(f *testing.F) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		input := make([]byte, 200+r.IntN(400))
		for i := range input {
			input[i] = byte(r.Uint32())
		}
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		runModel(t, &modelInput{input}, "the input")
	})
}

// modelSource makes the choices of a run.
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

type modelInput struct{ rest []byte }

func (i *modelInput) more() bool { return len(i.rest) > 0 }

func (i *modelInput) intn(n int) int {
	if len(i.rest) == 0 {
		return 0
	}
	v := int(i.rest[0])
	i.rest = i.rest[1:]
	if n > 256 {
		v = v * n / 256
	}
	return v % n
}

// modelTotals tells whether the runs have come across what they are for.
type modelTotals struct {
	Steps, Published, Evicted, Sessions, Resumed, Items int
	Gaps                                                map[GapReason]int
	Slow, Snapshots, Beats, Pending, Held, Cut          int
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
	} {
		if n == 0 {
			t.Errorf("the runs had none of these: %s", what)
		}
	}
	for _, r := range gapReasons {
		if a.Gaps[r] == 0 {
			t.Errorf("the runs had no gap of reason %s", r)
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
	beaten    bool // heartbeats have been sent in this step, and nothing since
	bySize    bool // the log is bounded by size as well, which the hub is believed

	mu      sync.Mutex
	events  []modelEvent // events[i] has offset i+1
	ids     map[string]uint64
	own     int
	faults  []string // of other goroutines
	present map[modelPresence]bool

	clients  []*modelClient
	sessions []*modelSession // that have not been seen to end
	died     map[string]uint64
	settled  []modelEvent // events, up to some length
	before   modelState
	closed   bool
}

type modelEvent struct {
	topic, key, id, data string
	at                   time.Time
}

type modelPresence struct {
	m     *Member
	topic string
}

// modelState is what a step began with.
type modelState struct {
	evicted, head uint64
	follows       map[*modelSession][]string
}

var modelTopics = []string{"a", "b", "c", "d", "e"}

// runModel runs until src has no more.
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
		died: make(map[string]uint64), totals: modelTotals{Gaps: make(map[GapReason]int)},
	}
	m.logEvents = []int{1, 2, 5, 8, 20, 60, 2000}[src.intn(7)]
	m.logAge = []time.Duration{-1, 100 * time.Millisecond, time.Second, time.Minute}[src.intn(4)]
	cfg := Config{LogEvents: m.logEvents, LogAge: m.logAge, Detached: true, OnJoin: m.onJoin, OnLeave: m.onLeave, Logger: slog.New(slog.DiscardHandler)}
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
	m.tracef("log %d, %v, by size %t, shards %d, heartbeat %v", m.logEvents, m.logAge, m.bySize, len(m.h.shards), m.beat)
	return m
}

func (m *model) tracef(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf("%4d ", m.totals.Steps)+fmt.Sprintf(format, args...))
}

// failf fails with what led there.
func (m *model) failf(format string, args ...any) {
	m.t.Helper()
	for _, line := range m.trace[max(0, len(m.trace)-60):] {
		m.t.Log(line)
	}
	m.t.Fatalf("%s: %s", m.name, fmt.Sprintf(format, args...))
}

// fault is failf for other goroutines.
func (m *model) fault(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// tearDown lets everything go, so that the bubble can end.
func (m *model) tearDown() {
	for _, s := range m.sessions {
		s.letThrough()
		s.cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = m.h.Shutdown(ctx)
	synctest.Wait()
}

// quiesce waits until the hub does nothing but wait for clients. The time is for the
// watch of a shard, which replaces workers that wait.
func (m *model) quiesce() {
	time.Sleep(5 * watchPeriod)
	synctest.Wait()
}

func (m *model) head() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return uint64(len(m.events))
}

// at returns an event that was there when the step began, or, if nothing is going on
// now, any.
func (m *model) at(offset uint64) *modelEvent { return &m.settled[offset-1] }

// settleEvents lets the test's goroutine read all that has been published.
func (m *model) settleEvents() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled = m.events
}

func (m *model) offsetOf(id string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ids[id]
}

// evicted returns how many of the first events are not in the log anymore.
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

func (m *model) step() {
	m.before, m.beaten = m.state(), false
	switch m.src.intn(20) {
	case 0, 1, 2, 3, 4:
		n := 1 + m.src.intn(3)
		m.tracef("publish %d", n)
		for range n {
			m.publish(m.choice())
		}
	case 5, 6, 7, 8:
		m.join(true)
	case 9, 10:
		m.leave()
	case 11, 12:
		m.stall()
	case 13, 14:
		m.letThrough()
	case 15:
		m.resubscribe()
	case 16:
		d := []time.Duration{20, 100, 1000, 5000}[m.src.intn(4)] * time.Millisecond
		m.tracef("sleep %v", d)
		time.Sleep(d)
		m.beaten = m.beat > 0 && d > 2*m.beat
	case 17:
		n := m.logEvents + m.src.intn(5)
		if m.logEvents > 100 {
			n = 400 + m.src.intn(1000)
		}
		m.tracef("flood of %d", n)
		c := m.choice()
		for range n {
			c.key = (c.key + 1) % 4
			m.publish(c)
		}
	case 18, 19:
		m.burst()
	}
}

// burst does several things at once.
func (m *model) burst() {
	n := 2 + m.src.intn(4)
	m.tracef("at once %d:", n)
	var done sync.WaitGroup
	for range n {
		switch m.src.intn(8) {
		case 0:
			m.join(false)
		case 1:
			m.leave()
		case 2:
			m.stall()
		case 3:
			m.letThrough()
		case 4:
			if s := m.someSession(); s != nil {
				m.tracef("kick %s", s)
				s.mayEnd = true
				done.Go(func() { s.member.Load().Kick(errors.New("out")) })
			}
		default:
			c, count := m.choice(), 1+m.src.intn(6)
			m.tracef("publish %d", count)
			done.Go(func() {
				for range count {
					m.publish(c)
				}
			})
		}
	}
	done.Wait()
}

// modelChoice is an event before it is published.
type modelChoice struct {
	topic, key       int
	own, silent, big bool
}

func (m *model) choice() modelChoice {
	return modelChoice{
		topic: m.src.intn(len(modelTopics)), key: m.src.intn(4),
		own: m.src.intn(6) == 0, silent: m.src.intn(12) == 0, big: m.src.intn(16) == 0,
	}
}

func (m *model) publish(c modelChoice) {
	m.mu.Lock()
	m.own++
	n := m.own
	m.mu.Unlock()
	e := modelEvent{topic: modelTopics[c.topic], key: "k" + strconv.Itoa(c.key), data: strconv.Itoa(n), at: time.Now()}
	if c.big {
		e.data += strings.Repeat("x", 12<<10)
	}
	ev := sse.Event{Name: e.key, Data: e.data}
	if c.own {
		ev.ID = fmt.Sprintf("own %d", n)
	}
	if c.silent {
		e.key, e.data = "", ""
		ev.Name, ev.Data, ev.Comment = "", "", strconv.Itoa(n)
	}
	pos, err := m.h.Publish(context.Background(), e.topic, ev)
	if err != nil || pos.Epoch != m.h.epoch {
		m.fault("published at %v: %v", pos, err)
		return
	}
	e.id = ev.ID
	if e.id == "" {
		e.id = pos.String()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for uint64(len(m.events)) < pos.Offset {
		m.events = append(m.events, modelEvent{})
	}
	if m.events[pos.Offset-1].id != "" {
		m.faults = append(m.faults, fmt.Sprintf("two events at %v", pos))
	}
	m.events[pos.Offset-1] = e
	m.ids[e.id] = pos.Offset
}

// modelClient is somebody who comes and goes.
type modelClient struct {
	name     string
	mode     modelMode
	topics   []string
	filter   func(*modelEvent) bool
	slow     SlowPolicy
	byKey    bool
	snapshot bool
	seen     string   // its last event id
	owed     []string // of which topics it was promised a snapshot, before it was cut off
	stalls   bool     // it does not read
	session  *modelSession
}

// modelMode is how writes to a session behave when its client does not read.
type modelMode int

const (
	modelBlocks  modelMode = iota // like those through net/http
	modelPending                  // like those to a connection that is the hub's
)

func (m *model) newClient(i int) *modelClient {
	c := &modelClient{
		name: string(rune('A' + i)), mode: modelMode(m.src.intn(2)), topics: m.someTopics(),
		slow: SlowPolicy(m.src.intn(3)), snapshot: m.src.intn(4) == 0,
	}
	c.byKey = c.slow == SlowLatest && m.src.intn(2) == 0
	switch m.src.intn(6) {
	case 0, 1:
		c.filter = func(e *modelEvent) bool { return e.key == "k0" || e.key == "k1" }
	case 2:
		c.filter = func(e *modelEvent) bool { return false }
	}
	m.tracef("client %s: mode %d, topics %q, slow %d by key %t, filter %t, snapshot %t", c.name, c.mode, c.topics, c.slow, c.byKey, c.filter != nil, c.snapshot)
	return c
}

func (m *model) someTopics() (topics []string) {
	for range []int{1, 1, 1, 2, 3, 5, 0}[m.src.intn(7)] {
		topics = append(topics, modelTopics[m.src.intn(len(modelTopics))]) // one may be there twice
	}
	return topics
}

func (m *model) someClient(absent bool) *modelClient {
	from := m.src.intn(len(m.clients))
	for i := range m.clients {
		if c := m.clients[(from+i)%len(m.clients)]; (c.session == nil) == absent {
			return c
		}
	}
	return nil
}

// someSession returns one that is not about to end.
func (m *model) someSession() *modelSession {
	if c := m.someClient(false); c != nil && !c.session.mayEnd && c.session.member.Load() != nil {
		return c.session
	}
	return nil
}

// modelKey finds a modelSession in the context of a request.
type modelKey struct{}

// modelSession stands between the hub and a session: it keeps what the hub sends,
// and has writes wait for the client.
type modelSession struct {
	engine.Session
	model   *model
	client  *modelClient
	server  *sse.ServerSession
	w       modelWriter
	sub     Subscription
	cancel  context.CancelFunc // the client leaves
	gate    atomic.Pointer[chan struct{}]
	member  atomic.Pointer[Member]
	sending atomic.Int32
	asking  atomic.Int32

	mu       sync.Mutex
	items    []modelItem // that have not been looked at
	inFlight []byte
	pending  *engine.Frames
	detached bool
	ended    bool
	opened   bool // the handler has got through the opening
	err      error

	// What the model expects. The test's goroutine has it for itself.
	follow   map[string]uint64 // behind which offset
	sent     uint64            // the last offset that it was told
	pos      uint64            // likewise, or up to where nothing was for it
	upTo     uint64            // up to which nothing is missing
	got      map[string]uint64 // the newest by key, for SlowLatest
	id       string            // that the client came with
	wasHead  uint64            // when it came
	vague    bool              // it came while others published
	mustGap  bool
	gap      GapReason // the only one that may be
	snapshot bool      // one is due
	owed     bool      // the client has been promised one earlier
	old      bool      // the snapshot may be older than the log
	begun    bool      // there was an item
	mayEnd   bool
}

type modelItem struct {
	kind     modelKind
	id, data string
	key      string
	pos      Position // of a snapshot
	late     bool     // it was sent after the opening
}

type modelKind int

const (
	modelIsEvent modelKind = iota
	modelIsPosition
	modelIsBeat
	modelIsGap
	modelIsSnapshot
)

func init() {
	of := engine.Of
	engine.Of = func(session any) engine.Session {
		its := of(session)
		server := session.(*sse.ServerSession)
		if s, ok := server.Context().Value(modelKey{}).(*modelSession); ok {
			s.Session, s.server = its, server
			return s
		}
		return its
	}
}

// serve is the handler.
func (m *model) serve(server *sse.ServerSession) error {
	s := server.Context().Value(modelKey{}).(*modelSession)
	err := m.h.Serve(server, s.sub)
	s.mu.Lock()
	detached := s.detached
	s.err = err
	s.mu.Unlock()
	if detached {
		if err != nil {
			m.fault("%s: Serve has detached the session and returned %v", s, err)
		}
		<-server.Done()
		(*owner)(s.member.Load()).Ended(context.Cause(server.Context()))
	}
	return nil
}

func (s *modelSession) String() string { return s.client.name }

func (s *modelSession) Attach(o engine.Owner) bool {
	s.member.Store((*Member)(o.(*owner)))
	return s.Session.Attach(&modelOwner{s, o})
}

func (s *modelSession) Detach() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = true // the hub asks when that is done
	s.detached = s.client.mode == modelPending && s.server.Context().Err() == nil
	return s.detached
}

func (s *modelSession) MayBlock() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.detached
}

func (s *modelSession) TryWrite(f *engine.Frames) (pending bool, err error) {
	if s.sending.Add(1) != 1 {
		s.model.fault("%s: two send at a time", s)
	}
	s.keep(f)
	if gate := s.gate.Load(); gate != nil {
		if !s.MayBlock() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.pending = new(engine.Frames)
			s.pending.Reset(0)
			s.pending.Append(f.Bytes())
			s.pending.Events = f.Events
			s.model.addTo(&s.model.totals.Pending)
			return true, nil
		}
		s.model.addTo(&s.model.totals.Held)
		s.wait(*gate)
	}
	defer s.sending.Add(-1)
	return false, s.pass(f)
}

func (s *modelSession) Finish() error {
	s.mu.Lock()
	f := s.pending
	s.pending = nil
	s.mu.Unlock()
	if f == nil {
		s.model.fault("%s: Finish without anything to finish", s)
		return nil
	}
	if gate := s.gate.Load(); gate != nil {
		s.wait(*gate)
	}
	defer s.sending.Add(-1)
	return s.pass(f)
}

func (s *modelSession) wait(gate chan struct{}) {
	select {
	case <-gate:
	case <-s.server.Done():
	}
}

func (s *modelSession) pass(f *engine.Frames) error {
	if pending, err := s.Session.TryWrite(f); err != nil || pending {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight = nil
	return nil
}

// keep takes note of what is sent.
func (s *modelSession) keep(f *engine.Frames) {
	items := modelParse(f.Bytes())
	if len(items) != f.Events {
		s.model.fault("%s: %d events are said to be %d", s, len(items), f.Events)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, item := range items {
		item.late = s.opened
		s.items = append(s.items, item)
	}
	s.inFlight = bytes.Clone(f.Bytes())
}

// letThrough ends a stall.
func (s *modelSession) letThrough() {
	if gate := s.gate.Swap(nil); gate != nil {
		close(*gate)
	}
}

// modelOwner listens to the heartbeats.
type modelOwner struct {
	s *modelSession
	engine.Owner
}

func (o *modelOwner) BeginHeartbeat(dst []byte) ([]byte, bool) {
	frame, ok := o.Owner.BeginHeartbeat(dst)
	if ok {
		if o.s.sending.Add(1) != 1 {
			o.s.model.fault("%s: a heartbeat in the middle of a write", o.s)
		}
		o.s.mu.Lock()
		defer o.s.mu.Unlock()
		for _, item := range modelParse(frame) {
			item.kind = modelIsBeat
			o.s.items = append(o.s.items, item)
			o.s.model.addTo(&o.s.model.totals.Beats)
		}
	}
	return frame, ok
}

func (o *modelOwner) EndHeartbeat() {
	o.s.sending.Add(-1)
	o.Owner.EndHeartbeat()
}

func (m *model) addTo(n *int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*n++
}

// modelParse reads frames of the hub's, of which it knows the form.
func modelParse(frames []byte) (items []modelItem) {
	for block := range strings.SplitSeq(strings.TrimSuffix(string(frames), "\n\n"), "\n\n") {
		item := modelItem{kind: modelIsPosition}
		for line := range strings.SplitSeq(block, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			switch name {
			case "id":
				item.id = value
				if _, err := ParsePosition(value); err == nil {
					continue
				}
			case "event":
				item.key = value
			case "data":
				item.data = value
			}
			item.kind = modelIsEvent
		}
		if item.key == GapEvent {
			item.kind = modelIsGap
		}
		items = append(items, item)
	}
	return items
}

// modelWriter is a response in memory.
type modelWriter struct {
	mu     sync.Mutex
	header http.Header
	body   bytes.Buffer
}

func (w *modelWriter) Header() http.Header              { return w.header }
func (w *modelWriter) WriteHeader(int)                  {}
func (w *modelWriter) FlushError() error                { return nil }
func (w *modelWriter) Flush()                           {}
func (w *modelWriter) SetWriteDeadline(time.Time) error { return nil }
func (w *modelWriter) SetReadDeadline(time.Time) error  { return nil }

func (w *modelWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.body.Write(p)
}

// lastID returns the last event id of a client that has read the body, and rest. owed
// says that it has been promised a snapshot, and not been told where that stands.
func (w *modelWriter) lastID(before string, rest []byte) (id string, owed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	body := slices.Concat(w.body.Bytes(), rest)
	for block := range strings.SplitSeq(string(body[:bytes.LastIndex(body, []byte("\n\n"))+1]), "\n\n") {
		switch {
		case strings.HasPrefix(block, "event: "+GapEvent+"\n"):
			// An id of the future, which nobody had from the hub, is one of the past when it
			// comes again.
			owed = strings.Contains(block, `"snapshot":true`) && !strings.Contains(block, `"reason":"ahead"`)
		case strings.HasPrefix(block, "id: "), strings.Contains(block, "\nid: "):
			owed = false
		}
	}
	d := event.NewDecoder(nil)
	d.Reset(bytes.NewReader(body), before)
	for {
		if _, err := d.Decode(); err != nil {
			return d.LastEventID(), owed
		}
	}
}

// join has a client come. Unless it is alone in what happens, it comes with the id
// that it has.
func (m *model) join(alone bool) {
	c := m.someClient(true)
	if c == nil {
		return
	}
	s := &modelSession{
		model: m, client: c, follow: make(map[string]uint64), got: make(map[string]uint64), id: c.seen,
		wasHead: m.head(), vague: !alone, w: modelWriter{header: make(http.Header)},
	}
	start, startName := m.someStart(alone)
	if alone {
		switch m.src.intn(10) {
		case 0, 1:
			s.id = "" // it begins anew
		case 2:
			s.id = []string{"what", "own 0", Position{m.h.epoch, s.wasHead + 1}.String(), Position{m.h.epoch + 1, 1}.String()}[m.src.intn(4)]
		}
		if m.src.intn(8) == 0 {
			c.topics = m.someTopics()
		}
	}
	if s.id != "" {
		m.totals.Resumed++
	}
	if c.stalls = m.src.intn(8) == 0; c.stalls {
		gate := make(chan struct{})
		s.gate.Store(&gate)
	}
	s.sub = Subscription{Topics: c.topics, Start: start, Slow: c.slow, Info: s}
	if filter := c.filter; filter != nil {
		s.sub.Filter = func(msg *Message) bool {
			if s.asking.Add(1) != 1 {
				m.fault("%s: Filter is called twice at a time", s)
			}
			defer s.asking.Add(-1)
			return filter(&modelEvent{topic: msg.Topic, key: msg.Event.Name})
		}
	}
	if c.byKey {
		s.sub.Key = func(msg *Message) string { return msg.Topic + "/" + msg.Event.Name }
	}
	if c.snapshot {
		back := uint64(m.src.intn(4)) * uint64(m.src.intn(4))
		s.sub.Snapshot = func(server *sse.ServerSession, at Position) (Position, error) {
			return s.takeSnapshot(server, at, back)
		}
	}
	for _, t := range c.topics {
		s.follow[t] = 0
	}
	id := s.id
	m.expect(s, start)
	s.owed = c.owed != nil && !slices.ContainsFunc(c.owed, func(t string) bool { return !slices.Contains(c.topics, t) })
	m.tracef("%s joins with id %q, start %s, stalled %t, topics %q: from %d, gap %q must %t", c.name, s.id, startName, c.stalls, c.topics, s.pos, s.gap, s.mustGap)

	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), modelKey{}, s))
	s.cancel, c.session = cancel, s
	m.sessions = append(m.sessions, s)
	m.totals.Sessions++
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", http.NoBody)
	if err != nil {
		m.t.Fatal(err)
	}
	if id != "" {
		r.Header.Set("Last-Event-ID", id)
	}
	go func() {
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				m.fault("%s: panic: %v", s, v)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ended = true
		}()
		m.router.ServeHTTP(&s.w, r)
	}()
}

func (s *modelSession) takeSnapshot(server *sse.ServerSession, at Position, back uint64) (Position, error) {
	s.mu.Lock()
	at.Offset -= min(back, at.Offset)
	s.items = append(s.items, modelItem{kind: modelIsSnapshot, pos: at})
	s.model.addTo(&s.model.totals.Snapshots)
	s.mu.Unlock()
	return at, server.Send(sse.Event{Name: "snapshot", Data: at.String()})
}

func (m *model) someStart(alone bool) (Start, string) {
	if !alone {
		return Now, "now"
	}
	switch m.src.intn(5) {
	case 0:
		return Beginning, "beginning"
	case 1:
		return Latest, "latest"
	case 2:
		p := Position{m.h.epoch, uint64(m.src.intn(int(m.head()) + 2))}
		return After(p), "after " + p.String()
	}
	return Now, "now"
}

// expect says where the session is going to begin, and whether with a gap.
func (m *model) expect(s *modelSession, start Start) {
	evicted, head := m.before.evicted, s.wasHead
	id := s.id
	if id == "" && start.kind == atPosition && s.sub.Snapshot == nil {
		id = start.after.String()
		s.id = id
	}
	if id == "" {
		s.snapshot = s.sub.Snapshot != nil
		m.begin(s, start, evicted)
		return
	}
	var offset uint64
	pos, err := ParsePosition(id)
	switch {
	case err == nil && pos.Epoch != m.h.epoch:
		s.gap = GapEpoch
	case err == nil && pos.Offset > head:
		s.gap = GapAhead
	case err == nil:
		offset = pos.Offset
	default:
		if offset = m.offsetOf(id); offset <= evicted {
			s.gap = GapMalformed
		}
	}
	if s.gap != "" {
		s.mustGap, s.snapshot = true, s.sub.Snapshot != nil
		m.begin(s, start, evicted)
		return
	}
	s.follows(offset)
	s.vague, s.gap, s.mustGap = false, GapExpired, len(s.wanted(offset, evicted)) > 0
}

// begin is for those that have no id, or one of no use.
func (m *model) begin(s *modelSession, start Start, evicted uint64) {
	head := s.wasHead
	switch {
	case s.sub.Snapshot != nil:
		s.follows(head)
	case start.kind == atBeginning:
		s.follows(evicted)
	case start.kind == atLatest:
		s.follows(head)
		for t := range s.follow {
			for offset := head; offset > evicted; offset-- {
				if m.at(offset).topic == t {
					s.follow[t] = offset - 1
					s.pos = min(s.pos, offset-1)
					break
				}
			}
		}
		s.upTo = s.pos
	case start.kind == atPosition && start.after.Offset < head:
		s.follows(start.after.Offset)
	default:
		s.follows(head)
	}
}

// follows makes all topics be followed from offset on.
func (s *modelSession) follows(offset uint64) {
	for t := range s.follow {
		s.follow[t] = offset
	}
	s.pos, s.upTo = offset, offset
	clear(s.got)
}

// wants reports whether an event is to be sent.
func (s *modelSession) wants(offset uint64) bool {
	e := s.model.at(offset)
	behind, ok := s.follow[e.topic]
	return ok && offset > behind && (s.client.filter == nil || s.client.filter(e))
}

// wanted returns the events in (from, to] that are to be sent.
func (s *modelSession) wanted(from, to uint64) (offsets []uint64) {
	for offset := from + 1; offset <= to; offset++ {
		if s.wants(offset) {
			offsets = append(offsets, offset)
		}
	}
	return offsets
}

// mayHaveMissed reports whether the log has lost an event of a topic that s follows
// or, if one was forgotten in the meantime, any.
func (s *modelSession) mayHaveMissed(from, evicted uint64, forgotten bool) bool {
	for offset := from + 1; offset <= evicted; offset++ {
		if behind, ok := s.follow[s.model.at(offset).topic]; ok && offset > behind {
			return true
		}
	}
	if !forgotten || from >= evicted {
		return false
	}
	for t := range s.follow {
		if s.model.died[t] > from {
			return true
		}
	}
	return false
}

func (m *model) leave() {
	s := m.someSession()
	if s == nil {
		return
	}
	m.tracef("%s leaves", s)
	s.mayEnd = true
	s.cancel()
}

func (m *model) stall() {
	s := m.someSession()
	if s == nil || s.client.stalls {
		return
	}
	m.tracef("%s stalls", s)
	s.client.stalls = true
	gate := make(chan struct{})
	s.gate.Store(&gate)
}

func (m *model) letThrough() {
	from := m.src.intn(len(m.clients))
	for i := range m.clients {
		if c := m.clients[(from+i)%len(m.clients)]; c.session != nil && c.stalls {
			m.tracef("%s reads on", c.name)
			c.stalls = false
			c.session.letThrough()
			return
		}
	}
}

func (m *model) resubscribe() {
	s := m.someSession()
	if s == nil || !s.isOpened() {
		return
	}
	topic, member := modelTopics[m.src.intn(len(modelTopics))], s.member.Load()
	if _, ok := s.follow[topic]; ok {
		m.tracef("%s unsubscribes %s", s, topic)
		member.Unsubscribe(topic)
		delete(s.follow, topic)
		return
	}
	m.tracef("%s subscribes %s", s, topic)
	if err := member.Subscribe(topic); err != nil {
		m.failf("%s: subscribe: %v", s, err)
	}
	s.follow[topic] = m.head()
}

// isOpened reports whether the session is beyond its opening, which a client that
// does not read can delay.
func (s *modelSession) isOpened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
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
		m.faults = append(m.faults, fmt.Sprintf("%s leaves %s, where it is not", member.Info(), topic))
	}
	delete(m.present, at)
}

func (m *model) state() modelState {
	m.settleEvents()
	st := modelState{evicted: m.evicted(), head: m.head(), follows: make(map[*modelSession][]string)}
	for _, s := range m.sessions {
		st.follows[s] = slices.Collect(maps.Keys(s.follow))
	}
	return st
}

// check compares the hub with the model.
func (m *model) check() {
	m.t.Helper()
	m.settleEvents()
	m.mu.Lock()
	faults := m.faults
	m.mu.Unlock()
	if len(faults) > 0 {
		m.failf("%s", strings.Join(faults, "; "))
	}
	if got, want := m.h.Position(), (Position{m.h.epoch, m.head()}); got != want {
		m.failf("the hub is at %v, want %v", got, want)
	}
	evicted := m.evicted()
	m.noteDeaths(evicted)
	for _, s := range slices.Clone(m.sessions) {
		s.look(evicted)
	}
	m.checkStats(evicted)
	requireSound(m)
}

// noteDeaths takes note of the topics that the hub may have forgotten since the step
// began.
func (m *model) noteDeaths(evicted uint64) {
	for _, t := range modelTopics {
		alive := false
		for offset := evicted + 1; offset <= m.before.head && !alive; offset++ {
			alive = m.at(offset).topic == t
		}
		for _, s := range m.sessions {
			_, follows := s.follow[t]
			alive = alive || follows && slices.Contains(m.before.follows[s], t) && !s.hasEnded()
		}
		if !alive {
			m.died[t] = m.head()
		}
	}
}

func (s *modelSession) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

func (s *modelSession) failf(format string, args ...any) {
	s.model.t.Helper()
	s.model.failf("%s (follows %v, sent %d, at %d, settled %d of %d, %d evicted): %s", s, s.follow, s.sent, s.pos, s.upTo, s.model.head(), s.model.h.Stats().Evicted, fmt.Sprintf(format, args...))
}

// look compares what s has been sent with what it should have been.
func (s *modelSession) look(evicted uint64) {
	s.model.t.Helper()
	s.mu.Lock()
	items, ended, opened := s.items, s.ended, s.opened
	s.items = nil
	s.mu.Unlock()
	s.model.totals.Items += len(items)
	for _, item := range items {
		s.accept(item, evicted)
	}
	switch {
	case ended:
		s.finish(evicted)
	case s.gate.Load() != nil:
	case !opened:
		s.failf("does not get through its opening")
	case s.mustGap:
		s.failf("has a gap that it is not told of")
	case s.snapshot:
		s.failf("is not sent a snapshot")
	case s.vague && !s.begun:
		s.failf("is not told where it begins")
	default:
		s.settle(s.model.head())
		if s.owed {
			s.failf("is not sent the snapshot that it was promised, before it came back")
		}
		if id, _ := s.w.lastID(s.lastEventID(), nil); id == "" {
			s.failf("has no id to come back with")
		}
		if s.model.beaten && s.sent < s.model.head() {
			s.failf("is not moved on by its heartbeat")
		}
		if st := s.member.Load().state.Load(); st != stateIdle {
			s.failf("is in state %d", st)
		}
	}
}

// accept takes the next item.
func (s *modelSession) accept(item modelItem, evicted uint64) {
	s.model.t.Helper()
	if item.kind == modelIsGap {
		s.acceptGap(item, evicted)
		s.begun = true
		return
	}
	if s.mustGap {
		s.failf("is sent %+v in place of a gap", item)
	}
	if s.snapshot != (item.kind == modelIsSnapshot) {
		s.failf("is sent %+v, snapshot due: %t", item, s.snapshot)
	}
	s.gap, s.old = "", false
	switch item.kind {
	case modelIsEvent:
		s.acceptEvent(item)
	case modelIsSnapshot:
		s.snapshot, s.vague = false, false
		s.follows(item.pos.Offset)
		s.sent, s.owed = s.pos, false
		s.old, s.gap, s.mustGap = true, GapExpired, len(s.wanted(s.pos, s.model.before.evicted)) > 0
		s.id = item.pos.String()
	default:
		p, _ := ParsePosition(item.id)
		if p.Epoch != s.model.h.epoch || p.Offset < s.sent || p.Offset > s.model.head() {
			s.failf("is told %q", item.id)
		}
		if s.vague {
			s.follows(p.Offset)
			s.vague = false
		}
		s.settle(p.Offset)
		s.sent = p.Offset
	}
	s.begun = true
}

func (s *modelSession) acceptEvent(item modelItem) {
	s.model.t.Helper()
	offset, ok := s.model.ids[item.id]
	if !ok {
		s.failf("is sent %+v, which nobody has published", item)
	}
	e := s.model.at(offset)
	switch {
	case e.key != item.key || e.data != item.data:
		s.failf("is sent %+v, want %+v", item, e)
	case offset <= s.pos:
		s.failf("is sent %d behind %d", offset, s.pos)
	case !s.wants(offset):
		s.failf("is sent %d, which is not for it: %+v", offset, e)
	}
	if s.client.slow == SlowLatest {
		s.got[s.keyOf(e)] = offset
	} else if missing := s.wanted(s.pos, offset-1); len(missing) > 0 && !s.vague {
		s.failf("is sent %d, but not %d", offset, missing)
	}
	if s.vague {
		s.upTo, s.vague = offset-1, false
	}
	s.pos, s.sent = offset, offset
}

func (s *modelSession) keyOf(e *modelEvent) string {
	if s.client.byKey {
		return e.topic + "/" + e.key
	}
	return e.topic
}

func (s *modelSession) acceptGap(item modelItem, evicted uint64) {
	s.model.t.Helper()
	m, head := s.model, s.model.head()
	var g Gap
	if err := json.Unmarshal([]byte(item.data), &g); err != nil {
		s.failf("is told of a gap %s: %v", item.data, err)
	}
	m.totals.Gaps[g.Reason]++
	to := g.Position.Offset
	if g.Position.Epoch != m.h.epoch || g.Position.String() != item.id && (item.id != "" || !g.Snapshot) || to > head {
		s.failf("is told of a gap up to %v, with id %s", g.Position, item.id)
	}
	if g.Snapshot != (s.client.snapshot && !s.old) {
		s.failf("is told of a gap %s", item.data)
	}
	if (item.id == "") != g.Snapshot {
		s.failf("is told of a gap with id %q: %s", item.id, item.data) // it must not come back behind the snapshot without it
	}
	if item.id != "" {
		defer func() { s.sent = to }()
	}
	if again := g.Reason == GapExpired && !item.late && (s.gap == "" || g.LastEventID != s.id); again || g.Reason == GapSlow {
		s.acceptSlow(g, evicted, item.late)
		return
	}
	if g.Reason == GapMalformed && s.gap == GapExpired && m.ids[s.id] > m.before.evicted && m.ids[s.id] <= evicted {
		s.gap = GapMalformed // it has left the log just before the client came
		s.follows(s.wasHead)
		s.vague = true
	}
	if g.Reason != s.gap || g.LastEventID != s.id {
		s.failf("is told of a gap %s, want reason %q, id %q", item.data, s.gap, s.id)
	}
	if !s.old && s.w.header.Get(GapHeader) != string(g.Reason) {
		s.failf("has %s: %s, want %s", GapHeader, s.w.header.Get(GapHeader), g.Reason)
	}
	switch {
	case g.Reason == GapExpired:
		if !s.mayHaveMissed(s.pos, evicted, true) {
			s.failf("is told of a gap %s, but nothing it could miss has left the log", item.data)
		}
		switch snapshot := s.client.snapshot && !s.old; {
		case snapshot && to < s.wasHead, !snapshot && (to <= s.pos || to > evicted):
			s.failf("is told of a gap %s", item.data)
		}
		s.follows(to)
	case s.vague:
		if to < s.pos {
			s.failf("is told of a gap %s", item.data)
		}
		s.follows(to)
	case to < s.pos || to > max(s.pos, evicted): // what has left the log comes on top
		s.failf("is told of a gap %s, want it up to %d", item.data, s.pos)
	case to > s.pos:
		s.follows(to)
	}
	s.snapshot = s.client.snapshot && !s.old
	s.gap, s.mustGap, s.vague, s.old = "", false, false, false
}

// acceptSlow is for a client that was too slow, but is not cut off: in its opening
// none is.
func (s *modelSession) acceptSlow(g Gap, evicted uint64, late bool) {
	s.model.t.Helper()
	to := g.Position.Offset
	switch {
	case late != (g.Reason == GapSlow), late && s.client.slow == SlowEnd, s.mustGap:
		s.failf("is told of the gap %+v", g)
	case !s.mayHaveMissed(max(s.pos, s.upTo), evicted, false):
		s.failf("is told of the gap %+v, but nothing it could miss has left the log", g)
	case (g.Snapshot || late && s.client.slow == SlowSkip) && to < s.model.before.head: // it goes on with the present
		s.failf("is told of the gap %+v, want it up to %d", g, s.model.before.head)
	case to <= s.pos, !g.Snapshot && (!late || s.client.slow == SlowLatest) && to > evicted:
		s.failf("is told of the gap %+v", g)
	}
	if p, err := ParsePosition(g.LastEventID); err != nil || p.Epoch != s.model.h.epoch || p.Offset < s.sent || p.Offset >= to {
		s.failf("is told of the gap %+v", g)
	}
	s.follows(to)
	s.snapshot, s.old = s.client.snapshot, false
	s.gap, s.mustGap, s.vague = "", false, false
}

// settle takes note that nothing more comes up to an offset.
func (s *modelSession) settle(to uint64) {
	s.model.t.Helper()
	if s.client.slow != SlowLatest {
		if missing := s.wanted(s.pos, to); len(missing) > 0 {
			s.failf("is not sent %d", missing)
		}
	} else {
		newest := make(map[string]uint64)
		for _, offset := range s.wanted(s.upTo, to) {
			newest[s.keyOf(s.model.at(offset))] = offset
		}
		for key, offset := range newest {
			if s.got[key] < offset {
				s.failf("is not sent %d, the latest of %s", offset, key)
			}
		}
	}
	s.pos, s.upTo = max(s.pos, to), max(s.upTo, to)
}

// finish is for a session that has ended.
func (s *modelSession) finish(evicted uint64) {
	s.model.t.Helper()
	m, cause := s.model, context.Cause(s.server.Context())
	if s.opened && !s.detached && s.err != cause {
		s.failf("Serve returned %v, want %v", s.err, cause)
	}
	slow, isSlow := errors.AsType[*SlowError](cause)
	switch {
	case isSlow:
		missed := uint64(0)
		behind, follows := s.follow[slow.Topic]
		for offset := max(s.pos, s.upTo, behind) + 1; offset <= evicted; offset++ {
			if m.at(offset).topic == slow.Topic {
				missed++
			}
		}
		if s.client.slow != SlowEnd || !follows || slow.Missed == 0 || slow.Missed > missed {
			s.failf("has ended with %v, want %d missed", cause, missed)
		}
		m.totals.Slow++
	case m.closed && errors.Is(cause, sse.ErrShutdown):
		if s.gate.Load() == nil {
			s.settle(m.head())
		}
	case !s.mayEnd:
		s.failf("has ended: %v, %v", cause, s.err)
	}
	cut := s.inFlight
	if len(cut) > 0 { // some of it has arrived
		cut = cut[:[]int{0, len(cut), m.src.intn(len(cut) + 1)}[m.src.intn(3)]]
		m.totals.Cut++
	}
	c := s.client
	var owed bool
	c.seen, owed = s.w.lastID(s.lastEventID(), cut)
	c.session, c.stalls, c.owed = nil, false, nil
	if owed {
		c.owed = slices.Collect(maps.Keys(s.follow))
	}
	m.tracef("%s has ended (%v) and knows of %q", s, cause, c.seen)
	m.sessions = slices.DeleteFunc(m.sessions, func(o *modelSession) bool { return o == s })
	s.cancel()
}

func (s *modelSession) lastEventID() string { return s.server.LastEventID() }

// checkStats compares what the hub says of itself, when no session is on the move.
func (m *model) checkStats(evicted uint64) {
	m.t.Helper()
	topics := make(map[string]bool)
	for offset := evicted + 1; offset <= m.head(); offset++ {
		topics[m.at(offset).topic] = true
	}
	present := make(map[string]int)
	for at := range m.present {
		present[at.topic]++
	}
	for _, s := range m.sessions {
		for t := range s.follow {
			topics[t] = true
			if at := (modelPresence{s.member.Load(), t}); !m.present[at] && s.isOpened() {
				s.failf("has not joined %s", t)
			}
		}
	}
	st := m.h.Stats()
	if st.Topics != len(topics) || st.Members != len(m.sessions) || st.LogEvents != int(m.head()-evicted) || st.Published != m.head() {
		m.failf("the hub has %+v, want %d topics, %d members, %d of %d events", st, len(topics), len(m.sessions), m.head()-evicted, m.head())
	}
	for _, r := range gapReasons {
		if got := st.Gaps[r]; got < uint64(m.totals.Gaps[r]) {
			m.failf("the hub has told of %v gaps, want %v", st.Gaps, m.totals.Gaps)
		}
	}
	for _, t := range modelTopics {
		if got := m.h.Count(t); got != present[t] {
			m.failf("Count(%s) is %d, want %d", t, got, present[t])
		}
		if got := len(slices.Collect(m.h.Members(t))); got != present[t] {
			m.failf("%d Members(%s), want %d", got, t, present[t])
		}
	}
	for _, sh := range m.h.shards {
		if sh.worker != nil || sh.queue.len() > 0 {
			m.failf("a shard is at work")
		}
	}
}

// requireSound asserts that all parts of the hub say the same of its log.
func requireSound(m *model) {
	m.t.Helper()
	h := m.h
	h.mu.Lock()
	defer h.mu.Unlock()
	var size int64
	own, inTopics := 0, 0
	for i := range h.log.entries.len() {
		e := h.log.entries.at(i)
		size += e.size()
		if e.Event.ID != "" {
			own++
		}
		if h.topics[e.Topic] != e.topic {
			m.failf("entry %v is of a topic that is forgotten", e.Position)
		}
	}
	if size != h.log.size || own != len(h.log.own) {
		m.failf("the log has a size of %d and %d ids of their own, want %d and %d", h.log.size, len(h.log.own), size, own)
	}
	if n := h.log.entries.len(); n > h.log.maxEvents || n > 1 && size > h.log.maxSize {
		m.failf("the log has %d events, %d bytes", n, size)
	}
	for _, t := range h.topics {
		t.mu.Lock()
		inTopics += t.entries.len()
		for _, p := range t.parts {
			if p.queued || p.visited != 0 {
				m.failf("topic %s has a pass under way", t.name)
			}
			for i, l := range p.links {
				if l.i != i || l.topic != t {
					m.failf("topic %s: link %d is at %d", t.name, l.i, i)
				}
			}
		}
		t.mu.Unlock()
	}
	if inTopics != h.log.entries.len() {
		m.failf("the topics have %d entries, the log %d", inTopics, h.log.entries.len())
	}
}

// shutdown ends the hub. Those who read, be it later, get all that is due.
func (m *model) shutdown() {
	m.t.Helper()
	m.before = m.state()
	stalled := 0
	for _, s := range m.sessions {
		if s.gate.Load() != nil {
			stalled++
		}
	}
	m.tracef("shutdown")
	m.closed = true
	late := make([]modelChoice, m.src.intn(4))
	for i := range late {
		late[i] = m.choice()
	}
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, c := range late {
			m.publish(c)
		}
		ended <- m.h.Shutdown(ctx)
	}()
	m.quiesce()
	m.settleEvents()
	if _, err := m.h.Publish(context.Background(), "a", sse.Event{Data: "late"}); !errors.Is(err, sse.ErrShutdown) {
		m.failf("published during the shutdown: %v", err)
	}
	for range m.src.intn(stalled + 1) {
		m.letThrough()
		stalled--
	}
	m.quiesce()
	for _, s := range slices.Clone(m.sessions) {
		if s.gate.Load() != nil {
			continue
		}
		if !s.hasEnded() {
			s.failf("survives the shutdown")
		}
		s.look(m.h.Stats().Evicted)
	}
	if err := <-ended; err != nil && stalled == 0 {
		m.failf("Shutdown with %d that do not read: %v", stalled, err)
	}
	m.quiesce()
	for _, s := range slices.Clone(m.sessions) {
		if !s.hasEnded() {
			s.failf("survives the end of the shutdown")
		}
		s.look(m.h.Stats().Evicted)
	}
	if m.join(true); len(m.sessions) > 0 { // too late
		m.quiesce()
		s := m.sessions[0]
		s.follow = nil
		if s.finish(0); !errors.Is(s.err, sse.ErrShutdown) || s.w.body.Len() > 0 && !s.hasEnded() {
			s.failf("is served after the shutdown: %v", s.err)
		}
	}
	m.checkStats(m.h.Stats().Evicted)
	requireSound(m)
	if m.h.expiry != nil {
		m.h.expiry.Stop()
	}
}
