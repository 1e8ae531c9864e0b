package natslog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chi-sse/sse/hub"
)

// A hub that catches up a client reads page after page of the same topics. A single page is a
// direct get, which any server of the stream answers at once. When a second page is asked for
// that goes on where the first has ended, a consumer is made, which sends the next page while this
// one is used: to the server, a message of a consumer costs a fraction of one that is got. What
// the consumer needs is a run. It is kept for a moment after each page, and if nobody asks for the
// next one, its consumer is deleted.

const (
	maxRuns      = 8                // how many runs are kept; as many more can be in use
	maxEnds      = 64               // of how many pages the end is remembered
	runIdle      = 3 * time.Second  // how long a run is kept, and the end of a page is remembered
	runThreshold = 20 * time.Second // the server deletes a run's consumer that is not used for so long
	runSize      = 2 << 20          // about how many bytes a run may be sent ahead
	statuses     = 8                // how much room a run has for what is not a message of the stream
)

// place is where a page ends that was read, or where a run goes on.
type place struct {
	topics string // the topics, joined
	epoch  uint64
	after  uint64
}

// runs are the runs that are not in use, and where pages have ended that were got without one.
type runs struct {
	idle time.Duration // runIdle, but tests may change it

	mu   sync.Mutex
	kept []*run  // the oldest first
	ends []ended // the oldest first
}

// ended is a page that was read without a run, and was full.
type ended struct {
	at   place
	when time.Time
}

// take returns the run that goes on at a place, or nil. begin means that there is none, but that a
// page has ended there.
func (r *runs) take(at place) (found *run, begin bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, one := range r.kept {
		if one.at == at && one.timer.Stop() {
			r.kept = slices.Delete(r.kept, i, i+1)
			return one, false
		}
	}
	for i, end := range r.ends {
		if end.at == at {
			r.ends = slices.Delete(r.ends, i, i+1)
			return nil, time.Since(end.when) < r.idle
		}
	}
	return nil, false
}

// put keeps a run for a moment.
func (r *runs) put(one *run) {
	r.mu.Lock()
	var oldest *run
	if len(r.kept) == maxRuns && r.kept[0].timer.Stop() {
		oldest = r.kept[0]
		r.kept = slices.Delete(r.kept, 0, 1)
	}
	r.kept = append(r.kept, one)
	one.timer = time.AfterFunc(r.idle, func() {
		r.mu.Lock()
		r.kept = slices.DeleteFunc(r.kept, func(other *run) bool { return other == one })
		r.mu.Unlock()
		one.close()
	})
	r.mu.Unlock()
	if oldest != nil {
		oldest.close()
	}
}

// note remembers where a page has ended.
func (r *runs) note(at place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ends) == maxEnds {
		r.ends = slices.Delete(r.ends, 0, 1)
	}
	r.ends = append(r.ends, ended{at, time.Now()})
}

// run is a consumer from which pages are read one after the other. One goroutine uses it at a time.
type run struct {
	l          *Log
	at         place
	name       string // of the consumer
	reply      string // where the messages are sent to
	sub        *nats.Subscription
	in         chan *nats.Msg
	reconnects uint64 // of the connection when the run began

	next  uint64  // the number of the consumer's next message
	left  uint64  // how many messages the consumer has that were not received
	due   int     // how many of them are asked for
	peek  message // a message that was received and not used, if there is one
	ended bool    // the consumer sends no more
	timer *time.Timer
}

// beginRun begins a run of the subjects at a place.
func (l *Log) beginRun(ctx context.Context, at place, subjects []string, scan int) (*run, error) {
	making, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cfg := jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: at.after + 1, AckPolicy: jetstream.AckNonePolicy,
		InactiveThreshold: runThreshold, MemoryStorage: true, Replicas: 1,
	}
	if subjects[0] != everything {
		cfg.FilterSubjects = subjects
	}
	r := &run{l: l, at: at, reply: l.nc.NewInbox(), in: make(chan *nats.Msg, 2*scan+statuses), reconnects: l.nc.Stats().Reconnects, next: 1}
	made, err := l.js.CreateConsumer(making, l.cfg.Stream, cfg)
	if err != nil {
		return nil, err
	}
	r.name, r.left = made.CachedInfo().Name, made.CachedInfo().NumPending
	if r.sub, err = l.nc.ChanSubscribe(r.reply, r.in); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// close ends the run. If there is no connection, the server deletes the consumer later.
