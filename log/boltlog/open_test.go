package boltlog

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse/hub"
)

func TestReopenedLogContinues(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	epoch := epochOf(t, l)
	b, err := l.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1), b.First)
	require.Zero(t, b.Last)
	for i := range 3 {
		require.Equal(t, uint64(10*i+1), add(t, l, recs("a", 10*i, 10)...)[0].Offset, "no offset is skipped after Close")
		require.NoError(t, l.Close())
		l = openLog(t, path, Config{})
		require.Equal(t, epoch, epochOf(t, l))
	}
	require.Len(t, all(t, l, 0), 30)
	require.NoError(t, l.Close())
	require.NoError(t, openLog(t, path, Config{}).Close(), "no append between")
	require.Equal(t, uint64(31), add(t, openLog(t, path, Config{}), rec("a", "x"))[0].Offset)
}

func TestLockedFile(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	for wait, least := range map[time.Duration]time.Duration{-1: 0, 100 * time.Millisecond: 100 * time.Millisecond, 0: DefaultLockTimeout} {
		start := time.Now()
		_, err := Open(path, quiet(Config{LockTimeout: wait}))
		locked, ok := errors.AsType[*LockedError](err)
		require.True(t, ok, err)
		require.Equal(t, path, locked.Path)
		require.ErrorContains(t, err, "raise Config.LockTimeout")
		require.GreaterOrEqual(t, time.Since(start), least)
	}
	add(t, l, rec("a", "it goes on"))
	time.AfterFunc(100*time.Millisecond, func() { l.Close() })
	again := openLog(t, path, Config{LockTimeout: 30 * time.Second})
	require.Len(t, all(t, again, 0), 1)
}

// Files that cannot be opened, and what is said of them. They stay as they are.
func TestOtherFilesAreRefused(t *testing.T) {
	t.Parallel()
	withBolt := func(t *testing.T, path string, f func(tx *bbolt.Tx) error) {
		t.Helper()
		db, err := bbolt.Open(path, 0o600, nil)
		require.NoError(t, err)
		require.NoError(t, db.Update(f))
		require.NoError(t, db.Close())
	}
	cases := map[string]struct {
		make func(t *testing.T, path string)
		text string
	}{
		"text": {func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.WriteFile(path, []byte("hello"), 0o600))
		}, "is not a log"},
		"large": {func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.WriteFile(path, make([]byte, maxBlank+1), 0o600))
		}, "is not a log"},
		"other bolt file": {func(t *testing.T, path string) {
			t.Helper()
			withBolt(t, path, func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("users"))
				return err
			})
		}, "is not a log"},
		"newer format": {func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, openLog(t, path, Config{}).Close())
			withBolt(t, path, func(tx *bbolt.Tx) error {
				b := tx.Bucket(logBucket)
				v := append([]byte(nil), b.Get(stateKey)...)
				v[7] = 2
				return b.Put(stateKey, append(v, "more"...))
			})
		}, "has the format 2, and this program knows 1"},
		"cut": {func(t *testing.T, path string) {
			t.Helper()
			l := openLog(t, path, Config{})
			add(t, l, recs("a", 0, 1000)...)
			require.NoError(t, l.Close())
			require.NoError(t, os.Truncate(path, 50_000))
		}, "is damaged: it has been cut"},
		"no meta pages": {func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, openLog(t, path, Config{}).Close())
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			b[30]++
			b[os.Getpagesize()+30]++
			require.NoError(t, os.WriteFile(path, b, 0o600))
		}, "both meta pages are damaged"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			c.make(t, path)
			before, err := os.ReadFile(path)
			require.NoError(t, err)
			_, err = Open(path, quiet(Config{}))
			require.ErrorContains(t, err, c.text)
			require.ErrorContains(t, err, path)
			_, isFormat := errors.AsType[*FormatError](err)
			_, isCorrupt := errors.AsType[*CorruptError](err)
			require.True(t, isFormat || isCorrupt)
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, before, after)
		})
	}
	_, err := Open(t.TempDir(), Config{})
	require.Error(t, err)
	_, err = Open(filepath.Join(t.TempDir(), "none", "x"), Config{})
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A process may have crashed while it made the file.
func TestFileThatWasHardlyMade(t *testing.T) {
	t.Parallel()
	for name, create := range map[string]func(path string) error{
		"empty": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"zeros": func(path string) error { return os.WriteFile(path, make([]byte, 16384), 0o600) },
		"bolt": func(path string) error {
			db, err := bbolt.Open(path, 0o600, nil)
			if err == nil {
				err = db.Close()
			}
			return err
		},
	} {
		path := newPath(t)
		require.NoError(t, create(path))
		l := openLog(t, path, Config{})
		add(t, l, rec("a", name))
		require.NoError(t, l.Close())
		require.Equal(t, []string{name}, texts(all(t, openLog(t, path, Config{}), 0)))
	}
}

