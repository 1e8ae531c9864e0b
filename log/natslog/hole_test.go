package natslog

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
	"github.com/chi-sse/sse/internal/testkit"
)

// remove deletes single records from the stream.
func remove(t testing.TB, l *Log, offsets ...uint64) {
	t.Helper()
	s, err := l.js.Stream(t.Context(), l.cfg.Stream)
	require.NoError(t, err)
	for _, offset := range offsets {
		require.NoError(t, s.DeleteMsg(t.Context(), offset))
	}
}

// Records that were deleted one by one are told of as holes by Follow and Read.
func TestDeletedRecords(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	for range 10 {
		add(t, l, rec("a", "a"), rec("b", "b"))
	}
	epoch := bounds(t, l).Epoch
	remove(t, l, 5, 6, 11)
	f := logkit.Follow(t, l, hub.Position{Epoch: epoch})
	require.Len(t, f.Await(17), 17)
	require.Equal(t, []uint64{6, 11}, f.Holes())

	for _, c := range []struct {
		topics       []string
		after, upTo  uint64
		hole         bool
		first, count int
	}{
		{nil, 0, 4, false, 1, 4},
		{nil, 0, 5, true, 1, 4},
		{nil, 6, 10, false, 7, 4},
		{nil, 4, 6, true, 0, 0},
		{[]string{"a"}, 0, 20, true, 1, 8},
		{[]string{"b"}, 11, 20, false, 12, 5},
		{[]string{"b"}, 0, 4, false, 2, 2},
		{[]string{"a", "b"}, 10, 20, true, 12, 9},
		{[]string{"c"}, 0, 20, true, 0, 0},
		{[]string{"c"}, 12, 20, false, 0, 0},
	} {
		b, err := l.Read(t.Context(), c.topics, hub.Position{Epoch: epoch, Offset: c.after}, hub.Position{Epoch: epoch, Offset: c.upTo}, 100)
		require.NoError(t, err)
		require.Equal(t, c.hole, b.Hole, "%+v", c)
		require.Equal(t, c.upTo, b.UpTo, "%+v", c)
		require.Len(t, b.Records, c.count, "%+v", c)
		if c.count > 0 {
			require.Equal(t, uint64(c.first), b.Records[0].Offset)
		}
	}

	// The newest ones were deleted: nothing that comes later would tell of it.
	remove(t, l, 19, 20)
	require.Equal(t, uint64(20), bounds(t, l).Last)
	f = logkit.Follow(t, l, hub.Position{Epoch: epoch, Offset: 12})
	f.Await(6)
	h, err := hub.Open(t.Context(), hub.Config{Log: l, Logger: quiet})
	require.NoError(t, err, "a hub gets to the end")
	require.NoError(t, h.Shutdown(t.Context()))
	f = logkit.Follow(t, l, hub.Position{Epoch: epoch, Offset: 18})
	f.Await(0)
	require.Equal(t, []uint64{20}, f.Holes())
	b, err := l.Read(t.Context(), nil, hub.Position{Epoch: epoch, Offset: 18}, hub.Position{Epoch: epoch, Offset: 20}, 100)
	require.NoError(t, err)
	require.Equal(t, hub.Batch{UpTo: 20, Hole: true, Records: b.Records}, b)
	require.Empty(t, b.Records)
}

// A follower that has everything says so, also if its consumer has counted records that were deleted.
func TestCaughtUpAfterADeletion(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	last := add(t, l, rec("a", "1"))[0]
	var got []hub.Batch
	f := &follow{l: l, epoch: last.Epoch, at: last.Offset, apply: func(b hub.Batch) error {
		got = append(got, b)
		return nil
	}}
	for range 2 {
		require.NoError(t, f.look(t.Context(), false))
		require.Equal(t, []hub.Batch{{UpTo: last.Offset}}, got)
	}
}

