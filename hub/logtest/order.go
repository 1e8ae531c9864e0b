package logtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// These cases check what Append, Follow and Read do with records while nothing is wrong.

func emptyLog(s *suite) {
	b := s.bounds(s.log)
	if b.First != b.Last+1 {
		s.Fatalf("Bounds of a Log without records returned %+v: First must be Last+1", b)
	}
	if again := s.bounds(s.log); again != b {
		s.Fatalf("Bounds returned %+v, and then %+v, although nothing was appended", b, again)
	}
	f := s.follow(s.log, s.start(s.log), nil)
	s.eventually(func() bool { return f.isIdle() || f.hasEnded() }, "Follow has applied an empty Batch to say that there are no records")
	want := s.append(s.log, record("a", "first"))
	s.same(f.await(1), want, "Follow")
	if b := s.bounds(s.log); b.First != want[0].Offset || b.Last != want[0].Offset {
		s.Fatalf("Bounds returned %+v after one record at the offset %d", b, want[0].Offset)
	}
}

func orderOverTopics(s *suite) {
	start := s.start(s.log)
	early := s.follow(s.log, start, nil)
	want := s.appendN(s.log, 500, "a", "b", "a/b", "c")
	s.same(early.await(500), want, "Follow from before the records were appended")
	s.same(s.follow(s.log, start, nil).await(500), want, "Follow")
	s.same(s.readAll(s.log, nil, start, want[499].Offset, 1000), want, "Read")
	if b := s.bounds(s.log); b.First != want[0].Offset || b.Last != want[499].Offset {
		s.Fatalf("Bounds returned %+v; the offsets are from %d to %d", b, want[0].Offset, want[499].Offset)
	}
}

func allFields(s *suite) {
	start := s.start(s.log)
	bytes := make([]byte, 256)
	for i := range bytes {
		bytes[i] = byte(i)
	}
	records := []hub.Record{
		{Topic: "a"},
		{Topic: "a", Event: sse.Event{ID: "i", Name: "n", Data: "d", Comment: "c", Retry: 1234 * time.Millisecond}},
		{Topic: "a", Event: sse.Event{Data: "line\nline\r\nline\rline\n\n"}},
		{Topic: "a", Event: sse.Event{Data: string(bytes), Name: string(bytes), ID: string(bytes), Comment: string(bytes)}},
		{Topic: string(bytes), Event: sse.Event{Data: "a topic of all bytes"}},
		{Topic: "日本語/👋🏽/é", Event: sse.Event{Data: "日本語/👋🏽/é\u2028\ufeff"}},
		{Topic: "a", Event: sse.Event{Data: "not UTF-8: \xff\xfe\xc3"}},
		{Topic: "a.b", Event: sse.Event{Data: "*"}},
		{Topic: "a.*", Event: sse.Event{Data: ">"}},
		{Topic: ">", Event: sse.Event{Data: "%"}},
		{Topic: "a b", Event: sse.Event{Data: " "}},
		{Topic: "A", Event: sse.Event{Data: "upper case"}},
		{Topic: "a\x00b", Event: sse.Event{Data: "\x00"}},
		{Topic: "../a", Event: sse.Event{Data: "'; DROP TABLE"}},
		{Topic: "a'\"\\", Event: sse.Event{Data: "\\x00\\u0000"}},
		{Topic: strings.Repeat("long ", 50), Event: sse.Event{Data: "a long topic"}},
		{Topic: "a", Kind: hub.ControlRecord, Event: sse.Event{Name: "order", Data: "data"}},
		{Topic: "b", Kind: hub.ControlRecord},
		{Kind: hub.ControlRecord, Event: sse.Event{Name: "order", Data: "an order without a topic"}},
	}
	if !s.NoKeys {
		records = append(records, hub.Record{Topic: "a", Key: "key"}, hub.Record{Topic: "a", Key: string(bytes)}, hub.Record{Topic: "日本語", Key: "é"})
	}
	for range 50 {
		r := hub.Record{Topic: randomText(20) + "t"}
		r.Event = sse.Event{ID: randomText(30), Name: randomText(30), Data: randomText(3000), Comment: randomText(30), Retry: time.Duration(rand.IntN(1e6)) * time.Millisecond}
		records = append(records, r)
	}
	before := time.Now()
	var want []hub.Record
	for _, r := range records {
		want = append(want, s.append(s.log, r)...)
	}
	got := s.follow(s.log, start, nil).await(len(want))
	s.same(got, want, "Follow")
	read := s.readAll(s.log, nil, start, want[len(want)-1].Offset, 10)
	s.same(read, want, "Read")
	for i := range got {
		if !got[i].Time.Equal(read[i].Time) {
			s.Fatalf("a record has the Time %v from Follow and %v from Read", got[i].Time, read[i].Time)
		}
		if d := got[i].Time.Sub(before).Abs(); d > time.Hour {
			s.Fatalf("a record was appended at about %v, but has the Time %v", before, got[i].Time)
		}
	}
	for _, r := range want {
		some := s.readAll(s.log, []string{r.Topic}, start, want[len(want)-1].Offset, 100)
		s.same(some, ofTopics(want, r.Topic), fmt.Sprintf("Read of the topic %q", r.Topic))
	}
}

