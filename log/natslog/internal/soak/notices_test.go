//go:build unix

package soak

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

const epoch = 78_364_164_097

func at(offset uint64) hub.Position { return hub.Position{Epoch: epoch, Offset: offset} }

// checked is a run without nodes, in which e1 to e9 were acknowledged at their offsets, in the
// topics "odd" and "even", with a reader that follows "odd" and has got e1 and e3.
func checked(t *testing.T) (*soak, *reader) {
	t.Helper()
	s := newSoak(t, 1)
	s.ledger.epoch, s.ledger.slack, s.ledger.maxMsgs = epoch, 0, 100
	for i := uint64(1); i <= 9; i++ {
		ps := []publication{{[]string{"even", "odd"}[i%2], fmt.Sprint("e", i), fmt.Sprint("e", i, " x")}}
		s.ledger.add(ps)
		require.NoError(t, s.ledger.ack(ps, []hub.Position{at(i)}))
	}
	r := &reader{s: s, name: "r", topics: []string{"odd"}, follow: map[string]bool{"odd": true}, segments: []*segment{{}}, connections: []*connection{{id: "0-1"}}}
	s.readers = []*reader{r}
	s.noteAdmitted("0-1", at(0))
	r.get(t, 1, 3)
	return s, r
}

// get gives the reader what it must get.
func (r *reader) get(t *testing.T, offsets ...uint64) {
	t.Helper()
	for _, offset := range offsets {
		require.NoError(t, r.give(offset))
	}
}

func (r *reader) give(offset uint64) error {
	return r.take(at(offset).String(), "", fmt.Sprint("e", offset, " x"))
}

// gap gives the reader a gap.
func (r *reader) gap(reason hub.GapReason, from, to uint64) error {
	data, err := json.Marshal(hub.Gap{Reason: reason, LastEventID: at(from).String(), Position: at(to)})
	if err != nil {
		return err
	}
	return r.take(at(to).String(), hub.GapEvent, string(data))
}

// A client that gets everything, or is told of a gap that is due, is right.
func TestSoakAcceptsWhatIsRight(t *testing.T) {
	t.Parallel()
	s, r := checked(t)
	r.get(t, 5, 7, 9)
	s.check()
	require.False(t, s.failed(), s.fault)
	require.Equal(t, 5, s.delivered)

	s, r = checked(t)
	s.ledger.head = 106 // the stream has dropped what is up to 6
	require.NoError(t, r.gap(hub.GapExpired, 4, 6))
	r.get(t, 7, 9)
	s.check()
	require.False(t, s.failed(), s.fault)

	s, r = checked(t)
	s.trouble.Store(true)
	r.get(t, 5)
	require.NoError(t, r.gap(hub.GapAhead, 5, 2))
	r.get(t, 3, 5, 7, 9)
	s.kicker.orders = []order{{"odd", 10}, {"even", 5}}
	s.check()
	require.False(t, s.failed(), s.fault)
}

