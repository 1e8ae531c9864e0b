package logtest

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// These cases check what becomes of records that the Log cannot decode.

// Records that cannot be decoded are told of, and what comes after them is not held up.
func invalidRecords(s *suite) {
	start := s.start(s.log)
	form, _ := hub.Record{Topic: "a", Event: sse.Event{Data: "of the future"}}.AppendBinary(nil) // its error is always nil
	future := append([]byte{form[0] + 1}, form[1:]...)
	var want []hub.Record
	for i, data := range [][]byte{future, {}, {1}, []byte("not a record"), form[:len(form)-1], append(slices.Clip(form), 0)} {
		want = append(want, s.append(s.log, record("a", strconv.Itoa(i)))...)
		s.Insert(s, s.log, "a", data)
		want = append(want, hub.Record{Kind: hub.InvalidRecord})
	}
	want = append(want, s.append(s.log, record("a", "last"))...)
	check := func(got []hub.Record, of string) {
		s.Helper()
		if len(got) != len(want) {
			s.Fatalf("%s: it has %d records, want %d, of which every second is invalid", of, len(got), len(want))
		}
		for i, r := range got {
			switch {
			case want[i].Kind == hub.InvalidRecord:
				if r.Kind != hub.InvalidRecord || r.Topic != "" && r.Topic != "a" {
					s.Fatalf("%s: a record that cannot be decoded is %s; it must be an InvalidRecord", of, short(r))
				}
			default:
				s.same(got[i:i+1], want[i:i+1], of+" of valid records between invalid ones")
			}
		}
	}
	last := want[len(want)-1].Offset
	check(s.follow(s.log, start, nil).await(len(want)), "Follow")
	check(s.readAll(s.log, nil, start, last, 2), "Read")
	check(s.readAll(s.log, []string{"a"}, start, last, 100), "Read of the topic")

	// They are those of every topic, unless the Log knows of which topic they are. It then says so
	// when it is asked for that topic.
	var without []hub.Record
	for _, r := range s.readAll(s.log, []string{"a"}, start, last, 100) {
		if r.Kind == hub.InvalidRecord && r.Topic == "" {
			without = append(without, r)
		}
	}
	s.same(s.readAll(s.log, []string{"other"}, start, last, 2), without, "Read of another topic, to which only the invalid records without a topic belong")
}

// Nobody can know of which topic a damaged record was, so everybody is told of it: Read returns it
// whatever topics were asked for.
func damagedRecords(s *suite) {
	start := s.start(s.log)
	want := s.appendN(s.log, 30, "a", "b")
	for i := range want {
		if i%10 == 3 {
			s.Damage(s, s.log, want[i].Offset)
			want[i] = hub.Record{Kind: hub.InvalidRecord, Offset: want[i].Offset}
		}
	}
	last := want[len(want)-1].Offset
	check := func(got []hub.Record, of string, topics ...string) {
		s.Helper()
		due := ofTopics(want, append(topics, "")...)
		if len(topics) == 0 {
			due = want
		}
		for i := range got {
			if got[i].Kind == hub.InvalidRecord {
				got[i].Time = time.Unix(0, 1) // it may have none
			}
		}
		s.same(got, due, of+" of a log with damaged records")
	}
	check(s.follow(s.log, start, nil).await(len(want)), "Follow")
	for _, limit := range []int{1, 2, 100} {
		check(s.readAll(s.log, nil, start, last, limit), "Read")
		for _, topics := range [][]string{{"a"}, {"b"}, {"a", "b"}, {"other"}, {"other", "a"}} {
			check(s.readAll(s.log, topics, start, last, limit), fmt.Sprintf("Read of the topics %q", topics), topics...)
		}
	}
}