// A message that is not from a hub is left out. If its subject is a topic's, it is an invalid record
// of that topic.
func TestForeignMessages(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	add(t, l, rec("a", "1"))
	publish := func(subject string, data []byte) {
		t.Helper()
		_, err := l.js.Publish(t.Context(), subject, data)
		require.NoError(t, err)
	}
	form, _ := rec("a", "of another topic").AppendBinary(nil) // its error is always nil
	for _, subject := range []string{l.subject("b"), "events.%41", l.subject(""), "events.é"} {
		publish(subject, form)
	}
	add(t, l, rec("a", "2"), rec("", "of no topic"))
	publish("events.%41", form)
	b := bounds(t, l)
	require.Equal(t, uint64(8), b.Last)
	f := logkit.Follow(t, l, hub.Position{Epoch: b.Epoch})
	records := f.Await(4)
	require.Equal(t, []string{"1", "", "2", "of no topic"}, texts(records))
	require.Equal(t, hub.Record{Kind: hub.InvalidRecord, Topic: "b", Offset: 2, Time: records[1].Time}, records[1])
	testkit.Eventually(t, func() bool { return f.UpTo() == 8 }, "the last message, which is foreign, to be passed")
	require.Empty(t, f.Holes())
	for _, c := range []struct {
		topics []string
		want   []string
	}{
		{nil, []string{"1", "", "2", "of no topic"}},
		{[]string{"a"}, []string{"1", "2"}},
		{[]string{"b"}, []string{""}},
		{[]string{""}, []string{"of no topic"}},
		{[]string{"%41"}, []string{}},
		{[]string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}, []string{"1", "", "2"}},
	} {
		for _, most := range []int{1, 100} {
			var got []string
			for at := uint64(0); at < b.Last; {
				page, err := l.Read(t.Context(), c.topics, hub.Position{Epoch: b.Epoch, Offset: at}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, most)
				require.NoError(t, err)
				require.Greater(t, page.UpTo, at)
				at, got = page.UpTo, append(got, texts(page.Records)...)
			}
			require.ElementsMatch(t, c.want, got, "%q", c.topics)
		}
	}
}

// A record that a later version of the package has written is an invalid one of its topic, and its
// key is known.
func TestRecordOfANewerForm(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	add(t, l, rec("a", "1"))
	form, _ := rec("a", "newer").AppendBinary(nil) // its error is always nil
	form[0]++
	ack, err := l.js.PublishMsg(t.Context(), &nats.Msg{Subject: l.subject("a"), Data: form}, jetstream.WithMsgID(keyID("a", "k")))
	require.NoError(t, err)
	add(t, l, rec("b", "2"))
	epoch := bounds(t, l).Epoch
	invalid := func(records []hub.Record) (kinds []bool) {
		for _, r := range records {
			kinds = append(kinds, r.Kind == hub.InvalidRecord && r.Topic == "a")
		}
		return kinds
	}
	require.Equal(t, []bool{false, true, false}, invalid(logkit.Follow(t, l, hub.Position{Epoch: epoch}).Await(3)))
	for _, most := range []int{1, 100} {
		for _, c := range []struct {
			topics []string
			want   []bool
		}{
			{nil, []bool{false, true, false}},
			{[]string{"a"}, []bool{false, true}},
			{[]string{"b"}, []bool{false}},
			{[]string{"b", "c"}, []bool{false}},
			{[]string{"b", "c", "d", "e", "f", "g", "h", "i", "j"}, []bool{false}},
			{[]string{"a", "c", "d", "e", "f", "g", "h", "i", "j"}, []bool{false, true}},
		} {
			var got []bool
			for at := uint64(0); at < 3; {
				page, err := l.Read(t.Context(), c.topics, hub.Position{Epoch: epoch, Offset: at}, hub.Position{Epoch: epoch, Offset: 3}, most)
				require.NoError(t, err)
				at, got = page.UpTo, append(got, invalid(page.Records)...)
			}
			require.Equal(t, c.want, got, "%q", c.topics)
		}
	}
	newer := rec("a", "newer")
	newer.Key = "k"
	require.Equal(t, ack.Sequence, add(t, l, newer)[0].Offset, "its key is known")
	require.Equal(t, ack.Sequence, add(t, l, newer, rec("a", "3"))[0].Offset)
}
