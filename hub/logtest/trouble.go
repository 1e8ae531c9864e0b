package logtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// These cases check what a Log does when calls are canceled, and when it loses records.

// soon is how long a method may take to return when its context has ended.
const soon = 5 * time.Second

func cancellation(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 10, "a")
	last := hub.Position{Epoch: start.Epoch, Offset: want[9].Offset}
	canceled, cancel := context.WithCancel(s.Context())
	cancel()
	expired, cancel := context.WithDeadline(s.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, ctx := range []context.Context{canceled, expired} {
		for method, call := range map[string]func() error{
			"Bounds": func() error { _, err := s.log.Bounds(ctx); return err },
			"Append": func() error {
				_, err := s.log.Append(ctx, []hub.Record{record("a", "not to be appended")})
				if errors.Is(err, hub.ErrUnknown) {
					s.Fatal("Append with a context that had ended before returned ErrUnknown")
				}
				return err
			},
			"Follow": func() error { return s.log.Follow(ctx, start, func(hub.Batch) error { return nil }) },
			"Read":   func() error { _, err := s.log.Read(ctx, []string{"a"}, start, last, 10); return err },
		} {
			s.matches(s.soon(method, call), ctx.Err(), method+" with a context that had ended")
		}
	}
	s.same(s.follow(s.log, start, nil).await(10), want, "Follow after a canceled Append")

	// Follow waits for records, and in apply.
	ctx, cancel := context.WithCancel(s.Context())
	waits := make(chan struct{}, 1)
	time.AfterFunc(20*time.Millisecond, cancel)
	s.matches(s.soon("Follow", func() error { return s.log.Follow(ctx, last, func(hub.Batch) error { return nil }) }), context.Canceled, "Follow that waits for records")
	ctx, cancel = context.WithTimeout(s.Context(), 20*time.Millisecond)
	defer cancel()
	s.matches(s.soon("Follow", func() error { return s.log.Follow(ctx, last, func(hub.Batch) error { return nil }) }), context.DeadlineExceeded, "Follow that waits for records")
	ctx, cancel = context.WithCancel(s.Context())
	s.matches(s.soon("Follow", func() error {
		return s.log.Follow(ctx, start, func(hub.Batch) error {
			select {
			case waits <- struct{}{}:
				cancel()
			default:
			}
			return ctx.Err()
		})
	}), context.Canceled, "Follow whose apply cancels the context")
	if got := s.append(s.log, record("a", "works")); got[0].Offset <= last.Offset {
		s.Fatalf("after cancellations, Append has given the offset %d; the last one was %d", got[0].Offset, last.Offset)
	}
}

// soon calls a method and fails the case if it does not return soon.
func (s *suite) soon(method string, call func() error) error {
	s.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(min(soon, s.Patience)):
		s.Fatalf("%s has not returned although its context has ended", method)
		return nil
	}
}

// Batches whose contexts end at random are there as a whole or not at all, and not if the
// error says so.
func cancelledBatches(s *suite) {
	start := s.start(s.log)
	const size = 5
	var done sync.WaitGroup
	var mu sync.Mutex
	errs := make(map[string]error)
	for w := range 8 {
		done.Go(func() {
			for i := range 30 {
				name := fmt.Sprintf("%d/%d", w, i)
				var batch []hub.Record
				for range size {
					batch = append(batch, record("a", name))
				}
				ctx, cancel := context.WithTimeout(s.Context(), rand.N(2*time.Millisecond))
				_, err := s.log.Append(ctx, batch)
				if err != nil && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) { // the Log may have seen the end of the context first
					s.Errorf("Append: %v", err)
				}
				cancel()
				mu.Lock()
				errs[name] = err
				mu.Unlock()
			}
		})
	}
	done.Wait()
	end := s.append(s.log, record("a", "end"))[0] // an outcome that was unknown is decided before it
	got := s.readAll(s.log, nil, start, end.Offset, 100)
	got = got[:len(got)-1]
	count := make(map[string]int)
	for i, r := range got {
		count[r.Event.Data]++
		if i%size > 0 && r.Event.Data != got[i-1].Event.Data {
			s.Fatalf("the batches %s and %s are mixed, or not whole", got[i-1].Event.Data, r.Event.Data)
		}
	}
	for name, err := range errs {
		switch n := count[name]; {
		case n != 0 && n != size:
			s.Fatalf("a batch of %d was appended with %d records; Append returned %v", size, n, err)
		case err == nil && n == 0:
			s.Fatal("a batch was not appended although Append returned no error")
		case err != nil && n > 0 && !errors.Is(err, hub.ErrUnknown):
			s.Fatalf("a batch was appended, but Append returned %v, which does not match ErrUnknown", err)
		}
	}
}

