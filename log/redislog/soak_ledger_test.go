package redislog

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/hub"
)

// soakLedger is what has been published.
type soakLedger struct {
	mu     sync.Mutex
	byKey  map[string]*soakEvent
	places map[hub.Position]string // the keys that are known to be somewhere
	losses []soakLoss
	lost   int // how many acknowledged events are no longer there
}

// soakEvent is an event that a publisher has tried to publish.
type soakEvent struct {
	topic string
	acked time.Time // when the call began that has published it
}

// soakLoss is a time; the servers may have lost what was acknowledged in it.
type soakLoss struct{ from, to time.Time }

func newSoakLedger() *soakLedger {
	return &soakLedger{byKey: make(map[string]*soakEvent), places: make(map[hub.Position]string)}
}

// add notes events before anybody tries to publish them.
func (l *soakLedger) add(ps []hub.Publication) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range ps {
		l.byKey[p.Key] = &soakEvent{topic: p.Topic}
	}
}

// ack notes that events were acknowledged at positions.
func (l *soakLedger) ack(s *soak, ps []hub.Publication, at []hub.Position, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, p := range ps {
		l.byKey[p.Key].acked = began
		l.placeLocked(s, p.Key, at[i])
	}
}

// deliver notes that an event has arrived. It returns its topic.
func (l *soakLedger) deliver(s *soak, key string, at hub.Position) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byKey[key]
	if e == nil {
		s.t.Errorf("%v is %q, which nobody has published", at, key)
		return ""
	}
	l.placeLocked(s, key, at)
	return e.topic
}

func (l *soakLedger) placeLocked(s *soak, key string, at hub.Position) {
	if other := l.places[at]; other != "" && other != key {
		s.t.Errorf("%s and %s are at %v", key, other, at)
	}
	l.places[at] = key
}

// mayLose calls f, which may lose what was acknowledged since a time.
func (l *soakLedger) mayLose(since time.Time, f func()) {
	f()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.losses = append(l.losses, soakLoss{since, time.Now()})
}

// check compares what the readers have got, and what the log has at the end, with the ledger.
func (l *soakLedger) check(s *soak) {
	l.mu.Lock()
	defer l.mu.Unlock()
	byEpoch := make(map[uint64][]uint64)
	for at := range l.places {
		byEpoch[at.Epoch] = append(byEpoch[at.Epoch], at.Offset)
	}
	for epoch := range byEpoch {
		slices.Sort(byEpoch[epoch])
	}
	for _, r := range s.readers {
		for _, seg := range r.segments {
			offsets := byEpoch[seg.epoch]
			from, _ := slices.BinarySearch(offsets, seg.after+1)
			to, _ := slices.BinarySearch(offsets, seg.upTo+1)
			var want []uint64
			for _, offset := range offsets[from:max(from, to)] {
				key := l.places[hub.Position{Epoch: seg.epoch, Offset: offset}]
				if slices.Contains(r.topics, l.byKey[key].topic) {
					want = append(want, offset)
				}
			}
			if !slices.Equal(seg.got, want) {
				s.t.Errorf("%s has got %d of %d events after %d up to %d of epoch %v, before a gap %q: %v", r.name, len(seg.got), len(want), seg.after, seg.upTo, seg.epoch, seg.gap, difference(want, seg.got))
			}
		}
	}
	l.checkLog(s)
}

// difference returns what want has and got has not, and the other way round.
func difference(want, got []uint64) string {
	without := func(a, b []uint64) []uint64 {
		return slices.DeleteFunc(slices.Clone(a), func(n uint64) bool { _, ok := slices.BinarySearch(b, n); return ok })
	}
	return fmt.Sprint("missing ", without(want, got), ", unexpected ", without(got, want))
}

// checkLog checks that the log has each event that was acknowledged, once, unless the servers may
// have lost it.
func (l *soakLedger) checkLog(s *soak) {
	log := s.nodes[0].log
	b := bounds(s.t, log)
	there := make(map[string]bool)
	for at := b.First - 1; at < b.Last; {
		batch, err := log.Read(s.t.Context(), nil, hub.Position{Epoch: b.Epoch, Offset: at}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 1000)
		if err != nil {
			s.t.Errorf("Read: %v", err)
			return
		}
		for _, r := range batch.Records {
			if there[r.Event.Data] {
				s.t.Errorf("the log has %s twice", r.Event.Data)
			}
			there[r.Event.Data] = true
		}
		at = batch.UpTo
	}
	for key, e := range l.byKey {
		if e.acked.IsZero() || there[key] {
			continue
		}
		l.lost++
		if !slices.ContainsFunc(l.losses, func(loss soakLoss) bool {
			return e.acked.Add(3*time.Second).After(loss.from) && e.acked.Before(loss.to) // the call may have taken a while
		}) {
			s.t.Errorf("the log has lost %s, whose publication began after %v", key, e.acked.Sub(s.began))
		}
	}
}

