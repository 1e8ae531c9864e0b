package boltlog

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse/hub"
)

// edit changes a closed file behind the Log's back.
func edit(t testing.TB, path string, f func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(f))
	require.NoError(t, db.Close())
}

// Files whose pages are in order, but whose contents do not fit together.
func TestContentsThatDoNotFit(t *testing.T) {
	t.Parallel()
	remove := func(tx *bbolt.Tx, bucket []byte) error {
		k, _ := tx.Bucket(bucket).Cursor().Last()
		return tx.Bucket(bucket).Delete(bytes.Clone(k))
	}
	for name, f := range map[string]func(tx *bbolt.Tx) error{
		"a record is missing":       func(tx *bbolt.Tx) error { return remove(tx, recordsBucket) },
		"an index entry is missing": func(tx *bbolt.Tx) error { return remove(tx, indexBucket) },
		"a key is missing":          func(tx *bbolt.Tx) error { return remove(tx, keysBucket) },
		"an index entry is of another topic": func(tx *bbolt.Tx) error {
			k, _ := tx.Bucket(indexBucket).Cursor().First()
			other := bytes.Clone(k)
			other[0] ^= 1
			return errors.Join(tx.Bucket(indexBucket).Put(other, nil), tx.Bucket(indexBucket).Delete(bytes.Clone(k)))
		},
		"a key is another record's": func(tx *bbolt.Tx) error {
			k, v := tx.Bucket(keysBucket).Cursor().First()
			at := keyOf(offsetIn(v)%50 + 1)
			return tx.Bucket(keysBucket).Put(bytes.Clone(k), at[:])
		},
		"the version is damaged": func(tx *bbolt.Tx) error {
			v := bytes.Clone(tx.Bucket(logBucket).Get(stateKey))
			v[7] ^= 3
			return tx.Bucket(logBucket).Put(stateKey, v)
		},
		"there is no state": func(tx *bbolt.Tx) error { return tx.Bucket(logBucket).Delete(stateKey) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			l := openLog(t, path, Config{})
			records := recs("a", 0, 150)
			for i := range records {
				records[i].Key = records[i].Event.Data
			}
			add(t, l, records...)
			require.NoError(t, l.Close())
			edit(t, path, f)
			_, err := Open(path, quiet(Config{}))
			_, ok := errors.AsType[*CorruptError](err)
			require.True(t, ok, err)
		})
	}
}

// A damaged record is told to every topic, since it may be of any; also after the records
// around it have come into the index, and until it is dropped.
func TestDamagedRecordIsTold(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	at := add(t, l, rec("a", "1"), rec("a", "2"), rec("b", "3"))[1]
	require.NoError(t, l.Close())
	edit(t, path, func(tx *bbolt.Tx) error {
		key := keyOf(at.Offset)
		v := bytes.Clone(tx.Bucket(recordsBucket).Get(key[:]))
		v[len(v)-1] ^= 1
		return tx.Bucket(recordsBucket).Put(key[:], v)
	})
	cfg := Config{indexEvery: 4, MaxEvents: 6}
	l = openLog(t, path, cfg)
	for range 2 {
		for topic, want := range map[string]int{"a": 2, "b": 2, "nobody": 1} {
			records := all(t, l, 0, topic)[:want]
			told := 0
			for _, r := range records {
				if r.Kind == hub.InvalidRecord {
					require.Equal(t, at.Offset, r.Offset)
					told++
				}
			}
			require.Equal(t, 1, told, topic)
		}
		add(t, l, rec("a", "4"), rec("a", "5")) // flushes the first time
	}
	add(t, l, recs("a", 0, 20)...)
	require.NoError(t, l.Close())
	openLog(t, path, cfg) // it is dropped, with all that pointed to it
}

func TestRecordInAnothersPlaceIsDamaged(t *testing.T) {
	t.Parallel()
	r := rec("a", "1")
	it, err := encode(&r)
	require.NoError(t, err)
	it.complete(7, 1)
	require.Equal(t, hub.EventRecord, decode(7, it.value).Kind)
	require.Equal(t, hub.InvalidRecord, decode(8, it.value).Kind)
}

// What tells the mark file that the bolt file is an older state.
func TestMisfit(t *testing.T) {
	t.Parallel()
	s := state{Last: 10, Reserved: 100, Mark: 7, OldMark: 6}
	id := identity{1, 2}
	fits := mark{file: id, mark: 7, reserved: 100, last: 10}
	require.Empty(t, fits.misfit(&s, id))
	for name, m := range map[string]mark{
		"another inode":   {identity{3, 2}, 7, 100, 10},
		"another birth":   {identity{1, 3}, 7, 100, 10},
		"another mark":    {id, 8, 100, 10},
		"a later offset":  {id, 7, 100, 11},
		"a later block":   {id, 7, 101, 10},
		"later, old mark": {id, 6, 100, 11},
	} {
		require.NotEmpty(t, m.misfit(&s, id), name)
	}
	for name, m := range map[string]mark{
		"unknown birth": {identity{1, 0}, 7, 100, 10},
		"behind":        {id, 7, 50, 5},
		"old mark":      {id, 6, 200, 10},
	} {
		require.Empty(t, m.misfit(&s, id), name)
	}
}

// In a new epoch too, no offset is used that may have been used before.
func TestOffsetsGoOnInANewEpoch(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	add(t, l, rec("a", "1"))
	copyFile(t, path, path+".backup")
	last := add(t, l, recs("a", 0, 3*blockSize)...)[3*blockSize-1].Offset
	abandon(t, l)
	copyFile(t, path+".backup", path)
	require.Greater(t, add(t, openLog(t, path, Config{}), rec("a", "2"))[0].Offset, last)
}

// A key is forgotten with its event, also before it is in the index.
func TestKeyOfADroppedEventIsForgotten(t *testing.T) {
	t.Parallel()
	l := openLog(t, newPath(t), Config{MaxEvents: 10, indexEvery: 1000})
	keyed := rec("a", "x")
	keyed.Key = "k"
	first := add(t, l, keyed)[0]
	require.Equal(t, first, add(t, l, keyed)[0])
	add(t, l, recs("a", 0, 20)...)
	require.Less(t, first.Offset, l.newest.Load().First)
	again := add(t, l, keyed)[0]
	require.Greater(t, again.Offset, first.Offset)
	require.Equal(t, again, add(t, l, keyed)[0])
}