// randomText returns up to most random bytes.
func randomText(most int) string {
	b := make([]byte, rand.IntN(most+1))
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return string(b)
}

func largeFields(s *suite) {
	start := s.start(s.log)
	random := rand.NewChaCha8([32]byte{})
	var want []hub.Record
	for range 3 {
		data := make([]byte, 1<<20)
		_, _ = random.Read(data) // it never fails
		want = append(want, s.append(s.log, record("a", string(data)))...)
	}
	want = append(want, s.append(s.log, record("a", "small"))...)
	s.same(s.follow(s.log, start, nil).await(4), want, "Follow of records with 1 MiB")
	s.same(s.readAll(s.log, []string{"a"}, start, want[3].Offset, 100), want, "Read of records with 1 MiB")
}

func redelivery(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 60, "a", "b", "c")
	for i := range want {
		for _, offset := range []uint64{want[i].Offset - 1, want[i].Offset} { // the first may be in a hole
			after := hub.Position{Epoch: start.Epoch, Offset: offset}
			left := want[i:]
			if offset == want[i].Offset {
				left = want[i+1:]
			}
			f := s.follow(s.log, after, nil)
			got := f.await(len(left))
			f.stop()
			s.same(got, left, fmt.Sprintf("Follow after offset %d", offset))
			s.same(s.readAll(s.log, nil, after, want[59].Offset, 100), left, fmt.Sprintf("Read after offset %d", offset))
		}
	}
}

func caughtUp(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 100, "a")
	for _, after := range []hub.Position{start, {Epoch: start.Epoch, Offset: want[99].Offset}} {
		f := s.follow(s.log, after, nil)
		s.eventually(func() bool { return f.isIdle() || f.hasEnded() }, "Follow has applied an empty Batch after the last record")
		f.records()
		if upTo := f.upToNow(); upTo < want[99].Offset {
			s.Fatalf("Follow said that there were no newer records, but its UpTo is %d, and Last is %d", upTo, want[99].Offset)
		}
		next := s.append(s.log, record("a", "next"))[0]
		s.eventually(func() bool { return f.upToNow() >= next.Offset || f.hasEnded() }, "Follow has applied a record that was appended when it had caught up")
		f.stop()
		want = append(want[:99:99], next)
	}
}

func (f *follower) isIdle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.idle > 0
}

func (f *follower) upToNow() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.upTo
}

func readTopics(s *suite) {
	start := s.start(s.log)
	topics := []string{"a", "b", "ab", "a/", "a\x00b", "c"}
	want := s.appendN(s.log, 300, topics...)
	rare := s.append(s.log, record("rare", "once"))
	want = append(want, rare...)
	want = append(want, s.appendN(s.log, 300, topics...)...)
	last := want[len(want)-1].Offset
	for _, names := range [][]string{{"a"}, {"b", "a"}, {"a", "b", "ab", "a/", "a\x00b", "c", "rare"}, {"rare"}, {"unknown"}, {"unknown", "rare"}, {""}, {"a", "a"}} {
		for _, most := range []int{1, 7, 1000} {
			got := s.readAll(s.log, names, start, last, most)
			s.same(got, ofTopics(want, names...), fmt.Sprintf("Read of the topics %q in pages of %d", names, most))
		}
	}
	for _, most := range []int{1, 7, 1000} {
		s.same(s.readAll(s.log, nil, start, last, most), want, "Read of all topics")
		s.same(s.readAll(s.log, []string{}, start, last, most), want, "Read of all topics")
	}
}

