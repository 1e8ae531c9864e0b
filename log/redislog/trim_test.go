package redislog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/logkit"
)

// readFrom reads all after an offset, and returns the data, and whether there was a hole.
func readFrom(t testing.TB, l *Log, after uint64, topics ...string) (data []string, hole bool, err error) {
	t.Helper()
	b := bounds(t, l)
	for at := after; at < b.Last; {
		batch, err := l.Read(t.Context(), topics, hub.Position{Epoch: b.Epoch, Offset: at}, hub.Position{Epoch: b.Epoch, Offset: b.Last}, 100)
		if err != nil {
			return data, hole, err
		}
		require.Greater(t, batch.UpTo, at)
		data, hole, at = append(data, texts(batch.Records)...), hole || batch.Hole, batch.UpTo
	}
	return data, hole, nil
}

// The stream keeps as much as its bounds say, and little more. A client that has had the last
// event that was dropped has missed nothing; one that has had the event before has.
func TestBounds(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	text := strings.Repeat("x", 1000)
	for name, test := range map[string]struct {
		cfg        Config
		wait       time.Duration // between two appends
		n          int
		least, max int // how many records are left
	}{
		"no bound":   {Config{MaxEvents: -1, MaxBytes: -1, MaxAge: -1}, 0, 2000, 2000, 2000},
		"events":     {Config{MaxEvents: 500}, 0, 2000, 500, 515},
		"one event":  {Config{MaxEvents: 1}, 0, 100, 1, 2},
		"bytes":      {Config{MaxBytes: 100_000}, 0, 500, 90, 102},
		"age":        {Config{MaxAge: 500 * time.Millisecond}, 20 * time.Millisecond, 60, 10, 28},
		"everything": {Config{MaxEvents: 300, MaxBytes: 1 << 20, MaxAge: time.Hour}, 0, 2000, 300, 309},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.cfg.Name = newName()
			l := openLog(t, s.client(nil), test.cfg)
			var all []hub.Position
			for i := range test.n {
				r := rec("a", text)
				if i%10 == 0 {
					r = hub.Record{Kind: hub.ControlRecord, Event: sse.Event{Name: "order", Data: text}}
				}
				all = append(all, add(t, l, r)[0])
				time.Sleep(test.wait)
			}
			b := bounds(t, l)
			left := len(all)
			for all[len(all)-left].Offset < b.First {
				left--
			}
			require.GreaterOrEqual(t, left, test.least)
			require.LessOrEqual(t, left, test.max)
			require.Equal(t, b.First, all[len(all)-left].Offset)
			require.LessOrEqual(t, s.do("LLEN", l.keys[keyMarks]).(int64), int64(160))
			for _, topics := range [][]string{nil, {"a"}, {""}} {
				for i := range all {
					if i%50 > 0 && (i < len(all)-left-2 || i > len(all)-left+2) {
						continue
					}
					data, hole, err := readFrom(t, l, all[i].Offset, topics...)
					require.False(t, hole)
					if i >= len(all)-left-1 { // it has had the last one that was dropped
						require.NoError(t, err)
						want := 0
						for k := i + 1; k < len(all); k++ {
							if order := k%10 == 0; len(topics) == 0 || order == (topics[0] == "") {
								want++
							}
						}
						require.Len(t, data, want)
						continue
					}
					truncated, ok := errors.AsType[*hub.TruncatedError](err)
					require.True(t, ok, "%v", err)
					require.Equal(t, b.First, truncated.First)
				}
			}
		})
	}
}

// What somebody else drops from the stream is not missed in silence.
func TestForeignTrim(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := openLog(t, s.client(nil), Config{})
	all := add(t, l, recs("a", 0, 100)...)
	s.do("XTRIM", l.keys[keyEvents], "MAXLEN", "=", "40")
	b := bounds(t, l)
	require.Equal(t, all[60].Offset, b.First)
	_, _, err := readFrom(t, l, all[58].Offset)
	var truncated *hub.TruncatedError
	require.ErrorAs(t, err, &truncated)
	require.Equal(t, b.First, truncated.First)
	data, hole, err := readFrom(t, l, b.First-1)
	require.NoError(t, err)
	require.False(t, hole)
	require.Len(t, data, 40)
	err = l.Follow(t.Context(), all[58], func(hub.Batch) error { return nil })
	require.ErrorAs(t, err, &truncated)

	s.do("XTRIM", l.keys[keyEvents], "MAXLEN", "=", "0")
	b = bounds(t, l)
	require.Equal(t, hub.Bounds{Epoch: b.Epoch, First: all[99].Offset + 1, Last: all[99].Offset}, b)
	_, _, err = readFrom(t, l, all[98].Offset)
	require.ErrorAs(t, err, &truncated)
	f := logkit.Follow(t, l, all[99])
	add(t, l, rec("a", "next"))
	require.Equal(t, []string{"next"}, texts(f.Await(1)))
}

