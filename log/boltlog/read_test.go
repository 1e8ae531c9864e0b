package boltlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

func TestRecordsComeBackByteForByte(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	records := []hub.Record{
		{Topic: "a", Event: sse.Event{Data: "one"}},
		{Topic: "ü\x00\n", Key: "k\x00", Event: sse.Event{ID: "id", Name: "näme", Comment: "c\r\n", Data: "a\nb\r\x00 \xff", Retry: 1500 * time.Millisecond}},
		{Topic: "big", Event: sse.Event{Data: strings.Repeat("x", 1<<20)}},
		{Topic: "", Event: sse.Event{}},
		{Kind: hub.ControlRecord, Topic: "a", Event: sse.Event{Name: "kick"}},
	}
	before := time.Now()
	positions := add(t, l, records...)
	for range 2 { // before and after it is opened again
		got := all(t, l, 0)
		require.Len(t, got, len(records))
		for i := range got {
			require.WithinRange(t, got[i].Time, before, time.Now())
			require.Equal(t, positions[i].Offset, got[i].Offset)
			got[i].Time, got[i].Offset = time.Time{}, 0
		}
		require.Equal(t, records, got)
		require.NoError(t, l.Close())
		l = openLog(t, path, Config{})
	}
	require.Equal(t, []string{"one", ""}, texts(all(t, l, 0, "a")), "an order is a record of its topic")
}

func TestWhatCannotBeAppended(t *testing.T) {
	t.Parallel()
	l := openLog(t, newPath(t), Config{MaxBytes: 1000})
	_, err := l.Append(t.Context(), []hub.Record{rec("a", "1"), rec("a", strings.Repeat("x", 1000))})
	_, ok := errors.AsType[*event.TooLargeError](err)
	require.True(t, ok, err)
	_, err = l.Append(t.Context(), []hub.Record{rec("a", "1"), {Topic: "a", Event: sse.Event{ResetID: true}}})
	_, ok = errors.AsType[*event.FieldError](err)
	require.True(t, ok, err)
	_, err = l.Append(t.Context(), []hub.Record{rec("a", "1"), {Topic: "a", Kind: hub.InvalidRecord}})
	require.ErrorContains(t, err, "must be EventRecord or ControlRecord")
	positions, err := l.Append(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, positions)
	require.Empty(t, all(t, l, 0))
}

// A random log of many topics, compared with a slice: pages of few and of many topics.
func TestPagesOfTopics(t *testing.T) {
	t.Parallel()
	l := openLog(t, newPath(t), Config{})
	r := rand.New(rand.NewPCG(1, 2))
	var model []hub.Record
	for len(model) < 3000 {
		batch := make([]hub.Record, 1+r.IntN(200))
		for i := range batch {
			topic := fmt.Sprint("t", r.IntN(1+r.IntN(300)))
			batch[i] = rec(topic, fmt.Sprint(len(model)+i, strings.Repeat("y", r.IntN(20)*r.IntN(100))))
		}
		for i, pos := range add(t, l, batch...) {
			batch[i].Offset = pos.Offset
		}
		model = append(model, batch...)
	}
	epoch := epochOf(t, l)
	for range 400 {
		topics := map[string]bool{}
		for range []int{0, 1, 2, 10, 200, 1000}[r.IntN(6)] {
			topics[fmt.Sprint("t", r.IntN(400))] = true
		}
		names := make([]string, 0, len(topics))
		for name := range topics {
			names = append(names, name, name)
		}
		after, limit := model[r.IntN(len(model))].Offset, 1+r.IntN(300)
		upTo := min(after+uint64(r.IntN(2000)), model[len(model)-1].Offset)
		var want []hub.Record
		for _, m := range model {
			if m.Offset > after && m.Offset <= upTo && (len(topics) == 0 || topics[m.Topic]) {
				want = append(want, m)
			}
		}
		for after < upTo {
			b, err := l.Read(t.Context(), names, hub.Position{Epoch: epoch, Offset: after}, hub.Position{Epoch: epoch, Offset: upTo}, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(b.Records), limit)
			require.Greater(t, b.UpTo, after)
			require.LessOrEqual(t, b.UpTo, upTo)
			for _, got := range b.Records {
				require.NotEmpty(t, want)
				require.Equal(t, want[0].Offset, got.Offset)
				require.Equal(t, want[0].Topic, got.Topic)
				require.Equal(t, want[0].Event, got.Event)
				want = want[1:]
			}
			require.True(t, len(want) == 0 || want[0].Offset > b.UpTo, "all up to UpTo is there")
			after = b.UpTo
		}
		require.Empty(t, want)
	}
}

