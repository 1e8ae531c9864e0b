package logtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// suite is a case that runs, and its Log.
type suite struct {
	Config
	testing.TB
	log hub.Log
}

// must fails the case if err is not nil.
func (s *suite) must(err error, doing string) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", doing, err)
	}
}

// matches fails the case if err does not match target.
func (s *suite) matches(err, target error, doing string) {
	s.Helper()
	if !errors.Is(err, target) {
		s.Fatalf("%s: the error is %v; it must match %v", doing, err, target)
	}
}

// within returns a context that ends when the case has lost its patience.
func (s *suite) within() context.Context {
	ctx, cancel := context.WithTimeout(s.Context(), s.Patience)
	s.Cleanup(cancel)
	return ctx
}

// eventually waits until f returns true.
func (s *suite) eventually(f func() bool, what string) {
	s.Helper()
	for deadline := time.Now().Add(s.Patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("after %v, this is not so: %s", s.Patience, what)
		}
	}
}

func (s *suite) bounds(log hub.Log) hub.Bounds {
	s.Helper()
	b, err := log.Bounds(s.within())
	s.must(err, "Bounds")
	if b.Epoch == 0 || b.First > b.Last+1 {
		s.Fatalf("Bounds returned %+v: Epoch must not be 0, and First must be at most Last+1", b)
	}
	return b
}

// start returns the position before all records that log has.
func (s *suite) start(log hub.Log) hub.Position {
	s.Helper()
	b := s.bounds(log)
	return hub.Position{Epoch: b.Epoch, Offset: max(b.First, 1) - 1}
}

func record(topic, data string) hub.Record {
	return hub.Record{Topic: topic, Event: sse.Event{Data: data}}
}

// append appends records, and returns them with their offsets.
func (s *suite) append(log hub.Log, records ...hub.Record) []hub.Record {
	s.Helper()
	positions, err := log.Append(s.within(), records)
	s.must(err, "Append")
	return s.placed(records, positions)
}

// placed returns records with their offsets.
func (s *suite) placed(records []hub.Record, positions []hub.Position) []hub.Record {
	s.Helper()
	if len(positions) != len(records) {
		s.Fatalf("Append returned %d positions for %d records", len(positions), len(records))
	}
	records = slices.Clone(records)
	for i := range records {
		if positions[i].Epoch != positions[0].Epoch || positions[i].Offset == 0 {
			s.Fatalf("Append returned the positions %v: they must have one epoch, and no offset may be 0", positions)
		}
		records[i].Offset = positions[i].Offset
	}
	return records
}

// appendN appends n records to the topics in turn, some of them in batches.
func (s *suite) appendN(log hub.Log, n int, topics ...string) (all []hub.Record) {
	s.Helper()
	for i := 0; i < n; {
		var some []hub.Record
		for range min(1+i%4, n-i) {
			some = append(some, record(topics[i%len(topics)], strconv.Itoa(i)))
			i++
		}
		all = append(all, s.append(log, some...)...)
	}
	for i := 1; i < len(all); i++ {
		if all[i].Offset <= all[i-1].Offset {
			s.Fatalf("Append has given the offset %d after %d: offsets must rise", all[i].Offset, all[i-1].Offset)
		}
	}
	return all
}

// difference says in what way got is not want, or "". Their times may differ: the Log sets
// that of got.
func difference(got, want hub.Record) string {
	if got.Time.IsZero() {
		return fmt.Sprintf("the record %s has no Time", short(got))
	}
	got.Time, want.Time = time.Time{}, time.Time{}
	if got != want {
		return fmt.Sprintf("the record is %s, want %s", short(got), short(want))
	}
	return ""
}

// short describes r in a line.
func short(r hub.Record) string {
	text := fmt.Sprintf("%d: kind %d, topic %q, key %q, %#v", r.Offset, r.Kind, r.Topic, r.Key, r.Event)
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}

// same fails the case if got is not want.
func (s *suite) same(got, want []hub.Record, of string) {
	s.Helper()
	for i := range min(len(got), len(want)) {
		if d := difference(got[i], want[i]); d != "" {
			s.Fatalf("%s: at index %d: %s", of, i, d)
		}
	}
	if len(got) != len(want) {
		s.Fatalf("%s: it has %d records, want %d", of, len(got), len(want))
	}
}

// checkBatch returns an error if b cannot follow a batch that was complete up to after.
func checkBatch(b hub.Batch, after uint64) error {
	for i, r := range b.Records {
		switch {
		case r.Offset <= after:
			return fmt.Errorf("the record %s is at or before %d, up to where the Log had said that everything was there", short(r), after)
		case r.Offset > b.UpTo:
			return fmt.Errorf("the record %s is after the Batch's UpTo %d", short(r), b.UpTo)
		case i > 0 && r.Offset <= b.Records[i-1].Offset:
			return fmt.Errorf("the record %s comes after offset %d: offsets must rise", short(r), b.Records[i-1].Offset)
		}
	}
	if b.UpTo < after {
		return fmt.Errorf("the Batch's UpTo is %d; it was %d before", b.UpTo, after)
	}
	return nil
}