// A file that bbolt's own tool has compacted has a list of free pages. It is another file, so
// another epoch.
func TestCompactedFile(t *testing.T) {
	t.Parallel()
	path, small := newPath(t), newPath(t)
	l := openLog(t, path, Config{MaxEvents: 500})
	epoch := epochOf(t, l)
	for range 10 {
		add(t, l, recs("a", 0, 300)...)
	}
	want := all(t, l, l.newest.Load().Dropped)
	require.NoError(t, l.Close())
	from, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	to, err := bbolt.Open(small, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, bbolt.Compact(to, from, 0))
	require.NoError(t, from.Close())
	require.NoError(t, to.Close())
	require.NoError(t, os.Rename(small, path))
	l = openLog(t, path, Config{MaxEvents: 500})
	require.NotEqual(t, epoch, epochOf(t, l))
	require.Equal(t, want, all(t, l, l.newest.Load().Dropped))
	add(t, l, recs("a", 0, 300)...)
}

// What makes another epoch, and what does not. Each case gets a file with 10 records, whose
// Log is closed or was killed, and a copy of it that was made after 5 of them.
func TestEpochs(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		do   func(t *testing.T, path, backup string)
		same bool
	}{
		"nothing":             {func(*testing.T, string, string) {}, true},
		"owner and mode":      {func(t *testing.T, path, _ string) { t.Helper(); require.NoError(t, os.Chmod(path, 0o640)) }, true},
		"moved with its mark": {moveBoth, true},
		"backup copied into":  {func(t *testing.T, path, backup string) { t.Helper(); copyFile(t, backup, path) }, false},
		"backup moved there":  {func(t *testing.T, path, backup string) { t.Helper(); require.NoError(t, os.Rename(backup, path)) }, false},
		"copy moved there": {func(t *testing.T, path, backup string) {
			t.Helper()
			copyFile(t, path, backup)
			require.NoError(t, os.Rename(backup, path))
		}, false},
		"no mark file":        {func(t *testing.T, path, _ string) { t.Helper(); require.NoError(t, os.Remove(path+markSuffix)) }, false},
		"damaged mark file":   {func(t *testing.T, path, _ string) { t.Helper(); flip(t, path+markSuffix, 20) }, false},
		"empty mark file":     {func(t *testing.T, path, _ string) { t.Helper(); require.NoError(t, os.Truncate(path+markSuffix, 0)) }, false},
		"deleted":             {func(t *testing.T, path, _ string) { t.Helper(); require.NoError(t, os.Remove(path)) }, false},
		"both copied with cp": {copyBoth, false},
		"newer meta page and mark file lost": {func(t *testing.T, path, _ string) {
			t.Helper()
			flip(t, path, newerMeta(t, path)+40)
			require.NoError(t, os.Remove(path+markSuffix))
		}, false},
	}
	for name, c := range cases {
		for _, killed := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " after a kill"}[killed], func(t *testing.T) {
				t.Parallel()
				path, backup := newPath(t), filepath.Join(t.TempDir(), "backup")
				l := openLog(t, path, Config{})
				epoch := epochOf(t, l)
				add(t, l, recs("a", 0, 5)...)
				copyFile(t, path, backup)
				last := add(t, l, recs("a", 5, 5)...)[4].Offset
				if killed {
					abandon(t, l)
				} else {
					require.NoError(t, l.Close())
				}
				c.do(t, path, backup)
				if _, err := os.Stat(path); name != "deleted" && err != nil {
					path = filepath.Join(filepath.Dir(path), "moved")
				}
				l = openLog(t, path, Config{})
				require.Equal(t, c.same, epoch == epochOf(t, l))
				epoch = epochOf(t, l)
				next := add(t, l, rec("a", "next"))[0].Offset
				if name != "deleted" {
					require.Greater(t, next, last, "an offset is not used twice, in whatever epoch")
				}
				require.NoError(t, l.Close())
				require.Equal(t, epoch, epochOf(t, openLog(t, path, Config{})), "only once")
			})
		}
	}
}

// abandon leaves l's files as a killed process does, and makes the lock free.
func abandon(t testing.TB, l *Log) {
	t.Helper()
	path := l.path
	dead := t.TempDir()
	for _, suffix := range []string{"", markSuffix} {
		copyFile(t, path+suffix, filepath.Join(dead, "copy"+suffix))
	}
	require.NoError(t, l.Close())
	for _, suffix := range []string{"", markSuffix} {
		copyFile(t, filepath.Join(dead, "copy"+suffix), path+suffix) // into the same inode
	}
}

func moveBoth(t *testing.T, path, _ string) {
	t.Helper()
	for _, suffix := range []string{"", markSuffix} {
		require.NoError(t, os.Rename(path+suffix, filepath.Join(filepath.Dir(path), "moved")+suffix))
	}
}

func copyBoth(t *testing.T, path, _ string) {
	t.Helper()
	for _, suffix := range []string{"", markSuffix} {
		copyFile(t, path+suffix, path+".copy"+suffix)
	}
	for _, suffix := range []string{"", markSuffix} {
		require.NoError(t, os.Remove(path+suffix))
		require.NoError(t, os.Rename(path+".copy"+suffix, path+suffix))
	}
}