func (r *run) close() {
	if r.sub != nil {
		_ = r.sub.Unsubscribe()
	}
	r.l.deleteConsumer(r.name)
}

// usable reports whether the run is worth to be kept.
func (r *run) usable() bool {
	return !r.ended && r.l.nc.IsConnected() && r.l.nc.Stats().Reconnects == r.reconnects
}

// page returns the next records up to and including an offset: no more than most, and of no more
// than scan messages. With wanted, it leaves out those of other topics.
func (r *run) page(ctx context.Context, upTo uint64, most, scan int, wanted func(*hub.Record) bool) (stretch, error) {
	s := stretch{upTo: r.at.after, records: make([]hub.Record, 0, most)}
	timeout := time.NewTimer(requestTimeout)
	defer timeout.Stop()
	for n := 0; n < scan && len(s.records) < most; n++ {
		if n == 0 || r.due == 0 { // the consumer sends less than was asked for if it is large
			if err := r.ask(2*scan - n); err != nil {
				return s, err
			}
		}
		m, ok, err := r.receive(ctx, timeout)
		switch {
		case err != nil:
			return s, err
		case !ok:
			r.ended = true
			return s, nil
		case m.record.Offset > upTo:
			r.peek, s.upTo = m, upTo
			return s, nil
		}
		if s.upTo = m.record.Offset; !m.foreign && wanted(&m.record) {
			s.records = append(s.records, m.record)
		}
	}
	s.full = true
	return s, nil
}

// ask asks for so many messages that this many are about to come, if there are as many. It does
// nothing while half of them are, because the consumer answers each request with a status.
func (r *run) ask(many int) error {
	many = min(many, cap(r.in)-statuses)
	if r.due > many/2 {
		return nil
	}
	many = int(min(uint64(many), r.left)) - r.due
	if many <= 0 {
		return nil
	}
	body, err := json.Marshal(struct {
		Batch    int  `json:"batch"`
		MaxBytes int  `json:"max_bytes"`
		NoWait   bool `json:"no_wait"`
	}{many, max(runSize, int(r.l.nc.MaxPayload())+2*maxSubject), true})
	if err != nil {
		return err
	}
	r.due += many
	return r.l.nc.PublishRequest(r.l.api+"CONSUMER.MSG.NEXT."+r.l.cfg.Stream+"."+r.name, r.reply, body)
}

// receive returns the next message, or false if the consumer has no more.
func (r *run) receive(ctx context.Context, timeout *time.Timer) (message, bool, error) {
	if m := r.peek; m.record.Offset > 0 {
		r.peek = message{}
		return m, true, nil
	}
	for {
		if r.due == 0 {
			return message{}, false, nil
		}
		m, err := r.wait(ctx, timeout)
		if err != nil {
			return message{}, false, err
		}
		if m.Subject == r.reply { // a status: the consumer has sent what was asked for, or sends no more
			unsent, noNumber := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
			if noNumber != nil {
				return message{}, false, nil //nolint:nilerr // a status without a number: the consumer sends no more
			}
			r.due -= min(unsent, r.due)
			continue
		}
		meta, err := m.Metadata()
		if err == nil && meta.Sequence.Consumer != r.next {
			err = errors.New("a message of a consumer was lost")
		}
		if err != nil {
			return message{}, false, err
		}
		r.next++
		r.due--
		r.left = meta.NumPending
		return r.l.decode(m.Subject, m.Data, meta.Sequence.Stream, meta.Timestamp), true, nil
	}
}

// wait waits for what the consumer sends.
func (r *run) wait(ctx context.Context, timeout *time.Timer) (*nats.Msg, error) {
	select {
	case m := <-r.in:
		return m, nil
	default:
	}
	timeout.Reset(requestTimeout)
	select {
	case m := <-r.in:
		return m, nil
	case <-timeout.C:
		return nil, fmt.Errorf("a consumer has sent nothing: %w", nats.ErrTimeout)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