// follower follows a Log in a goroutine, and checks each Batch.
type follower struct {
	s     *suite
	stop  context.CancelFunc
	done  chan struct{}
	err   error                 // of Follow; valid once done is closed
	apply func(hub.Batch) error // is called after each Batch was noted

	mu    sync.Mutex
	got   []hub.Record // without those that came again
	upTo  uint64
	holes int
	idle  int // how many empty batches there were since the last record
	fault error
}

// follow starts to follow log after the position. The goroutine ends with the case at the
// latest. apply may be nil.
func (s *suite) follow(log hub.Log, after hub.Position, apply func(hub.Batch) error) *follower {
	ctx, stop := context.WithCancel(s.Context())
	f := &follower{s: s, stop: stop, done: make(chan struct{}), upTo: after.Offset, apply: apply}
	s.Cleanup(func() {
		stop()
		select {
		case <-f.done:
		case <-time.After(s.Patience):
			s.Errorf("Follow has not returned although its context ended %v ago", s.Patience)
		}
	})
	go func() {
		defer close(f.done)
		f.err = log.Follow(ctx, after, f.note)
	}()
	return f
}

// note notes a Batch. Records that came before may come again.
func (f *follower) note(b hub.Batch) error {
	f.mu.Lock()
	var fresh []hub.Record
	for _, r := range b.Records {
		i, again := slices.BinarySearchFunc(f.got, r.Offset, func(r hub.Record, offset uint64) int { return int(int64(r.Offset) - int64(offset)) })
		if !again {
			fresh = append(fresh, r)
		} else if d := difference(r, f.got[i]); d != "" && f.fault == nil {
			f.fault = fmt.Errorf("Follow applied an offset twice: %s", d)
		}
	}
	upTo := max(f.upTo, b.UpTo)
	if err := checkBatch(hub.Batch{Records: fresh, UpTo: upTo}, f.upTo); err != nil && f.fault == nil {
		f.fault = fmt.Errorf("Follow: %w", err)
	}
	f.got = append(f.got, fresh...)
	f.upTo = upTo
	if b.Hole {
		f.holes++
	}
	f.idle++
	if len(b.Records) > 0 {
		f.idle = 0
	}
	err := f.fault
	f.mu.Unlock()
	if err == nil && f.apply != nil {
		err = f.apply(b)
	}
	return err
}

// await waits until f has n records, and returns all that it has.
func (f *follower) await(n int) []hub.Record {
	f.s.Helper()
	f.s.eventually(func() bool { return f.len() >= n || f.hasEnded() }, fmt.Sprintf("Follow has applied %d records", n))
	return f.records()
}

// records returns the records so far.
func (f *follower) records() []hub.Record {
	f.s.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault != nil {
		f.s.Fatal(f.fault)
	}
	return slices.Clone(f.got)
}

func (f *follower) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.got)
}

func (f *follower) hasEnded() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// end waits until Follow has returned, and returns its error.
func (f *follower) end() error {
	f.s.Helper()
	select {
	case <-f.done:
	case <-time.After(f.s.Patience):
		f.s.Fatalf("Follow has not returned within %v", f.s.Patience)
	}
	f.records()
	if f.err == nil {
		f.s.Fatal("Follow returned nil; it must return an error")
	}
	return f.err
}

// readAll returns what Read returns from after up to and including upTo, in pages of max.
func (s *suite) readAll(log hub.Log, topics []string, after hub.Position, upTo uint64, most int) []hub.Record {
	s.Helper()
	records, err := s.tryReadAll(log, topics, after, upTo, most)
	s.must(err, "Read")
	return records
}

// tryReadAll is readAll with the error of Read.
func (s *suite) tryReadAll(log hub.Log, topics []string, after hub.Position, upTo uint64, most int) (all []hub.Record, err error) {
	s.Helper()
	for after.Offset < upTo {
		b, err := log.Read(s.within(), topics, after, hub.Position{Epoch: after.Epoch, Offset: upTo}, most)
		if err != nil {
			return all, err
		}
		if err := checkBatch(b, after.Offset); err != nil {
			s.Fatalf("Read after %d: %v", after.Offset, err)
		}
		switch {
		case b.UpTo > upTo:
			s.Fatalf("Read up to %d returned a Batch up to %d", upTo, b.UpTo)
		case b.UpTo == after.Offset:
			s.Fatalf("Read after %d up to %d returned a Batch that does not go on: UpTo must rise", after.Offset, upTo)
		case len(b.Records) > 2*most+64:
			s.Fatalf("Read returned %d records, although max is %d", len(b.Records), most)
		}
		all = append(all, b.Records...)
		after.Offset = b.UpTo
	}
	return all, nil
}

// ofTopics returns those of records whose topic is one of topics.
func ofTopics(records []hub.Record, topics ...string) (some []hub.Record) {
	for _, r := range records {
		if slices.Contains(topics, r.Topic) {
			some = append(some, r)
		}
	}
	return some
}