func TestPageHasAboutAMebibyte(t *testing.T) {
	t.Parallel()
	l := openLog(t, newPath(t), Config{})
	for i := range 5 {
		add(t, l, rec("a", strings.Repeat("x", 600_000)), rec("b", fmt.Sprint(i)))
	}
	epoch := epochOf(t, l)
	for _, topics := range [][]string{nil, {"a"}, {"a", "b"}} {
		b, err := l.Read(t.Context(), topics, hub.Position{Epoch: epoch}, hub.Position{Epoch: epoch, Offset: none}, 1000)
		require.NoError(t, err)
		require.Contains(t, []uint64{3, 4}, b.UpTo, topics)
	}
	require.Len(t, all(t, l, 0, "a", "b"), 10)
}

func TestKeyIsAppendedOnce(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	keyed := func(topic, key, data string) hub.Record {
		r := rec(topic, data)
		r.Key = key
		return r
	}
	first := add(t, l, keyed("a", "k", "1"), keyed("a", "k", "2"), keyed("b", "k", "3"), rec("a", "4"))
	require.Equal(t, first[0], first[1], "in one Append too")
	require.NotEqual(t, first[0], first[2], "in another topic it is another key")
	require.Equal(t, first[0], add(t, l, keyed("a", "k", "5"))[0])
	require.NoError(t, l.Close())
	l = openLog(t, path, Config{})
	require.Equal(t, first[2], add(t, l, keyed("b", "k", "6"), rec("a", "7"))[0])
	require.Equal(t, []string{"1", "3", "4", "7"}, texts(all(t, l, 0)))
}

func TestOwnIDsAreFound(t *testing.T) {
	t.Parallel()
	l := openLog(t, newPath(t), Config{})
	positions := add(t, l,
		hub.Record{Topic: "a", Key: "1", Event: sse.Event{ID: "1"}}, // as a hub with OwnIDs does
		hub.Record{Topic: "a", Key: "other", Event: sse.Event{ID: "2"}},
		hub.Record{Topic: "b", Event: sse.Event{ID: "1"}},
	)
	for _, c := range []struct {
		topic, id string
		want      int // index of the position, or -1
	}{{"a", "1", 0}, {"a", "2", 1}, {"b", "1", 2}, {"a", "other", -1}, {"b", "2", -1}, {"c", "1", -1}, {"a", "", -1}} {
		pos, ok, err := l.Find(t.Context(), c.topic, c.id)
		require.NoError(t, err)
		require.Equal(t, c.want >= 0, ok, c)
		if ok {
			require.Equal(t, positions[c.want], pos, c)
		}
	}
	later := add(t, l, hub.Record{Topic: "a", Key: "new", Event: sse.Event{ID: "2"}})
	pos, ok, err := l.Find(t.Context(), "a", "2")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, later[0], pos, "the newest event with an id")
}

