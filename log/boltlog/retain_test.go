package boltlog

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// counts returns the numbers of entries in the buckets records, index and keys.
func counts(t testing.TB, l *Log) (n [3]int) {
	t.Helper()
	require.NoError(t, l.db.View(func(tx *bbolt.Tx) error {
		for i, name := range [][]byte{recordsBucket, indexBucket, keysBucket} {
			n[i] = tx.Bucket(name).Stats().KeyN
		}
		return nil
	}))
	return n
}

func TestOldestEventsAreDropped(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"by events": {MaxEvents: 100},
		"by bytes":  {MaxBytes: 100 * 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			cfg.indexEvery = 60
			l := openLog(t, path, cfg)
			epoch := epochOf(t, l)
			var batch []hub.Record
			for i := range 1000 {
				r := rec(fmt.Sprint("t", i%7), strings.Repeat("d", 40))
				r.Key, r.Event.ID = fmt.Sprint("k", i), fmt.Sprint("id", i%500)
				if batch = append(batch, r); len(batch) == 10 {
					add(t, l, batch...)
					batch = nil
				}
			}
			n := counts(t, l)
			require.InDelta(t, 95, n[0], 15)
			require.Less(t, n[1], n[0], "the newest are not in the index yet")
			require.Equal(t, 2*n[1], n[2])
			b, err := l.Bounds(t.Context())
			require.NoError(t, err)
			require.Equal(t, uint64(1000), b.Last)
			require.Equal(t, b.Last-uint64(n[0])+1, b.First)
			for _, topics := range [][]string{nil, {"t1"}, {"nobody"}} {
				_, err = l.Read(t.Context(), topics, hub.Position{Epoch: epoch, Offset: b.First - 2}, hub.Position{Epoch: epoch, Offset: none}, 10)
				truncated, ok := errors.AsType[*hub.TruncatedError](err)
				require.True(t, ok, err)
				require.Equal(t, b.First, truncated.First)
				_, err = l.Read(t.Context(), topics, hub.Position{Epoch: epoch, Offset: b.First - 1}, hub.Position{Epoch: epoch, Offset: none}, 10)
				require.NoError(t, err)
			}
			_, ended := follow(t.Context(), l, hub.Position{Epoch: epoch, Offset: 1})
			_, ok := errors.AsType[*hub.TruncatedError](<-ended)
			require.True(t, ok)
			_, ok, err = l.Find(t.Context(), "t0", "id0")
			require.NoError(t, err)
			require.False(t, ok)
			again := rec("t0", "again")
			again.Key = "k0"
			require.Equal(t, uint64(1001), add(t, l, again)[0].Offset, "its key was forgotten with it")
			require.NoError(t, l.Close())
			openLog(t, path, cfg) // it is checked
		})
	}
}

// Offsets that were skipped after a crash are not missing.
func TestTruncationIsExactAtAHole(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{MaxEvents: 10})
	epoch := epochOf(t, l)
	add(t, l, recs("a", 0, 10)...)
	abandon(t, l)
	l = openLog(t, path, Config{MaxEvents: 10})
	require.Equal(t, epoch, epochOf(t, l))
	first := add(t, l, recs("a", 10, 10)...)[0].Offset
	require.Greater(t, first, uint64(4000))
	read := func(after uint64) error {
		_, err := l.Read(t.Context(), nil, hub.Position{Epoch: epoch, Offset: after}, hub.Position{Epoch: epoch, Offset: none}, 10)
		return err
	}
	_, ok := errors.AsType[*hub.TruncatedError](read(9))
	require.True(t, ok)
	require.NoError(t, read(10), "10 was the last before the hole")
	require.NoError(t, read(first-1))
}

func TestOldEventsAreDroppedWithoutAppends(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64 // of the machine's clock
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	l, err := openAt(newPath(t), quiet(Config{MaxAge: time.Second}), now)
	require.NoError(t, err)
	defer l.Close()
	add(t, l, recs("a", 0, 5000)...)
	testkit.Eventually(t, func() bool { return l.newest.Load().Events == 0 }, "all events to be dropped")
	b, err := l.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, hub.Bounds{Epoch: b.Epoch, First: 5001, Last: 5000}, b)
	require.Equal(t, [3]int{}, counts(t, l))
	require.Equal(t, uint64(5001), add(t, l, rec("a", "x"))[0].Offset)
}

// A file that is opened with a lower bound is cut in many transactions. Appends go on.
func TestLowerBound(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	for i := range 20 {
		add(t, l, recs("a", 1000*i, 1000)...)
	}
	require.NoError(t, l.Close())
	l = openLog(t, path, Config{MaxEvents: 100})
	commits := l.newest.Load()
	add(t, l, rec("a", "x"))
	testkit.Eventually(t, func() bool { return l.newest.Load().Events <= 100 }, "the events to be dropped")
	require.Equal(t, uint64(20_000), commits.Last)
	require.NoError(t, l.Close())
	l = openLog(t, path, Config{MaxEvents: 100})
	require.InDelta(t, 95, counts(t, l)[0], 5)
}

// What is dropped while it is followed is told, and not skipped.
func TestTruncationWhileFollowing(t *testing.T) {
	t.Parallel()
	l := openLog(t, newPath(t), Config{MaxEvents: 50})
	epoch := epochOf(t, l)
	add(t, l, recs("a", 0, 10)...)
	goOn, at := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		first := true
		ended <- l.Follow(t.Context(), hub.Position{Epoch: epoch}, func(hub.Batch) error {
			if first {
				close(at)
				<-goOn
			}
			first = false
			return nil
		})
	}()
	<-at
	for range 10 {
		add(t, l, recs("a", 0, 10)...)
	}
	close(goOn)
	truncated, ok := errors.AsType[*hub.TruncatedError](<-ended)
	require.True(t, ok)
	require.Equal(t, l.newest.Load().First, truncated.First)
	require.Greater(t, truncated.First, uint64(60))
}