func goroutines(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 100, "a")
	round := func() {
		for range 20 {
			ctx, cancel := context.WithCancel(s.Context())
			f := s.follow(s.log, start, nil)
			f.await(100)
			f.stop()
			_ = f.end()
			_, _ = s.log.Read(ctx, nil, start, hub.Position{Epoch: start.Epoch, Offset: want[99].Offset}, 10)
			cancel()
			_, _ = s.log.Append(ctx, []hub.Record{record("a", "canceled")})
			_, _ = s.log.Bounds(ctx)
		}
	}
	round() // what a Log starts once is no leak
	before := runtime.NumGoroutine()
	round()
	s.eventually(func() bool { return runtime.NumGoroutine() < before+15 }, "no goroutine is left of 20 calls of Follow that have returned")
}

func reopening(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 50, "a", "b")
	log := s.log
	for i := range 3 {
		log = s.Reopen(s, log)
		if b := s.bounds(log); b.Epoch != start.Epoch || b.First != want[0].Offset || b.Last != want[len(want)-1].Offset {
			s.Fatalf("after reopening, Bounds returned %+v; the records are from %d to %d of epoch %d", b, want[0].Offset, want[len(want)-1].Offset, start.Epoch)
		}
		s.same(s.follow(log, start, nil).await(len(want)), want, "Follow after reopening")
		s.same(s.readAll(log, []string{"b"}, start, want[len(want)-1].Offset, 7), ofTopics(want, "b"), "Read after reopening")
		next := s.append(log, record("a", "after reopening "+strconv.Itoa(i)))
		if last := want[len(want)-1].Offset; next[0].Offset <= last {
			s.Fatalf("after reopening, Append has given the offset %d; the last one was %d", next[0].Offset, last)
		}
		want = append(want, next...)
	}
}

func otherEpoch(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 10, "a")
	last := hub.Position{Epoch: start.Epoch, Offset: want[9].Offset}
	other := hub.Position{Epoch: start.Epoch + 1, Offset: start.Offset}
	s.requireOtherEpoch(s.log, other, last)
	_, err := s.log.Read(s.within(), nil, start, hub.Position{Epoch: start.Epoch + 1, Offset: last.Offset}, 10)
	s.matches(err, hub.ErrEpoch, "Read up to a position of another epoch")
}

// requireOtherEpoch checks that positions of the epoch of other are refused.
func (s *suite) requireOtherEpoch(log hub.Log, other, last hub.Position) {
	s.Helper()
	upTo := hub.Position{Epoch: other.Epoch, Offset: last.Offset}
	for _, topics := range [][]string{nil, {"a"}} {
		_, err := log.Read(s.within(), topics, other, upTo, 10)
		s.matches(err, hub.ErrEpoch, "Read after a position of another epoch")
	}
	err := log.Follow(s.within(), other, func(b hub.Batch) error {
		s.Errorf("Follow after a position of another epoch has applied %+v", b)
		return errApply
	})
	s.matches(err, hub.ErrEpoch, "Follow after a position of another epoch")
}

func epochChange(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 30, "a")
	last := hub.Position{Epoch: start.Epoch, Offset: want[29].Offset}
	waiting := s.follow(s.log, start, nil)
	waiting.await(30)
	blocked := make(chan struct{})
	busy := s.follow(s.log, start, func(hub.Batch) error { <-blocked; return nil })
	s.eventually(func() bool { return busy.len() > 0 || busy.hasEnded() }, "Follow has applied a Batch")
	s.Renew(s, s.log)
	now := s.start(s.log)
	if now.Epoch == start.Epoch {
		s.Fatalf("the epoch is still %d after Renew", now.Epoch)
	}
	next := s.append(s.log, record("a", "new"))
	close(blocked)
	s.matches(waiting.end(), hub.ErrEpoch, "Follow that waited for records while the epoch changed")
	s.matches(busy.end(), hub.ErrEpoch, "Follow that was in apply while the epoch changed")
	if n := busy.len(); n > 30 {
		s.Fatal("Follow has applied a record of the next epoch")
	}
	s.requireOtherEpoch(s.log, start, last)
	s.requireOtherEpoch(s.log, last, last)
	s.same(s.follow(s.log, now, nil).await(1), next, "Follow in the new epoch")
	s.same(s.readAll(s.log, nil, now, next[0].Offset, 10), next, "Read in the new epoch")
	if !s.NoKeys {
		r := hub.Record{Topic: "a", Key: "k", Event: sse.Event{Data: "1"}}
		before := s.append(s.log, r)[0]
		s.Renew(s, s.log)
		start := s.start(s.log)
		after := s.append(s.log, r)[0]
		s.same(s.follow(s.log, start, nil).await(1), []hub.Record{after}, fmt.Sprintf("Follow of a record whose key was used at %d of the epoch before", before.Offset))
	}
}