// An event that was deleted out of the middle is a hole, in each way to read.
func TestDeletedEvents(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := openLog(t, s.client(nil), Config{})
	all := add(t, l, recs("a", 0, 10)...)
	for _, i := range []int{4, 9} { // the second is the last one
		require.EqualValues(t, 1, s.do("XDEL", l.keys[keyEvents], idOf(all[i].Offset, l.base).String()))
		data, hole, err := readFrom(t, l, all[0].Offset)
		require.NoError(t, err)
		require.True(t, hole)
		require.Len(t, data, map[int]int{4: 8, 9: 7}[i])
		f := logkit.Follow(t, l, all[0])
		f.Await(7)
		require.Eventually(t, func() bool { return f.UpTo() == all[9].Offset }, 10*time.Second, time.Millisecond)
		require.NotEmpty(t, f.Holes())
		_, hole, err = readFrom(t, l, all[i].Offset)
		require.NoError(t, err)
		require.False(t, hole, "after it")
	}
	// A follower that waits goes on, although what it waits for is deleted before it comes.
	f := logkit.Follow(t, l, all[9])
	f.Await(0)
	c := s.client(nil)
	pipe := c.TxPipeline()
	pipe.Do(t.Context(), "XADD", l.keys[keyEvents], idOf(all[9].Offset+1<<30, l.base).String(), "e", "x")
	pipe.Do(t.Context(), "XDEL", l.keys[keyEvents], idOf(all[9].Offset+1<<30, l.base).String())
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return f.UpTo() == all[9].Offset+1<<30 }, 10*time.Second, time.Millisecond)
	require.Len(t, f.Holes(), 1)
}

// What is in the stream and no hub has written is left out if it is not an event, and an error if
// no hub could have added to the stream afterwards.
func TestForeignEntries(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := openLog(t, s.client(nil), Config{})
	start := bounds(t, l)
	add(t, l, rec("a", "1"))
	s.do("XADD", l.keys[keyEvents], "*", "field", "value")
	add(t, l, rec("a", "2"))
	data, _, err := readFrom(t, l, start.Last)
	require.NoError(t, err)
	require.Equal(t, []string{"1", "2"}, data)
	f := logkit.Follow(t, l, hub.Position{Epoch: start.Epoch, Offset: start.Last})
	require.Equal(t, []string{"1", "2"}, texts(f.Await(2)))

	s.do("XADD", l.keys[keyEvents], "18446744073709551615-1", "field", "value")
	require.ErrorContains(t, f.End(), "only hubs may add to it")
	_, err = l.Bounds(t.Context())
	require.ErrorContains(t, err, "18446744073709551615-1")
}

// If the server's clock was set back, ids count on in the last millisecond, and go to the next one
// before there is no room in an offset.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := openLog(t, s.client(nil), Config{})
	first := add(t, l, rec("a", "0"))[0]
	ahead := uint64(time.Now().Add(time.Hour).UnixMilli())
	newest := fmt.Sprintf("%d-%d", ahead, maxSeq-3000)
	s.do("XADD", l.keys[keyEvents], newest, "e", "x")
	s.do("HSET", l.keys[keyMeta], "last", newest)
	last := first.Offset
	for i := range 10 {
		for _, pos := range add(t, l, recs("a", i, 500)...) {
			require.Equal(t, first.Epoch, pos.Epoch)
			require.Greater(t, pos.Offset, last)
			last = pos.Offset
		}
	}
	require.Equal(t, ahead+1, idOf(last, l.base).ms)
	data, _, err := readFrom(t, l, first.Offset)
	require.NoError(t, err)
	require.Len(t, data, 5001)
}

// Keys are remembered for a while, and no more of them than is allowed.
func TestKeyWindow(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := openLog(t, s.client(nil), Config{MaxKeys: 100})
	keyed := func(i int) hub.Record { return hub.Record{Topic: "a", Key: fmt.Sprint(i)} }
	for i := range 1000 {
		first := add(t, l, keyed(i))[0]
		for _, k := range []int{i, i - 50, i - 99} {
			if k >= 0 {
				require.LessOrEqual(t, add(t, l, keyed(k))[0].Offset, first.Offset, "the key %d after %d", k, i)
			}
		}
		held := s.do("HLEN", l.keys[keyKeys]).(int64) + s.do("HLEN", l.keys[keyOldKeys]).(int64)
		require.LessOrEqual(t, held, int64(200))
	}
	require.EqualValues(t, 1000, s.do("XLEN", l.keys[keyEvents]))

	// The time at which the keys in use began is set back instead of waiting.
	back := func(windows float64) {
		s.do("HINCRBY", l.keys[keyMeta], "rotated", -int64(windows*float64(DefaultKeyWindow.Milliseconds())))
	}
	first := add(t, l, keyed(-1))[0]
	back(1.5)
	require.Equal(t, first, add(t, l, keyed(-1))[0], "it may be just as old as the window")
	back(1.5)
	add(t, l, keyed(-2))
	require.NotEqual(t, first, add(t, l, keyed(-1))[0])
	first = add(t, l, keyed(-3))[0]
	back(2.5)
	require.NotEqual(t, first, add(t, l, keyed(-3))[0], "nothing was appended for two windows")
}