// Each wrong stream is noticed.
func TestSoakNotices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wrong func(s *soak, r *reader) error
		text  string
	}{
		"twice":              {func(_ *soak, r *reader) error { return r.give(3) }, "twice or late"},
		"late":               {func(_ *soak, r *reader) error { return r.give(1) }, "twice or late"},
		"another topic":      {func(_ *soak, r *reader) error { return r.give(4) }, "does not follow"},
		"never published":    {func(_ *soak, r *reader) error { return r.take(at(5).String(), "", "e10 x") }, "nobody has published"},
		"changed":            {func(_ *soak, r *reader) error { return r.take(at(5).String(), "", "e5 y") }, "nobody has published"},
		"another place":      {func(_ *soak, r *reader) error { return r.take(at(6).String(), "", "e5 x") }, "is at 5 and at 6"},
		"another epoch":      {func(_ *soak, r *reader) error { return r.take(hub.Position{Epoch: 1, Offset: 5}.String(), "", "e5 x") }, "another epoch"},
		"a name":             {func(_ *soak, r *reader) error { return r.take(at(5).String(), "x", "e5 x") }, "has the name"},
		"no position":        {func(_ *soak, r *reader) error { return r.take("5", "", "e5 x") }, "not a position"},
		"missing at the end": {func(_ *soak, r *reader) error { return nil }, "e5 at 5 is missing"},
		"missing before":     {func(_ *soak, r *reader) error { return r.give(7) }, "e5 at 5 is missing"},
		"a gap not due":      {func(_ *soak, r *reader) error { return r.gap(hub.GapExpired, 4, 6) }, "has not dropped"},
		"a gap of nothing":   {func(s *soak, r *reader) error { s.ledger.head = 104; return r.gap(hub.GapLost, 4, 4) }, "has not dropped"},
		"a gap too large":    {func(s *soak, r *reader) error { s.ledger.head = 105; return r.gap(hub.GapSlow, 4, 6) }, "has not dropped"},
		"a gap too early":    {func(s *soak, r *reader) error { s.ledger.head = 106; return r.gap(hub.GapExpired, 2, 6) }, "has everything up to 3"},
		"a new epoch":        {func(_ *soak, r *reader) error { return r.gap(hub.GapEpoch, 4, 6) }, "epoch"},
		"ahead in peace":     {func(_ *soak, r *reader) error { return r.gap(hub.GapAhead, 4, 2) }, "no trouble"},
		"a gap's other id": {func(s *soak, r *reader) error {
			s.ledger.head = 106
			return r.take(at(6).String(), hub.GapEvent, fmt.Sprintf(`{"reason":"expired","lastEventId":%q,"position":%q}`, at(4), at(5)))
		}, "a gap at"},
		"not again after ahead": {func(s *soak, r *reader) error {
			s.trouble.Store(true)
			r.segments[0].got, r.segments[0].upTo = append(r.segments[0].got, 5), 5
			r.cursor.Store(5)
			if err := r.gap(hub.GapAhead, 5, 2); err != nil {
				return err
			}
			return r.give(5)
		}, "e3 at 3 is missing"},
		"in a gap": {func(s *soak, r *reader) error {
			r.segments[0].got = append(r.segments[0].got, 5)
			s.ledger.head = 106
			return r.gap(hub.GapExpired, 4, 6)
		}, "5 came"},
		"after a kick": {func(s *soak, r *reader) error {
			s.kicker.orders = []order{{"odd", 6}}
			for offset := uint64(5); offset <= 9; offset += 2 {
				if err := r.give(offset); err != nil {
					return err
				}
			}
			return nil
		}, "kicked at 6, and has got 9"},
		"never acknowledged": {func(s *soak, _ *reader) error { s.ledger.add([]publication{{"odd", "e10", "e10 x"}}); return nil }, "never acknowledged"},
		"acknowledged elsewhere": {func(s *soak, _ *reader) error {
			return s.ledger.ack([]publication{{"odd", "e5", "e5 x"}}, []hub.Position{at(10)})
		}, "is at 5 and at 10"},
		"two at a place": {func(s *soak, _ *reader) error {
			ps := []publication{{"odd", "e10", "e10 x"}}
			s.ledger.add(ps)
			return s.ledger.ack(ps, []hub.Position{at(5)})
		}, "are at 5"},
		"a position back":   {func(_ *soak, r *reader) error { return r.takeBlock([]byte("id: " + at(2).String() + "\n\n")) }, "is told the position"},
		"a position beyond": {func(_ *soak, r *reader) error { return r.takeBlock([]byte("id: " + at(6).String() + "\n\n")) }, "e5 at 5 is missing"},
		"another form": {func(_ *soak, r *reader) error {
			return r.takeBlock([]byte("data:e5 x\nid: " + at(5).String() + "\n\n"))
		}, "the line"},
		"another order": {func(_ *soak, r *reader) error {
			return r.takeBlock([]byte("id: " + at(5).String() + "\ndata: e5 x\n\n"))
		}, "the block"},
		"torn": {func(_ *soak, r *reader) error {
			return r.readBlocks(t.Context(), deadlines{}, strings.NewReader("id: "+at(5).String()+"\ndata: e5"))
		}, "looks complete"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := checked(t)
			if err := c.wrong(s, r); err != nil {
				s.fail("%v", err)
			} else {
				s.check()
			}
			require.Contains(t, s.fault, c.text)
		})
	}
}

// deadlines are of what is no connection.
type deadlines struct{}

func (deadlines) SetReadDeadline(time.Time) error { return nil }

// A stream is read as the hub writes it.
func TestSoakReadsBlocks(t *testing.T) {
	t.Parallel()
	_, r := checked(t)
	var b []byte
	for _, ev := range []sse.Event{{Comment: "heartbeat"}, {Retry: time.Second}, {ID: at(4).String()}, {ID: at(5).String(), Data: "e5 x"}} {
		var err error
		b, err = ev.AppendText(b)
		require.NoError(t, err)
	}
	require.NoError(t, r.readBlocks(t.Context(), deadlines{}, strings.NewReader(string(b))))
	require.EqualValues(t, 5, r.cursor.Load())
	require.Equal(t, at(5).String(), r.id)
}