func TestFollowSeesEachRecordOnce(t *testing.T) {
	testkit.NoLeak(t)
	l := openLog(t, newPath(t), Config{})
	epoch := epochOf(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	batches, ended := follow(ctx, l, hub.Position{Epoch: epoch})
	require.Empty(t, (<-batches).Records, "there are none yet")
	for i := range 50 {
		start := time.Now()
		pos := add(t, l, rec("a", fmt.Sprint(i)))
		b := <-batches
		require.Equal(t, []string{fmt.Sprint(i)}, texts(b.Records))
		require.Equal(t, pos[0].Offset, b.UpTo)
		require.Less(t, time.Since(start), 5*time.Second)
	}
	add(t, l, recs("b", 0, 2500)...)
	late, lateEnded := follow(ctx, l, hub.Position{Epoch: epoch, Offset: 25})
	var got []hub.Record
	for b := range late {
		require.True(t, len(b.Records) > 0 || len(got) == 2525, "the empty batch comes last")
		if got = append(got, b.Records...); len(b.Records) == 0 {
			break
		}
	}
	require.Len(t, got, 2525)
	require.True(t, slices.IsSortedFunc(got, func(a, b hub.Record) int { return int(a.Offset) - int(b.Offset) }))
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.ErrorIs(t, <-lateEnded, context.Canceled)

	_, ended = follow(t.Context(), l, hub.Position{Epoch: epoch + 1})
	require.ErrorIs(t, <-ended, hub.ErrEpoch)
	stop := errors.New("stop")
	require.ErrorIs(t, l.Follow(t.Context(), hub.Position{Epoch: epoch}, func(hub.Batch) error { return stop }), stop)
	_, ended = follow(t.Context(), l, hub.Position{Epoch: epoch, Offset: 2550})
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-ended, ErrClosed)
}

func TestReadChecksItsPositions(t *testing.T) {
	t.Parallel()
	l := openLog(t, newPath(t), Config{})
	epoch := epochOf(t, l)
	last := add(t, l, recs("a", 1, 10)...)[9]
	_, err := l.Read(t.Context(), nil, hub.Position{Epoch: epoch + 1}, hub.Position{Epoch: epoch + 1, Offset: 10}, 5)
	require.ErrorIs(t, err, hub.ErrEpoch)
	_, err = l.Read(t.Context(), nil, hub.Position{Epoch: epoch}, hub.Position{Epoch: epoch + 1, Offset: 10}, 5)
	require.ErrorIs(t, err, hub.ErrEpoch)
	ahead := hub.Position{Epoch: epoch, Offset: last.Offset + 100}
	b, err := l.Read(t.Context(), nil, ahead, ahead, 5)
	require.NoError(t, err)
	require.Equal(t, hub.Batch{UpTo: ahead.Offset}, b)
	b, err = l.Read(t.Context(), []string{"nobody"}, hub.Position{Epoch: epoch}, ahead, 5)
	require.NoError(t, err)
	require.Equal(t, hub.Batch{UpTo: last.Offset}, b)
}

func TestEndedContextsAndClosedLogs(t *testing.T) {
	t.Parallel()
	l := openLog(t, newPath(t), Config{})
	pos := hub.Position{Epoch: epochOf(t, l)}
	calls := map[string]func(ctx context.Context) error{
		"Bounds": func(ctx context.Context) error { _, err := l.Bounds(ctx); return err },
		"Append": func(ctx context.Context) error { _, err := l.Append(ctx, recs("a", 0, 1)); return err },
		"Read":   func(ctx context.Context) error { _, err := l.Read(ctx, nil, pos, pos, 1); return err },
		"Find":   func(ctx context.Context) error { _, _, err := l.Find(ctx, "a", "1"); return err },
		"Follow": func(ctx context.Context) error { return l.Follow(ctx, pos, func(hub.Batch) error { return nil }) },
	}
	ended, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	for name, call := range calls {
		require.ErrorIs(t, call(ended), context.DeadlineExceeded, name)
	}
	require.Empty(t, all(t, l, 0))
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	for name, call := range calls {
		require.ErrorIs(t, call(t.Context()), ErrClosed, name)
	}
	_, err := os.Stat(l.path)
	require.NoError(t, err)
}
