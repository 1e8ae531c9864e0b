package boltlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// openWith opens a log whose commits go through commit.
func openWith(t testing.TB, path string, commit func(*bbolt.Tx) error) *Log {
	t.Helper()
	l := openLog(t, path, Config{})
	l.mu.Lock() // the writer has looked at nothing yet
	l.commit = commit
	l.mu.Unlock()
	return l
}

// held makes each commit wait until the test lets it go on.
func held(t testing.TB, path string) (l *Log, begun, goOn chan struct{}) {
	t.Helper()
	begun, goOn = make(chan struct{}, 1000), make(chan struct{})
	return openWith(t, path, func(tx *bbolt.Tx) error {
		begun <- struct{}{}
		<-goOn
		return tx.Commit()
	}), begun, goOn
}

func TestConcurrentAppendsShareATransaction(t *testing.T) {
	t.Parallel()
	l, begun, goOn := held(t, newPath(t))
	var appends sync.WaitGroup
	var mu sync.Mutex
	byOffset := map[uint64]string{}
	start := func(n int) {
		appends.Go(func() {
			records := recs(fmt.Sprint("t", n), 10*n, 3)
			positions, err := l.Append(t.Context(), records)
			mu.Lock()
			defer mu.Unlock()
			if assert.NoError(t, err) {
				assert.Equal(t, positions[0].Offset+2, positions[2].Offset, "no others between")
				for i, pos := range positions {
					byOffset[pos.Offset] = records[i].Event.Data
				}
			}
		})
	}
	start(0)
	<-begun
	for n := range 99 {
		start(n + 1)
	}
	testkit.Eventually(t, func() bool { return l.queued() == 99 }, "the appends to wait")
	close(goOn)
	appends.Wait()
	require.Zero(t, l.queued())
	require.Len(t, begun, 1, "99 appends are one transaction")
	records := all(t, l, 0)
	require.Len(t, records, 300)
	for _, r := range records {
		require.Equal(t, byOffset[r.Offset], r.Event.Data)
	}
}

func TestContextThatEndsWhileWaiting(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l, begun, goOn := held(t, path)
	started, cancelStarted := context.WithCancel(t.Context())
	waiting, cancelWaiting := context.WithCancel(t.Context())
	errs := [2]chan error{make(chan error, 1), make(chan error, 1)}
	go func() { _, err := l.Append(started, recs("a", 1, 1)); errs[0] <- err }()
	<-begun
	go func() { _, err := l.Append(waiting, recs("a", 2, 1)); errs[1] <- err }()
	testkit.Eventually(t, func() bool { return l.queued() == 1 }, "the append to wait")
	cancelStarted()
	cancelWaiting()
	err := <-errs[0]
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, hub.ErrUnknown, "it is being committed")
	err = <-errs[1]
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, hub.ErrUnknown, "it was not begun")
	close(goOn)
	add(t, l, rec("a", "3"))
	require.Equal(t, []string{"1", "3"}, texts(all(t, l, 0)))
}

func TestCloseWhileAppendsWait(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l, begun, goOn := held(t, path)
	var errs [10]error
	var appends sync.WaitGroup
	appends.Go(func() { _, errs[0] = l.Append(t.Context(), recs("a", 0, 1)) })
	<-begun
	for i := range errs[1:] {
		appends.Go(func() { _, errs[i+1] = l.Append(t.Context(), recs("a", i+1, 1)) })
	}
	testkit.Eventually(t, func() bool { return l.queued() == 9 }, "the appends to wait")
	time.AfterFunc(50*time.Millisecond, func() { close(goOn) })
	require.NoError(t, l.Close())
	appends.Wait()
	require.NoError(t, errs[0])
	for _, err := range errs[1:] {
		require.ErrorIs(t, err, ErrClosed)
	}
	require.Equal(t, []string{"0"}, texts(all(t, openLog(t, path, Config{}), 0)))
}