// truncated checks that err is a *hub.TruncatedError, and that the log goes on where it says.
// want are the records that there were.
func (s *suite) truncated(log hub.Log, epoch uint64, err error, want []hub.Record, doing string) {
	s.Helper()
	e, ok := errors.AsType[*hub.TruncatedError](err)
	if !ok {
		s.Fatalf("%s returned %v; it must be a *hub.TruncatedError", doing, err)
	}
	last := want[len(want)-1].Offset
	if e.First == 0 || e.First > last+1 {
		s.Fatalf("%s: TruncatedError.First is %d; the last record has the offset %d", doing, e.First, last)
	}
	after := hub.Position{Epoch: epoch, Offset: e.First - 1}
	var left []hub.Record
	for _, r := range want {
		if r.Offset >= e.First {
			left = append(left, r)
		}
	}
	if len(left) > 0 && left[0].Offset != e.First {
		s.Fatalf("%s: TruncatedError.First is %d, which is no record's offset", doing, e.First)
	}
	f := s.follow(log, after, nil)
	defer f.stop()
	s.same(f.await(len(left)), left, doing+", and then from TruncatedError.First on")
}

// requireFirstOf checks that a *hub.TruncatedError has the First of Bounds.
func (s *suite) requireFirstOf(err error) {
	s.Helper()
	b := s.bounds(s.log)
	if e, ok := errors.AsType[*hub.TruncatedError](err); ok && e.First != b.First {
		s.Fatalf("TruncatedError.First is %d, but Bounds returned %+v", e.First, b)
	}
}

func truncation(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 100, "a", "b")
	last := hub.Position{Epoch: start.Epoch, Offset: want[99].Offset}
	for _, first := range []uint64{want[40].Offset, want[70].Offset - 1, want[70].Offset + 1} { // two may be in holes
		s.Truncate(s, s.log, first)
		b := s.bounds(s.log)
		if b.First < first || b.Last != last.Offset {
			s.Fatalf("after Truncate(%d), Bounds returned %+v; Last was %d", first, b, last.Offset)
		}
		for _, after := range []hub.Position{start, {Epoch: start.Epoch, Offset: want[10].Offset}} {
			s.truncated(s.log, start.Epoch, s.log.Follow(s.within(), after, func(b hub.Batch) error { return fmt.Errorf("it has applied %+v", b) }), want, "Follow")
			for _, topics := range [][]string{nil, {"a"}, {"unknown"}} {
				_, err := s.log.Read(s.within(), topics, after, last, 1000)
				s.truncated(s.log, start.Epoch, err, want, fmt.Sprintf("Read of the topics %q", topics))
			}
		}
		s.requireFirst(b, want)
	}
	if next := s.append(s.log, record("a", "next")); next[0].Offset <= last.Offset {
		s.Fatalf("after a truncation, Append has given the offset %d; the last one was %d", next[0].Offset, last.Offset)
	}
}

// requireFirst checks that what follows from just before each record that is left is there,
// and that what follows from before a record that is not left is an error.
func (s *suite) requireFirst(b hub.Bounds, want []hub.Record) {
	s.Helper()
	last := hub.Position{Epoch: b.Epoch, Offset: want[len(want)-1].Offset}
	for i, r := range want {
		for _, offset := range []uint64{r.Offset - 1, r.Offset} {
			after, left := hub.Position{Epoch: b.Epoch, Offset: offset}, want[i:]
			if offset == r.Offset {
				left = want[i+1:]
			}
			got, err := s.tryReadAll(s.log, nil, after, last.Offset, 1000)
			switch lost := len(left) > 0 && left[0].Offset < b.First; {
			case lost && err == nil:
				s.Fatalf("the log begins with the offset %d, but Read after %d, which is before the record at %d, returned no error", b.First, offset, left[0].Offset)
			case lost:
			default:
				s.must(err, fmt.Sprintf("Read after %d of a log that begins with %d", offset, b.First))
				s.same(got, left, "Read of a truncated log")
			}
		}
	}
}

func truncationOfAll(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 20, "a")
	last := hub.Position{Epoch: start.Epoch, Offset: want[19].Offset}
	s.Truncate(s, s.log, last.Offset+1)
	b := s.bounds(s.log)
	if b.Epoch != start.Epoch || b.First != b.Last+1 || b.Last < last.Offset {
		s.Fatalf("after all records were dropped, Bounds returned %+v; the last one had the offset %d", b, last.Offset)
	}
	s.truncated(s.log, start.Epoch, s.log.Follow(s.within(), start, func(b hub.Batch) error { return fmt.Errorf("it has applied %+v", b) }), want, "Follow")
	f := s.follow(s.log, last, nil)
	next := s.append(s.log, record("a", "next"))
	s.same(f.await(1), next, "Follow after the last record that was dropped")
	if next[0].Offset <= last.Offset {
		s.Fatalf("after all records were dropped, Append has given the offset %d again; the last one was %d", next[0].Offset, last.Offset)
	}
	s.same(s.readAll(s.log, nil, hub.Position{Epoch: start.Epoch, Offset: b.Last}, next[0].Offset, 10), next, "Read after a truncation of all")
}

