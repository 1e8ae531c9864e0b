// Package hub broadcasts events to the sessions of package sse, by topic, and resumes
// each client where it was: without a gap, without a duplicate, or with a gap that is
// told.
//
//	h, err := hub.New(hub.Config{})
//	…
//	r.SSE("/prices/{symbol}", func(s *sse.ServerSession) error {
//		return h.Serve(s, hub.Subscription{Topics: []string{"price/" + chi.URLParam(s.Call(), "symbol")}})
//	})
//	…
//	pos, err := h.Publish(ctx, "price/ACME", sse.Event{Name: "price", Data: "42"})
//
// # How it works
//
// A hub is a log. [Hub.Publish] encodes an event once and appends it, with the next
// [Position]. A subscriber is a cursor in the log, and all that is ever done for it,
// live or after a reconnection, is to send what lies behind its cursor. So there is no
// seam between replay and live, and no queue for each subscriber. Whatever is due to
// one goes out in one write.
//
// # What is promised
//
// Events have the hub's order, over all topics, for every subscriber. A client that
// comes back with the id of the last event it had gets all that it has missed, each
// once, as long as the log has it: that is what Config.LogEvents, LogSize and LogAge
// bound. Else it is told of the gap, by an event named [GapEvent] and a response header
// named [GapHeader], before anything else.
//
// A slow client delays nobody: not the publisher, not the next subscriber. If it falls
// behind the log's end, its [Subscription].Slow says what becomes of it.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
)

// The defaults of a zero [Config].
const (
	DefaultLogEvents = 65_536
	DefaultLogSize   = 64 << 20
	DefaultLogAge    = time.Hour
)

// Config sets up a hub. Its zero value is ready to use.
type Config struct {
	// LogEvents bounds the events in the log, over all topics. It is how many events a
	// client may be behind, or away. Default: 65,536.
	LogEvents int

	// LogSize bounds about what the log takes in memory, in bytes. It is also the size
	// of the largest event that can be published. Default: 64 MiB.
	LogSize int64

	// LogAge bounds the age of events in the log. Default: an hour. Negative: none.
	LogAge time.Duration

	// Detached lets sessions over HTTP/1.x live on without their goroutines, when Serve
	// has sent what is due at first: a fourteenth of the memory, and a seventh to a quarter
	// less work for each event. [Hub.Serve] then returns nil at that time. Where a
	// connection cannot be had (HTTP/2, or a middleware's writer that hides it), Serve
	// works as without.
	Detached bool

	// OnJoin is called when a member has joined a topic: it is in Members by then, has
	// been sent what was due at its opening, and is sent nothing new before OnJoin returns.
	// Topics come in the order of the Subscription. A panic ends the session.
	//
	// OnLeave is called after it, once, when the member has left the topic: with nil
	// after Unsubscribe, else with the cause of its session's end. Both may publish.
	OnJoin  func(m *Member, topic string)
	OnLeave func(m *Member, topic string, cause error)

	// Logger gets gaps that clients were told of, at level Info, and panics of OnLeave,
	// at level Error. Default: slog.Default().
	Logger *slog.Logger
}

// Hub distributes events to subscribers. Make it with [New].
type Hub struct {
	cfg      Config
	epoch    uint64
	idPrefix string // of the ids that are positions
	shards   []*shard
	next     atomic.Uint32 // shard to take
	head     atomic.Uint64 // offset of the newest entry that may be read
	closed   atomic.Bool
	stats    counters

	mu        sync.Mutex // the order of events; see topic for the order of locks
	log       eventLog
	topics    map[string]*topic
	forgotten uint64 // the highest floor of a topic that is in no map anymore
	expiry    *time.Timer
	members   int
	gone      chan struct{} // closed when the hub is, and has no members
}

