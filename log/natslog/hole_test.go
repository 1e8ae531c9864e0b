package natslog

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
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
	f := followLog(t, l, hub.Position{Epoch: epoch})
	require.Len(t, f.await(17), 17)
	require.Equal(t, []uint64{6, 11}, f.holes())

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
	f = followLog(t, l, hub.Position{Epoch: epoch, Offset: 12})
	f.await(6)
	h, err := hub.Open(t.Context(), hub.Config{Log: l, Logger: quiet})
	require.NoError(t, err, "a hub gets to the end")
	require.NoError(t, h.Shutdown(t.Context()))
	f = followLog(t, l, hub.Position{Epoch: epoch, Offset: 18})
	f.await(0)
	require.Equal(t, []uint64{20}, f.holes())
	b, err := l.Read(t.Context(), nil, hub.Position{Epoch: epoch, Offset: 18}, hub.Position{Epoch: epoch, Offset: 20}, 100)
	require.NoError(t, err)
	require.Equal(t, hub.Batch{UpTo: 20, Hole: true, Records: b.Records}, b)
	require.Empty(t, b.Records)
}

// A message that is not from a hub is an invalid record, and belongs to no topic of anybody.
func TestForeignMessages(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	add(t, l, rec("a", "1"))
	form, _ := rec("a", "of another topic").AppendBinary(nil) // its error is always nil
	for _, subject := range []string{l.subject("b"), "events.%41"} {
		_, err := l.js.Publish(t.Context(), subject, form)
		require.NoError(t, err)
	}
	add(t, l, rec("a", "2"))
	b := bounds(t, l)
	records := followLog(t, l, hub.Position{Epoch: b.Epoch}).await(4)
	require.Equal(t, []string{"1", "", "", "2"}, texts(records))
	require.Equal(t, hub.Record{Kind: hub.InvalidRecord, Topic: "b", Offset: 2, Time: records[1].Time}, records[1])
	require.Equal(t, hub.Record{Kind: hub.InvalidRecord, Topic: "%41", Offset: 3, Time: records[2].Time}, records[2])
	page, err := l.Read(t.Context(), []string{"a"}, hub.Position{Epoch: b.Epoch}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2"}, texts(page.Records))
}