func readUpToAndMax(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 100, "a", "b", "c")
	for range 200 {
		from, to := rand.IntN(100), rand.IntN(100)
		if from > to {
			from, to = to, from
		}
		after := hub.Position{Epoch: start.Epoch, Offset: want[from].Offset}
		some := want[from+1 : to+1]
		s.same(s.readAll(s.log, nil, after, want[to].Offset, 1+rand.IntN(30)), some, "Read of a stretch")
		s.same(s.readAll(s.log, []string{"b"}, after, want[to].Offset, 1+rand.IntN(30)), ofTopics(some, "b"), "Read of a topic in a stretch")
	}
	last := hub.Position{Epoch: start.Epoch, Offset: want[99].Offset}
	for _, upTo := range []hub.Position{last, {Epoch: last.Epoch, Offset: last.Offset + 1000}} {
		b, err := s.log.Read(s.within(), nil, last, upTo, 10)
		s.must(err, "Read after the last record")
		if len(b.Records) > 0 || b.UpTo < last.Offset || b.UpTo > upTo.Offset {
			s.Fatalf("Read after the last record, at %d, up to %d returned %+v", last.Offset, upTo.Offset, b)
		}
	}
}

// A hub reads up to where Follow has come, which may be after the last record.
func readWhatFollowHas(s *suite) {
	start := s.start(s.log)
	var seen sync.WaitGroup
	f := s.follow(s.log, start, nil)
	for i := range 4 {
		seen.Go(func() {
			for n := range 50 {
				if _, err := s.log.Append(s.Context(), []hub.Record{record("a", fmt.Sprint(i, n))}); err != nil {
					s.Errorf("Append: %v", err)
				}
			}
		})
	}
	for f.len() < 200 && !f.hasEnded() {
		got, upTo := f.recordsUpTo()
		s.same(s.readAll(s.log, nil, start, upTo, 30), got, "Read up to where Follow has come")
	}
	seen.Wait()
	f.await(200)
}

func (f *follower) recordsUpTo() ([]hub.Record, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got), f.upTo
}

// Batches of many goroutines do not mix.
func batches(s *suite) {
	start := s.start(s.log)
	f := s.follow(s.log, start, nil)
	const writers, each = 8, 20
	var done sync.WaitGroup
	var mu sync.Mutex
	var all [][]hub.Record
	n := 0
	for w := range writers {
		done.Go(func() {
			for i := range each {
				batch := make([]hub.Record, 1+(w+i)%7)
				for k := range batch {
					batch[k] = record([]string{"a", "b"}[k%2], fmt.Sprintf("%d %d %d", w, i, k))
				}
				positions, err := s.log.Append(s.Context(), batch)
				if err != nil || len(positions) != len(batch) {
					s.Errorf("Append of %d records returned %d positions: %v", len(batch), len(positions), err)
					return
				}
				mu.Lock()
				all, n = append(all, s.placed(batch, positions)), n+len(batch)
				mu.Unlock()
			}
		})
	}
	done.Wait()
	if s.Failed() {
		return
	}
	slices.SortFunc(all, func(a, b []hub.Record) int { return int(int64(a[0].Offset) - int64(b[0].Offset)) })
	want := slices.Concat(all...)
	s.same(f.await(n), want, "Follow of batches, each without records of others between its own")
	s.same(s.readAll(s.log, nil, start, want[n-1].Offset, 10), want, "Read of batches")
}

func keys(s *suite) {
	start := s.start(s.log)
	keyed := func(topic, key, data string) hub.Record {
		return hub.Record{Topic: topic, Key: key, Event: sse.Event{Data: data}}
	}
	first := s.append(s.log, keyed("a", "k", "1"))[0]
	want := []hub.Record{first}
	again := s.append(s.log, keyed("a", "k", "2"))[0]
	if again.Offset != first.Offset {
		s.Fatalf("a key was used again in its topic: the position is %d, want that of the first record, %d", again.Offset, first.Offset)
	}
	want = append(want, s.append(s.log, keyed("b", "k", "3"), keyed("a", "k2", "4"), keyed("a", "K", "5"), keyed("a", "", "6"), keyed("a", "", "7"))...)
	// In one batch: a known one, a new one twice, and records without a key.
	batch := s.append(s.log, keyed("a", "k", "8"), keyed("a", "new", "9"), keyed("a", "", "10"), keyed("a", "new", "11"), keyed("b", "new", "12"))
	if batch[0].Offset != first.Offset || batch[3].Offset != batch[1].Offset {
		s.Fatalf("in a batch with the keys k, new, none, new, new of another topic, the offsets are %d, %d, %d, %d, %d; k has %d",
			batch[0].Offset, batch[1].Offset, batch[2].Offset, batch[3].Offset, batch[4].Offset, first.Offset)
	}
	want = append(want, batch[1], batch[2], batch[4])
	// All are known: nothing is appended.
	s.append(s.log, keyed("a", "k", "x"), keyed("b", "k", "y"))
	want = append(want, s.append(s.log, record("a", "last"))...)
	s.same(s.follow(s.log, start, nil).await(len(want)), want, "Follow of records with keys")
	s.same(s.readAll(s.log, nil, start, want[len(want)-1].Offset, 100), want, "Read of records with keys")

	// Many goroutines use one key at once.
	var done sync.WaitGroup
	offsets := make([]uint64, 16)
	for i := range offsets {
		done.Go(func() {
			if positions, err := s.log.Append(s.Context(), []hub.Record{keyed("a", "race", strconv.Itoa(i))}); err == nil && len(positions) == 1 {
				offsets[i] = positions[0].Offset
			} else {
				s.Errorf("Append returned %v, %v", positions, err)
			}
		})
	}
	done.Wait()
	if slices.Min(offsets) != slices.Max(offsets) {
		s.Fatalf("one key was used by several goroutines at once, and they got the offsets %d", offsets)
	}
}