// flip changes a byte of the file.
func flip(t testing.TB, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[at] ^= 0x55
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// newerMeta returns the place of the meta page of the last transaction.
func newerMeta(t testing.TB, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	p := pages{file: f, size: 1 << 40}
	size := int64(os.Getpagesize())
	if order.Uint64(p.meta(size)[48:]) > order.Uint64(p.meta(0)[48:]) {
		return size
	}
	return 0
}

// The process dies while it opens or closes the Log, between the two files.
func TestCrashBetweenTheFilesIsNoNewEpoch(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	epoch := epochOf(t, l)
	add(t, l, recs("a", 0, 5)...)
	old, err := os.ReadFile(path + markSuffix)
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.NoError(t, os.WriteFile(path+markSuffix, old, 0o600)) // Close has not come to it
	l = openLog(t, path, Config{})
	require.Equal(t, epoch, epochOf(t, l))
	require.NoError(t, l.Close())
	old, err = os.ReadFile(path + markSuffix)
	require.NoError(t, err)
	l = openLog(t, path, Config{})
	abandon(t, l)
	require.NoError(t, os.WriteFile(path+markSuffix, old, 0o600)) // Open has not come to it
	require.Equal(t, epoch, epochOf(t, openLog(t, path, Config{})))
}

func TestMovedFileTakesNoRecords(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(path string) error{
		"deleted": os.Remove,
		"replaced": func(path string) error {
			return exec.Command("cp", "--remove-destination", path+markSuffix, path).Run()
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			l := openLog(t, path, Config{})
			add(t, l, rec("a", "1"))
			require.NoError(t, do(path))
			_, err := l.Append(t.Context(), recs("a", 2, 1))
			_, ok := errors.AsType[*MovedError](err)
			require.True(t, ok, err)
			require.Len(t, all(t, l, 0), 1, "it can be read")
			require.ErrorContains(t, l.Close(), "has been deleted")
		})
	}
}

// The clock is set back by an hour, while the Log is open and while it is not.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	var machine atomic.Int64 // without Go's monotonic reading
	machine.Store(time.Now().UnixNano())
	now := func() time.Time { return time.Unix(0, machine.Load()) }
	cfg := quiet(Config{MaxAge: 10 * time.Minute})
	l, err := openAt(path, cfg, now)
	require.NoError(t, err)
	add(t, l, rec("a", "1"))
	machine.Add(-int64(time.Hour))
	add(t, l, rec("a", "2"))
	machine.Add(int64(5 * time.Minute))
	add(t, l, rec("a", "3"))
	require.NoError(t, l.Close())
	machine.Add(-int64(time.Hour))
	l, err = openAt(path, cfg, now)
	require.NoError(t, err)
	defer func() { l.Close() }()
	add(t, l, rec("a", "4"))
	records := all(t, l, 0)
	require.Equal(t, []string{"1", "2", "3", "4"}, texts(records))
	for i, r := range records[1:] {
		require.False(t, r.Time.Before(records[i].Time))
		require.Equal(t, records[i].Offset+1, r.Offset)
	}
	machine.Add(int64(6 * time.Minute))
	add(t, l, rec("a", "5"))
	require.Equal(t, []string{"3", "4", "5"}, texts(all(t, l, l.newest.Load().Dropped)), "11 minutes have passed since the first two")
}

// A backup is written over the file while it is open. Nothing of it is taken for the log, and the
// next process begins another epoch.
func TestBackupOverAnOpenFile(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	epoch := epochOf(t, l)
	add(t, l, recs("a", 0, 5)...)
	copyFile(t, path, path+".backup")
	last := add(t, l, recs("a", 5, 5)...)[4]
	copyFile(t, path+".backup", path)
	for range 2 {
		_, err := l.Read(t.Context(), nil, hub.Position{Epoch: epoch}, last, 100)
		_, ok := errors.AsType[*MovedError](err)
		require.True(t, ok, err)
		_, err = l.Append(t.Context(), recs("a", 10, 1))
		_, ok = errors.AsType[*MovedError](err)
		require.True(t, ok, err)
		require.NotErrorIs(t, err, hub.ErrUnknown)
	}
	_, ok := errors.AsType[*MovedError](l.Close())
	require.True(t, ok)
	l = openLog(t, path, Config{})
	require.NotEqual(t, epoch, epochOf(t, l))
	require.Greater(t, add(t, l, rec("a", "next"))[0].Offset, last.Offset)
}

// Each opening and closing gives both files another mark.
func TestMarksChange(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	seen := map[uint64]bool{}
	check := func(l *Log) {
		m, ok := loadMark(path)
		require.True(t, ok)
		require.Equal(t, l.newest.Load().Mark, m.mark)
		require.False(t, seen[m.mark])
		seen[m.mark] = true
	}
	for range 3 {
		l := openLog(t, path, Config{})
		check(l)
		require.NoError(t, l.Close())
		check(l)
	}
}