// New returns a hub with an empty log and an epoch of its own. It fails if cfg makes
// no sense.
func New(cfg Config) (*Hub, error) {
	if cfg.LogEvents < 0 || cfg.LogSize < 0 {
		return nil, errors.New("hub: Config.LogEvents and Config.LogSize cannot be negative; leave them zero for their defaults")
	}
	setDefault(&cfg.LogEvents, DefaultLogEvents)
	setDefault(&cfg.LogSize, DefaultLogSize)
	setDefault(&cfg.LogAge, DefaultLogAge)
	if cfg.LogAge < 0 {
		cfg.LogAge = 1<<63 - 1
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	epoch := newEpoch()
	h := &Hub{
		cfg:      cfg,
		epoch:    epoch,
		idPrefix: strings.TrimSuffix(Position{Epoch: epoch}.String(), "0"),
		topics:   make(map[string]*topic),
		log:      eventLog{maxEvents: cfg.LogEvents, maxSize: cfg.LogSize, maxAge: cfg.LogAge},
		gone:     make(chan struct{}),
	}
	for range runtime.GOMAXPROCS(0) {
		h.shards = append(h.shards, &shard{hub: h})
	}
	return h, nil
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Publish appends e to the log and has it sent to all who follow topic. It returns
// as soon as the event is in the log, however many they are and however slow, with its
// position.
//
// The event's id is that position, unless e has an ID of its own. Clients can resume
// from either; ids of one's own must not repeat within the log, nor be positions of the
// hub. An event that only has a Retry or a Comment is sent, and moves the
// client's id, but is shown by no client.
//
// The errors: an *event.FieldError if e cannot be encoded, or its ID is a position of
// the hub, or ResetID is set; an *event.TooLargeError if it is larger than Config.LogSize;
// that of ctx; or one that matches sse.ErrShutdown after Shutdown. The event is then
// not in the log.
func (h *Hub) Publish(ctx context.Context, topic string, e sse.Event) (Position, error) {
	if err := ctx.Err(); err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	f, err := h.encode(topic, e)
	if err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	pos, err := h.append(topic, e, f)
	if err != nil {
		return Position{}, fmt.Errorf("hub: publish: %w", err)
	}
	return pos, nil
}

// frame is an event on its way into the log: what stands before the offset of its id,
// if that is its position, and after it.
type frame struct {
	head, tail []byte
	numbered   bool
}

var errTopic = errors.New("an empty topic")

// encode does what needs no lock, and that is all but to write the offset.
func (h *Hub) encode(topic string, e sse.Event) (f frame, err error) {
	switch {
	case topic == "":
		return f, errTopic
	case e.ResetID:
		return f, &event.FieldError{Field: "ResetID", Offset: -1, Reason: "cannot be published: clients would forget where they are"}
	}
	if e.ID != "" {
		if p, err := ParsePosition(e.ID); err == nil && p.Epoch == h.epoch {
			return f, &event.FieldError{Field: "ID", Offset: -1, Reason: "is the position of an event"}
		}
	} else {
		f.numbered = true
	}
	lead, trail := e, sse.Event{Retry: e.Retry, Comment: e.Comment}
	size := len(e.Data) + len(e.Name) + len(e.Comment) + 96 // enough unless there are many lines
	f.head = make([]byte, 0, size)
	if f.numbered {
		lead.Retry, lead.Comment = 0, ""
		lead.ID = h.idPrefix
	}
	if e == (sse.Event{}) { // a message with empty data, which its id must not make silent
		f.head, err = event.AppendWith(f.head, lead, func(frame []byte) ([]byte, error) { return frame, nil })
	} else {
		f.head, err = lead.AppendText(f.head)
	}
	if err != nil || !f.numbered {
		return f, h.checkSize(f, err)
	}
	f.head = f.head[:len(f.head)-len("\n\n")]
	f.tail = lineAndBlock
	if trail != (sse.Event{}) {
		if f.tail, err = trail.AppendText([]byte("\n")); err != nil {
			return f, err
		}
	}
	return f, h.checkSize(f, nil)
}

var lineAndBlock = []byte("\n\n")

func (h *Hub) checkSize(f frame, err error) error {
	if err == nil && int64(len(f.head)+len(f.tail)) > h.cfg.LogSize {
		err = &event.TooLargeError{What: "event", Limit: int(h.cfg.LogSize)}
	}
	return err
}

// append gives the event its place.
func (h *Hub) append(name string, e sse.Event, f frame) (Position, error) {
	ent := &entry{Message: Message{Topic: name, Event: e, Time: time.Now()}}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() {
		return Position{}, sse.ErrShutdown
	}
	ent.Position = Position{h.epoch, h.head.Load() + 1}
	if f.numbered {
		f.head = strconv.AppendUint(f.head, ent.Position.Offset, 10)
		f.head = append(f.head, f.tail...)
	}
	ent.frame = f.head
	h.appendLocked(ent)
	h.evictLocked(ent.Time)
	h.stats.published.Add(1)
	return ent.Position, nil
}

// appendLocked makes e the newest entry: first where it will be read, then for whom.
func (h *Hub) appendLocked(e *entry) {
	t := h.topicLocked(e.Topic)
	e.topic = t
	h.log.append(e)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries.push(e)
	t.last.Store(e.Position.Offset)
	h.head.Store(e.Position.Offset)
	for _, p := range t.parts {
		if !p.queued && len(p.links) > 0 {
			p.queued = true
			p.shard.enqueue(p)
		}
	}
}

// evictLocked takes out of the log what is beyond its bounds.
func (h *Hub) evictLocked(now time.Time) {
	for {
		e, ok := h.log.evict(now)
		if !ok {
			break
		}
		t := e.topic
		t.mu.Lock()
		t.entries.pop() // it is the oldest there too
		t.first++
		t.floor = e.Position.Offset
		t.mu.Unlock()
		h.forgetLocked(t)
	}
	if h.log.entries.len() == 0 || h.log.maxAge == 1<<63-1 || h.closed.Load() {
		return
	}
	if h.expiry == nil {
		h.expiry = time.AfterFunc(h.log.entries.at(0).Time.Add(h.log.maxAge).Sub(now), h.expire)
	}
}

// expire is for the log of a hub that is not published to anymore.
func (h *Hub) expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expiry = nil
	h.evictLocked(time.Now())
}

// topicLocked returns the topic, which it makes if need be.
func (h *Hub) topicLocked(name string) *topic {
	t := h.topics[name]
	if t == nil {
		t = &topic{name: name, floor: h.forgotten}
		t.last.Store(h.forgotten)
		h.topics[name] = t
	}
	return t
}

// forgetLocked drops t if it has nothing, and nobody.
func (h *Hub) forgetLocked(t *topic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.users == 0 && t.entries.len() == 0 {
		h.forgotten = max(h.forgotten, t.floor)
		delete(h.topics, t.name)
	}
}

// Position returns the position of the newest event. Where state and events are
// changed under one lock of the application's, it is what a [Subscription].Snapshot
// taken under that lock stands at.
func (h *Hub) Position() Position { return Position{h.epoch, h.head.Load()} }

// Shutdown ends the hub. Nothing can be published from then on, and no session is
// served. Every member gets what is due to it; then its session ends with
// sse.ErrShutdown as the cause, so that clients are told to come back spread over
// time; see [sse.Config].ShutdownSpread.
//
// Shutdown waits until all have gone, or for ctx, whose error it then returns,
// wrapped: those that are left are cut off, and resume where they come next. Call it
// before [sse.Plugin.Shutdown], which ends sessions at once.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if !h.closed.Swap(true) {
		if h.expiry != nil {
			h.expiry.Stop()
		}
		if h.members == 0 {
			close(h.gone)
		}
	}
	h.mu.Unlock()
	for _, sh := range h.shards {
		for _, m := range sh.snapshot() {
			if m.claim() {
				go m.drain(statusDone)
			}
		}
	}
	select {
	case <-h.gone:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-h.gone:
		return nil
	default:
	}
	left := 0
	for _, sh := range h.shards {
		for _, m := range sh.snapshot() {
			left++
			m.session.End(sse.ErrShutdown)
			m.session.Interrupt()
		}
	}
	return fmt.Errorf("hub: shutdown with %d members left: %w", left, ctx.Err())
}

// Stats is what a hub has and has done.
type Stats struct {
	Topics    int // that have events in the log, or followers
	Members   int
	LogEvents int
	LogSize   int64 // about, in bytes

	Published uint64
	Delivered uint64 // events times members
	Evicted   uint64 // events that have left the log

	Gaps  map[GapReason]uint64 // that clients were told of
	Ended uint64               // members that ended for being slow
}

type counters struct {
	published atomic.Uint64
	ended     atomic.Uint64
	gaps      [len(gapReasons)]atomic.Uint64
}

// Stats returns what the hub has now, and has done so far.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	st := Stats{
		Topics:    len(h.topics),
		Members:   h.members,
		LogEvents: h.log.entries.len(),
		LogSize:   h.log.size,
		Evicted:   h.log.evicted,
	}
	h.mu.Unlock()
	st.Published = h.stats.published.Load()
	st.Ended = h.stats.ended.Load()
	st.Gaps = make(map[GapReason]uint64)
	for i, reason := range gapReasons {
		if n := h.stats.gaps[i].Load(); n > 0 {
			st.Gaps[reason] = n
		}
	}
	for _, sh := range h.shards {
		st.Delivered += sh.delivered.Load()
	}
	return st
}
