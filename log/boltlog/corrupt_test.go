package boltlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// makeFile makes a file with records of several topics, with keys and ids, some of which were
// dropped, and returns what is in it.
func makeFile(t testing.TB, path string) (epoch uint64, records map[uint64]hub.Record) {
	t.Helper()
	l := openLog(t, path, Config{MaxEvents: 600})
	for i := range 30 {
		batch := make([]hub.Record, 30)
		for j := range batch {
			batch[j] = rec(fmt.Sprint("topic", j%7), fmt.Sprint(i, "-", j, strings.Repeat("d", 20*j)))
			if j%2 == 0 {
				batch[j].Key = fmt.Sprint("k", i, j)
			}
			if j%3 == 0 {
				batch[j].Event.ID = fmt.Sprint("id", i, j)
			}
		}
		add(t, l, batch...)
	}
	add(t, l, rec("topic1", strings.Repeat("large", 5000)), rec("topic1", "last"))
	epoch, records = epochOf(t, l), map[uint64]hub.Record{}
	for _, r := range all(t, l, l.newest.Load().Dropped) {
		records[r.Offset] = r
	}
	require.NoError(t, l.Close())
	return epoch, records
}

// Bytes are flipped, or zeroed by the page, or the file is cut, at random places. Whatever can
// still be read is right: a record is as it was, or told to be invalid, or the whole file is
// refused, or it is another epoch. SSE_BOLTLOG_DAMAGES says how often; 150 times without it.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	rounds := 150
	if n, err := strconv.Atoi(os.Getenv("SSE_BOLTLOG_DAMAGES")); err == nil {
		rounds = n
	}
	path := newPath(t)
	epoch, want := makeFile(t, path)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	wholeMark, err := os.ReadFile(path + markSuffix)
	require.NoError(t, err)
	id := func() identity {
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		id, err := identify(f)
		require.NoError(t, err)
		return id
	}
	original := id()
	outcomes := map[string]int{}
	for i := range rounds {
		r := rand.New(rand.NewPCG(uint64(i), 7))
		b := damage(r, whole)
		require.NoError(t, os.WriteFile(path, b, 0o600))
		require.NoError(t, os.WriteFile(path+markSuffix, wholeMark, 0o600))
		require.Equal(t, original, id())
		outcome := readDamaged(t, path, epoch, want, fmt.Sprint("round ", i))
		outcomes[outcome]++
		if outcome == "refused" {
			after, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, crc32.ChecksumIEEE(b), crc32.ChecksumIEEE(after), "round %d: a file that is refused is not changed", i)
		}
	}
	t.Log(outcomes)
	require.Positive(t, outcomes["refused"])
	require.Positive(t, outcomes["invalid records"])
}

// damage returns a copy of b that is damaged.
func damage(r *rand.Rand, b []byte) []byte {
	b = append([]byte(nil), b...)
	used := 60 * 4096 // bbolt makes the file longer than it needs
	used = min(used, len(b))
	switch page := 4096 * r.IntN(used/4096); r.IntN(6) {
	case 0: // a bit
		b[r.IntN(used)] ^= 1 << r.IntN(8)
	case 1: // some bytes
		for range 1 + r.IntN(20) {
			b[r.IntN(used)] = byte(r.IntN(256))
		}
	case 2: // in the head of a page, or its elements
		for range 1 + r.IntN(3) {
			b[page+r.IntN(64)] ^= byte(1 + r.IntN(255))
		}
	case 3: // a page gets lost
		clear(b[page:][:4096])
	case 4: // a page is written to a wrong place
		copy(b[page:][:4096], b[4096*r.IntN(used/4096):][:4096])
	case 5: // the file is cut
		b = b[:r.IntN(len(b))]
	}
	return b
}