func keysAfterReopening(s *suite) {
	r := hub.Record{Topic: "a", Key: "k", Event: sse.Event{Data: "1"}}
	first := s.append(s.log, r)[0]
	log := s.Reopen(s, s.log)
	if again := s.append(log, r)[0]; again.Offset != first.Offset {
		s.Fatalf("after reopening, a known key has got the offset %d; it had %d", again.Offset, first.Offset)
	}
}

var errApply = errors.New("logtest: apply has failed")

// A follower that fails in the middle of a Batch starts over from where it ended.
func errorOfApply(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 300, "a", "b")
	var got []hub.Record
	after := start
	for tries := 0; len(got) < 300; tries++ {
		if tries > 2000 {
			s.Fatal("Follow does not go on after an error of apply")
		}
		f := s.follow(s.log, after, func(b hub.Batch) error {
			for _, r := range b.Records {
				if r.Offset <= after.Offset {
					continue
				}
				if rand.IntN(20) == 0 {
					return errApply
				}
				got = append(got, r)
				after.Offset = r.Offset
			}
			if len(got) == 300 {
				return errApply
			}
			return nil
		})
		s.matches(f.end(), errApply, "Follow, when apply has failed")
	}
	s.same(got, want, "Follow, started over after errors of apply")
}

func twoFollowers(s *suite) {
	start := s.start(s.log)
	slow := s.follow(s.log, start, func(hub.Batch) error { time.Sleep(time.Millisecond); return nil })
	fast := s.follow(s.log, start, nil)
	want := s.appendN(s.log, 200, "a", "b")
	s.same(fast.await(200), want, "the fast Follow")
	s.same(slow.await(200), want, "the slow Follow")
	fast.stop()
	s.matches(fast.end(), context.Canceled, "Follow, when its context was canceled")
	want = append(want, s.append(s.log, record("a", "more"))...)
	s.same(slow.await(201), want, "Follow after another one has ended")
}

// many appends and reads many records.
func many(s *suite) {
	const each = 1000
	n := 20_000
	if s.Million && !testing.Short() {
		n = 1_000_000
	}
	start := s.start(s.log)
	var last, middle uint64
	for i := 0; i < n; i += each {
		batch := make([]hub.Record, each)
		for k := range batch {
			batch[k] = record(strconv.Itoa(k%100), strconv.Itoa(i+k))
		}
		placed := s.append(s.log, batch...)
		last = placed[each-1].Offset
		if i == n/2 {
			middle = placed[0].Offset
		}
	}
	count, upTo := 0, start.Offset
	err := s.log.Follow(s.Context(), start, func(b hub.Batch) error {
		if err := checkBatch(b, upTo); err != nil {
			return err
		}
		for _, r := range b.Records {
			if r.Event.Data != strconv.Itoa(count) {
				return fmt.Errorf("record %d has the data %q", count, r.Event.Data)
			}
			count++
		}
		if upTo = b.UpTo; count == n {
			return errApply
		}
		return nil
	})
	s.matches(err, errApply, fmt.Sprintf("Follow of %d records, of which it has applied %d", n, count))
	some := s.readAll(s.log, []string{"7"}, hub.Position{Epoch: start.Epoch, Offset: middle}, last, 512)
	for i, r := range some {
		if r.Event.Data != strconv.Itoa(n/2+7+100*i) {
			s.Fatalf("record %d of a topic after the middle has the data %q", i, r.Event.Data)
		}
	}
	if len(some) != n/200 {
		s.Fatalf("Read returned %d of the topic's %d records after the middle", len(some), n/200)
	}
}