func (l *soakLedger) report() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	epochs := make(map[uint64]bool)
	for at := range l.places {
		epochs[at.Epoch] = true
	}
	return fmt.Sprintf("%d events were published in %d epochs, of which the servers have lost %d", len(l.byKey), len(epochs), l.lost)
}

// soakReader is a client, which reads from all nodes in turn and resumes where it was.
type soakReader struct {
	s      *soak
	name   string
	rng    *rand.Rand
	topics []string
	id     string // its last event id

	mu       sync.Mutex
	segments []*soakSegment // the last one goes on
}

// soakSegment is what a reader has got between two gaps.
type soakSegment struct {
	epoch, after, upTo uint64
	got                []uint64 // the offsets of events
	gap                hub.GapReason
}

// run reads until ctx ends.
func (r *soakReader) run(ctx context.Context) {
	transport := &http.Transport{DisableKeepAlives: true}
	c := client.Install(&http.Client{Transport: transport}, client.Config{
		MaxReconnectionAttempts: client.Unlimited,
		OnFailure: func(client.Failure) client.Decision {
			return client.RetryIn(time.Duration(10+rand.IntN(100)) * time.Millisecond)
		},
		OnRequest: func(req *http.Request) error {
			n := r.s.nodes[rand.IntN(soakNodes)]
			req.URL = &url.URL{Scheme: "http", Host: n.addr, Path: "/events", RawQuery: url.Values{"topics": {strings.Join(r.topics, ",")}}.Encode()}
			req.Host = ""
			return nil
		},
		OpenTimeout: 10 * time.Second,
		IdleTimeout: 5 * time.Second,
		Logger:      slog.New(slog.DiscardHandler),
	})
	for ctx.Err() == nil && !r.s.t.Failed() {
		var options []client.Option
		if r.id != "" {
			options = append(options, client.WithLastEventID(r.id))
		}
		stay := 50 + r.rng.IntN(500)
		err := c.SSE(ctx, "http://chosen.invalid/", func(s *client.Session) error {
			defer func() { r.id = s.LastEventID() }()
			for ev, err := range s.Incoming() {
				if err != nil {
					return err
				}
				if !r.take(ev.ID, ev.Name, ev.Data) {
					return nil
				}
				if stay--; stay == 0 {
					return nil
				}
			}
			return nil
		}, options...)
		if err != nil && ctx.Err() == nil {
			r.s.t.Errorf("%s: %v", r.name, err)
		}
		time.Sleep(time.Duration(r.rng.IntN(50)) * time.Millisecond)
	}
}

// take checks and notes an event. It returns false if that shows a fault.
func (r *soakReader) take(id, name, data string) bool {
	at, err := hub.ParsePosition(id)
	if err != nil {
		r.s.t.Errorf("%s: the event %s with %.100q: %v", r.name, name, data, err)
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if name == hub.GapEvent {
		return r.takeGapLocked(at, data)
	}
	topic := r.s.ledger.deliver(r.s, data, at)
	if len(r.segments) == 0 {
		r.segments = append(r.segments, &soakSegment{epoch: at.Epoch})
	}
	last := r.segments[len(r.segments)-1]
	if !slices.Contains(r.topics, topic) || at.Epoch != last.epoch || at.Offset <= last.upTo {
		r.s.t.Errorf("%s: %v with %s of %q came without a gap after %d of epoch %d", r.name, at, data, topic, last.upTo, last.epoch)
		return false
	}
	last.got, last.upTo = append(last.got, at.Offset), at.Offset
	return true
}

func (r *soakReader) takeGapLocked(at hub.Position, data string) bool {
	var gap hub.Gap
	err := json.Unmarshal([]byte(data), &gap)
	from, err2 := hub.ParsePosition(gap.LastEventID)
	if err != nil || gap.LastEventID != "" && err2 != nil {
		r.s.t.Errorf("%s: a gap with %.100q: %v %v", r.name, data, err, err2)
		return false
	}
	if len(r.segments) > 0 {
		last := r.segments[len(r.segments)-1]
		last.gap = gap.Reason
		if from.Epoch == last.epoch {
			last.upTo = max(last.upTo, from.Offset)
		}
	}
	r.segments = append(r.segments, &soakSegment{epoch: at.Epoch, after: at.Offset, upTo: at.Offset})
	return true
}

// has reports whether the reader has one of the positions, or what comes after it.
func (r *soakReader) has(last []hub.Position) bool {
	at := r.position()
	for i, pos := range last {
		if slices.Contains(r.topics, fmt.Sprint("t", i)) && (at.Epoch != pos.Epoch || at.Offset < pos.Offset) {
			return false
		}
	}
	return true
}

func (r *soakReader) position() hub.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.segments) == 0 {
		return hub.Position{}
	}
	last := r.segments[len(r.segments)-1]
	return hub.Position{Epoch: last.epoch, Offset: last.upTo}
}