// A follower that is behind a truncation is told of it, or gets everything.
func truncationInMidFollow(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 3000, "a")
	begun, blocked := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f := s.follow(s.log, start, func(hub.Batch) error {
		once.Do(func() { close(begun); <-blocked })
		return nil
	})
	select {
	case <-begun:
	case <-f.done:
		s.Fatalf("Follow returned %v", f.end())
	case <-time.After(s.Patience):
		s.Fatal("Follow has not applied anything")
	}
	s.Truncate(s, s.log, want[2900].Offset)
	close(blocked)
	s.eventually(func() bool { return f.len() == 3000 || f.hasEnded() }, "Follow has applied everything or returned an error, when it was overtaken by a truncation")
	got := f.records()
	s.same(got, want[:len(got)], "Follow that was overtaken by a truncation")
	if len(got) < 3000 {
		s.truncated(s.log, start.Epoch, f.end(), want, "Follow that was overtaken by a truncation")
		return
	}
	s.append(s.log, record("a", "next"))
	f.await(3001)
}

func truncationInMidRead(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 200, "a", "b")
	last := hub.Position{Epoch: start.Epoch, Offset: want[199].Offset}
	b, err := s.log.Read(s.within(), []string{"a"}, start, last, 10)
	s.must(err, "Read")
	at := hub.Position{Epoch: start.Epoch, Offset: b.UpTo}
	s.Truncate(s, s.log, want[150].Offset)
	_, err = s.log.Read(s.within(), []string{"a"}, at, last, 10)
	s.requireFirstOf(err)
	s.truncated(s.log, start.Epoch, err, want, "Read that was overtaken by a truncation")

	// Truncations go on while pages are read: no record is skipped.
	more := s.appendN(s.log, 1000, "a")
	want = append(want, more...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; i < 900; i += 30 {
			s.Truncate(s, s.log, more[i].Offset)
		}
	}()
	at = hub.Position{Epoch: start.Epoch, Offset: more[0].Offset - 1}
	i := 200
	for at.Offset < more[999].Offset {
		b, err := s.log.Read(s.within(), nil, at, hub.Position{Epoch: start.Epoch, Offset: more[999].Offset}, 7)
		if e, ok := errors.AsType[*hub.TruncatedError](err); ok {
			if e.First <= at.Offset+1 {
				s.Fatalf("Read after %d returned the error %v", at.Offset, e)
			}
			for at.Offset = e.First - 1; i < len(want) && want[i].Offset < e.First; {
				i++
			}
			continue
		}
		s.must(err, "Read during truncations")
		if len(b.Records) == 0 || b.UpTo <= at.Offset {
			s.Fatalf("Read after %d, before the end at %d, returned %+v", at.Offset, more[999].Offset, b)
		}
		s.same(b.Records, want[i:][:min(len(b.Records), len(want)-i)], "Read during truncations")
		i += len(b.Records)
		at.Offset = b.UpTo
	}
	<-done
}

func unknownOutcome(s *suite) {
	start := s.start(s.log)
	want := s.append(s.log, record("a", "before"))
	r := hub.Record{Topic: "a", Event: sse.Event{Data: "unknown"}}
	if !s.NoKeys {
		r.Key = "k"
	}
	s.LoseAnswer(s, s.log)
	_, err := s.log.Append(s.within(), []hub.Record{r})
	s.matches(err, hub.ErrUnknown, "Append whose outcome is unknown")
	f := s.follow(s.log, start, nil)
	got := f.await(2)
	if d := difference(got[1], hub.Record{Topic: "a", Key: r.Key, Event: r.Event, Offset: got[1].Offset}); d != "" {
		s.Fatalf("an Append whose outcome is unknown: %s", d)
	}
	want = append(want, got[1])
	if !s.NoKeys {
		if again := s.append(s.log, r)[0]; again.Offset != got[1].Offset {
			s.Fatalf("a record with a key was appended again after an unknown outcome: it has the offset %d and had %d", again.Offset, got[1].Offset)
		}
	}
	want = append(want, s.append(s.log, record("a", "after"))...)
	s.same(f.await(3), want, "Follow after an unknown outcome")
}
