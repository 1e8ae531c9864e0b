package boltlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
)

// damagedFile is a closed file, which is damaged again and again.
type damagedFile struct {
	path        string
	whole, mark []byte
	epoch       uint64
	want        []hub.Record
}

// newDamagedFile makes a file, with what fill appends to it.
func newDamagedFile(t testing.TB, cfg Config, fill func(l *Log)) *damagedFile {
	t.Helper()
	d := &damagedFile{path: newPath(t)}
	l := openLog(t, d.path, cfg)
	fill(l)
	d.epoch, d.want = epochOf(t, l), all(t, l, l.newest.Load().Dropped)
	require.NoError(t, l.Close())
	var err error
	d.whole, err = os.ReadFile(d.path)
	require.NoError(t, err)
	d.mark, err = os.ReadFile(d.path + markSuffix)
	require.NoError(t, err)
	return d
}

// try makes b the contents of the file, and opens it. Either Open refuses it as damaged, and
// leaves it as it is, or the Log has all that was acknowledged, except for records that it says
// are invalid, in the same epoch. It reports whether the file was refused.
func (d *damagedFile) try(t testing.TB, b []byte, what string) (refused bool) {
	t.Helper()
	require.NoError(t, os.WriteFile(d.path, b, 0o600)) // the same inode
	require.NoError(t, os.WriteFile(d.path+markSuffix, d.mark, 0o600))
	l, err := Open(d.path, quiet(Config{MaxEvents: -1}))
	if err != nil {
		_, ok := errors.AsType[*CorruptError](err)
		require.True(t, ok, "%s: %v", what, err)
		after, err := os.ReadFile(d.path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(b, after), "%s: a file that is refused is not changed", what)
		return true
	}
	defer l.Close()
	require.Equal(t, d.epoch, epochOf(t, l), what)
	got := all(t, l, l.newest.Load().Dropped)
	require.Len(t, got, len(d.want), what)
	for i, r := range got {
		if r.Kind == hub.InvalidRecord {
			r = d.want[i]
			r.Offset = got[i].Offset
		}
		if r != d.want[i] { // require.Equal takes much longer
			require.Equal(t, d.want[i], r, what)
		}
	}
	return false
}

// A file is cut at the boundary of each page, next to it, and within the page. What is left is
// the whole log, because only room for later was cut, or it is refused.
func TestCutFile(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(l *Log){
		"few": func(l *Log) { add(t, l, recs("a", 0, 10)...) },
		"many": func(l *Log) {
			for i := range 10 {
				add(t, l, recs(fmt.Sprint("t", i%3), 100*i, 100)...)
			}
			add(t, l, rec("a", strings.Repeat("large", 5000)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDamagedFile(t, Config{}, fill)
			page := os.Getpagesize()
			refused, kept := 0, 0
			for at := 0; at < len(d.whole); at += page {
				sizes := []int{at, at + 1, at + 12, at + 50, at + 100, at + page/2, at + page - 1}
				if kept > 20 { // it is only room for later
					sizes = sizes[1:2]
				}
				for _, size := range sizes {
					if d.try(t, d.whole[:size], fmt.Sprint("cut to ", size, " of ", len(d.whole))) {
						refused++
					} else {
						kept++
					}
				}
			}
			t.Log(refused, "refused,", kept, "whole")
			require.Positive(t, refused)
			require.Positive(t, kept)
		})
	}
}

// A byte is changed, or a page is lost, in every page of a log: in those of each kind at many
// places, and in the others of that kind at a few.
func TestDamagedPages(t *testing.T) {
	t.Parallel()
	d := newDamagedFile(t, Config{MaxEvents: 1000}, func(l *Log) {
		for i := range 12 {
			batch := recs(fmt.Sprint("t", i%3), 100*i, 100)
			for k := range batch {
				batch[k].Key = fmt.Sprint("k", i, k)
			}
			add(t, l, batch...)
		}
		add(t, l, rec("a", strings.Repeat("large", 5000)))
	})
	f, err := os.Open(d.path)
	require.NoError(t, err)
	defer f.Close()
	c := &checker{file: pages{file: f, size: int64(len(d.whole))}}
	require.NoError(t, c.check())
	size := int(c.file.pageSize)
	const every = 7
	kinds, refused := map[string]int{}, map[string]int{}
	for id := range int(c.file.high) {
		page := d.whole[id*size:][:size]
		kind := map[uint16]string{branchPage: "branch", leafPage: "leaf"}[order.Uint16(page[8:])]
		switch {
		case id < 2:
			kind = "meta"
		case !c.file.seen[id]:
			kind = "free"
		case order.Uint64(page) != uint64(id):
			kind = "overflow"
		}
		kinds[kind]++
		places := make([]int, 0, size)
		for at := range size {
			switch { // the head of the page, of its first elements, and the rest
			case at < 16, at < 80 && at%every == 0, at%(97*every) == 0:
				places = append(places, at)
			}
		}
		if kind == "leaf" && kinds[kind] > 5 || kinds[kind] > 2 && kind != "leaf" { // there are many
			places = places[id%8:][:every]
		}
		for _, at := range places {
			damage := []byte{1, 0x80, 0xFF}[(id+at)%3]
			d.whole[id*size+at] ^= damage
			if d.try(t, d.whole, fmt.Sprintf("%s page %d, byte %d", kind, id, at)) {
				refused[kind]++
			}
			d.whole[id*size+at] ^= damage
		}
		b := slices.Clone(d.whole)
		clear(b[id*size:][:size])
		if d.try(t, b, fmt.Sprintf("%s page %d is zero", kind, id)) {
			refused[kind]++
		}
	}
	t.Log(kinds, "refused:", refused)
	for _, kind := range []string{"meta", "branch", "leaf"} {
		require.Positive(t, refused[kind], kind)
	}
	for _, kind := range []string{"free", "overflow"} {
		require.Positive(t, kinds[kind], kind)
		require.Zero(t, refused[kind], kind)
	}
}

// Without a mark file, too, a file that has lost all of its buckets is not a new one.
func TestFileWithoutBuckets(t *testing.T) {
	t.Parallel()
	d := newDamagedFile(t, Config{}, func(l *Log) { add(t, l, rec("a", "1")) })
	f, err := os.Open(d.path)
	require.NoError(t, err)
	defer f.Close()
	p := pages{file: f, size: int64(len(d.whole))}
	root, err := p.root()
	require.NoError(t, err)
	d.whole[int64(root.page)*p.pageSize+10] = 0 // the number of elements
	d.mark = nil
	require.True(t, d.try(t, d.whole, "no buckets"))
}

// A process that makes a file where another one was deleted may crash at once. The mark file is
// then not taken for that of the new file, which would be one that has lost everything.
func TestDeletedFileLeavesNoMark(t *testing.T) {
	t.Parallel()
	d := newDamagedFile(t, Config{}, func(l *Log) { add(t, l, rec("a", "1")) })
	require.NoError(t, os.Remove(d.path))
	l := &Log{path: d.path, cfg: quiet(Config{}).withDefaults()}
	f, fresh, err := l.openFile()
	require.NoError(t, err)
	require.True(t, fresh)
	require.NoError(t, f.Close())
	require.NoFileExists(t, d.path+markSuffix)
	require.Empty(t, all(t, openLog(t, d.path, Config{}), 0))
}