// A commit fails before it is on the disk, or its last step fails.
func TestFailedCommits(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	var before, after atomic.Pointer[error]
	l := openWith(t, path, func(tx *bbolt.Tx) error {
		if err := before.Load(); err != nil {
			return errors.Join(*err, tx.Rollback())
		}
		err := tx.Commit()
		if failed := after.Load(); failed != nil {
			return *failed
		}
		return err
	})
	add(t, l, rec("a", "1"))
	for _, cause := range []error{syscall.ENOSPC, errors.New("file resize error: truncate x: no space left on device"), syscall.EDQUOT} {
		before.Store(&cause)
		_, err := l.Append(t.Context(), recs("a", 2, 1))
		_, ok := errors.AsType[*FullError](err)
		require.True(t, ok, err)
		require.NotErrorIs(t, err, hub.ErrUnknown)
	}
	other := error(syscall.EIO)
	before.Store(&other)
	_, err := l.Append(t.Context(), recs("a", 2, 1))
	require.ErrorIs(t, err, syscall.EIO)
	require.NotErrorIs(t, err, hub.ErrUnknown)
	before.Store(nil)
	add(t, l, rec("a", "3"))

	after.Store(&other)
	_, err = l.Append(t.Context(), recs("a", 4, 1))
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorIs(t, err, hub.ErrUnknown)
	after.Store(nil)
	_, err = l.Append(t.Context(), recs("a", 5, 1))
	require.ErrorContains(t, err, "close the log and open it again")
	require.NotErrorIs(t, err, hub.ErrUnknown, "this one was not begun")
	_, err = l.Read(t.Context(), nil, hub.Position{Epoch: epochOf(t, l)}, hub.Position{Epoch: epochOf(t, l), Offset: none}, 10)
	require.NoError(t, err)
	require.Error(t, l.Close())
	l = openLog(t, path, Config{})
	require.Equal(t, []string{"1", "3", "4"}, texts(all(t, l, 0)))
	require.Greater(t, add(t, l, rec("a", "6"))[0].Offset, uint64(4000), "what may have been used is not used again")
}

// A panic within bbolt, as damaged pages make it.
func TestPanicInACommit(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openWith(t, path, func(*bbolt.Tx) error { panic("page 7: has unexpected type") })
	_, err := l.Append(t.Context(), recs("a", 1, 1))
	require.ErrorIs(t, err, hub.ErrUnknown)
	_, ok := errors.AsType[*CorruptError](err)
	require.True(t, ok, err)
	_, err = l.Append(t.Context(), recs("a", 1, 1))
	_, ok = errors.AsType[*CorruptError](err)
	require.True(t, ok, err)
	require.Empty(t, all(t, l, 0), "it can be read")
	require.Error(t, l.Close())
	require.Empty(t, all(t, openLog(t, path, Config{}), 0))
}

// An offset is reserved in an earlier transaction than the one that uses it, and in the mark
// file, also if a batch is larger than a block.
func TestOffsetsAreReservedBefore(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	var l *Log
	l = openWith(t, path, func(tx *bbolt.Tx) error {
		s, _ := stateOf(tx)
		require.NoError(t, l.db.View(func(earlier *bbolt.Tx) error {
			before, _ := stateOf(earlier)
			assert.LessOrEqual(t, s.Last, before.Reserved)
			return nil
		}))
		m, ok := readMark(l.marks)
		assert.True(t, ok)
		assert.LessOrEqual(t, s.Last, m.reserved)
		assert.LessOrEqual(t, m.last, s.Last)
		return tx.Commit()
	})
	for range 40 {
		add(t, l, recs("a", 0, 1+int(l.newest.Load().Last)%5000)...)
		s := l.newest.Load()
		require.GreaterOrEqual(t, s.Reserved, s.Last+blockSize/2, "and some for later")
	}
	add(t, l, recs("a", 0, 3*blockSize)...)
}

// The last transaction gets lost, although it was acknowledged: the meta page that it had
// written is damaged, and bbolt goes back to the one before.
func TestLostTransactionDoesNotMakeOffsetsComeTwice(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	epoch := epochOf(t, l)
	used := map[hub.Position]bool{}
	for range 5 {
		for _, pos := range add(t, l, recs("a", 0, 1500)...) {
			require.False(t, used[pos])
			used[pos] = true
		}
		abandon(t, l)
		flip(t, path, newerMeta(t, path)+50)
		_, err := Open(path, quiet(Config{}))
		_, ok := errors.AsType[*CorruptError](err)
		require.True(t, ok, err)
		require.ErrorContains(t, err, "delete the mark file")
		require.NoError(t, os.Remove(path+markSuffix))
		l = openLog(t, path, Config{})
		require.NotEqual(t, epoch, epochOf(t, l), "and it is told")
		epoch = epochOf(t, l)
		require.Less(t, uint64(len(used)), l.next)
	}
	// If the mark file had been lost with it, and had the state of then, nothing would tell.
	old, err := os.ReadFile(path + markSuffix)
	require.NoError(t, err)
	last := add(t, l, recs("a", 0, 1500)...)[1499].Offset
	abandon(t, l)
	flip(t, path, newerMeta(t, path)+50)
	require.NoError(t, os.WriteFile(path+markSuffix, old, 0o600))
	l = openLog(t, path, Config{})
	require.Equal(t, epoch, epochOf(t, l))
	require.Greater(t, add(t, l, rec("a", "x"))[0].Offset, last)
}