// readDamaged opens the file and reads all that there is, in every way. It returns how that
// went.
func readDamaged(t *testing.T, path string, epoch uint64, want map[uint64]hub.Record, round string) string {
	t.Helper()
	l, err := Open(path, quiet(Config{MaxEvents: 600}))
	if err != nil {
		_, isCorrupt := errors.AsType[*CorruptError](err)
		_, isFormat := errors.AsType[*FormatError](err)
		require.True(t, isCorrupt || isFormat, "%s: %v", round, err)
		return "refused"
	}
	defer l.Close()
	now := epochOf(t, l)
	outcome := "as it was"
	if now != epoch {
		outcome = "new epoch"
	}
	s := l.newest.Load()
	found := map[uint64]bool{}
	invalid := 0
	check := func(got hub.Record, topic string) {
		if got.Kind == hub.InvalidRecord {
			invalid++
			require.Contains(t, []string{topic, ""}, got.Topic, round)
			return
		}
		if w, ok := want[got.Offset]; ok {
			if w != got { // require.Equal takes much longer
				require.Equal(t, w, got, round)
			}
			return
		}
		require.NotEqual(t, epoch, now, "%s: offset %d was never used, or was dropped", round, got.Offset)
	}
	for _, r := range all(t, l, s.Dropped) {
		found[r.Offset] = true
		check(r, "")
	}
	if now == epoch {
		require.Len(t, found, len(want), "%s: all are there, or told of", round)
	}
	byTopic := map[uint64]bool{}
	for topic := range 8 {
		name := fmt.Sprint("topic", topic)
		for _, r := range all(t, l, s.Dropped, name) {
			byTopic[r.Offset] = true
			check(r, name)
		}
	}
	require.Len(t, byTopic, len(found), "%s: the topics have all records", round)
	for _, w := range want {
		if w.Event.ID == "" || now != epoch {
			continue
		}
		pos, ok, err := l.Find(t.Context(), w.Topic, w.Event.ID)
		if _, isCorrupt := errors.AsType[*CorruptError](err); isCorrupt {
			continue
		}
		require.NoError(t, err, round)
		require.True(t, !ok || pos.Offset == w.Offset, round)
		_ = ok
	}
	for range 6 { // it goes on, and drops damaged records
		if _, err := l.Append(t.Context(), recs("topic1", 0, 150)); err != nil {
			_, isCorrupt := errors.AsType[*CorruptError](err)
			require.True(t, isCorrupt, "%s: %v", round, err)
			return "refused later"
		}
	}
	require.NoError(t, l.Close(), round)
	again, err := Open(path, quiet(Config{MaxEvents: 600}))
	require.NoError(t, err, round)
	require.NoError(t, again.Close())
	if invalid > 0 && outcome == "as it was" {
		return "invalid records"
	}
	return outcome
}

// A record that a newer version has written cannot be decoded, but it can be told of and
// dropped.
func TestRecordOfANewerForm(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{MaxEvents: 5})
	newer := rec("a", "newer")
	newer.Key = "k"
	first := add(t, l, rec("a", "1"), newer, rec("b", "2"))
	require.NoError(t, l.Close())
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(recordsBucket)
		at := keyOf(first[1].Offset)
		v := append([]byte(nil), b.Get(at[:])...)
		v[headSize+16] = 2
		binary.BigEndian.PutUint32(v, checksum(first[1].Offset, v))
		return b.Put(at[:], v)
	}))
	require.NoError(t, db.Close())
	l = openLog(t, path, Config{MaxEvents: 5, indexEvery: 2})
	kinds := func(topics ...string) (kinds []hub.RecordKind) {
		for _, r := range all(t, l, 0, topics...) {
			kinds = append(kinds, r.Kind)
		}
		return kinds
	}
	require.Equal(t, []hub.RecordKind{hub.EventRecord, hub.InvalidRecord, hub.EventRecord}, kinds())
	require.Equal(t, []hub.RecordKind{hub.EventRecord, hub.InvalidRecord}, kinds("a"))
	require.Equal(t, []hub.RecordKind{hub.EventRecord}, kinds("b"))
	require.Equal(t, first[1], add(t, l, newer)[0], "its key is known")
	add(t, l, rec("a", "3"))
	require.Equal(t, []hub.RecordKind{hub.EventRecord, hub.InvalidRecord, hub.EventRecord}, kinds("a"), "now by the index")
	add(t, l, recs("a", 0, 20)...)
	require.Equal(t, [3]int{5, 5, 0}, counts(t, l))
}

// What is damaged while the file is open is an error too: a page of the mapping is gone.
func TestFileIsCutWhileItIsOpen(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := openLog(t, path, Config{})
	for range 20 {
		add(t, l, hub.Record{Topic: "a", Event: sse.Event{Data: strings.Repeat("x", 50_000)}})
	}
	epoch := epochOf(t, l)
	require.NoError(t, os.Truncate(path, 5*4096))
	_, err := l.Read(t.Context(), nil, hub.Position{Epoch: epoch}, hub.Position{Epoch: epoch, Offset: none}, 100)
	_, ok := errors.AsType[*CorruptError](err)
	require.True(t, ok, err)
	err = l.Follow(t.Context(), hub.Position{Epoch: epoch}, func(hub.Batch) error { return context.Canceled })
	_, ok = errors.AsType[*CorruptError](err)
	require.True(t, ok, err)
	for range 2 {
		_, err = l.Append(t.Context(), recs("a", 0, 1))
		_, ok = errors.AsType[*CorruptError](err)
		require.True(t, ok, err)
		require.NotErrorIs(t, err, hub.ErrUnknown)
	}
	_, ok = errors.AsType[*CorruptError](l.Close())
	require.True(t, ok)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, int64(5*4096), info.Size(), "what is missing is not filled with zeros")
	_, err = Open(path, quiet(Config{}))
	_, ok = errors.AsType[*CorruptError](err)
	require.True(t, ok, err)
}
