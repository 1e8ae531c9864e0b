package boltlog

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"

	"go.etcd.io/bbolt"
)

// The buckets index and keys follow the records at a distance. An entry for each record in
// its own transaction would write a page for each topic and for each key, because they lie
// all over the buckets. So the entries of a few thousand records are made at once.
//
// Whoever looks for a topic or a key goes through the records that are not in the buckets
// yet, after state.Indexed. For the keys of these, the writer has Log.recent.

// indexEvery is how many offsets may be without entries, unless a test says less.
const indexEvery = 4096

// noTopic stands in the index for the topic of damaged records, whose head is zero. They may
// be of any topic.
var noTopic hash

// recentKeys returns the keys of the records without entries.
func recentKeys(tx *bbolt.Tx, s *state) map[hash]uint64 {
	recent := make(map[hash]uint64)
	eachUnindexed(tx.Bucket(recordsBucket), s, func(offset uint64, h *head, _ bool) {
		for _, sum := range h.sums() {
			recent[sum] = offset
		}
	})
	return recent
}

// eachUnindexed calls f with all records that are not in the index. If not ok, the record is
// damaged, and its head is zero.
func eachUnindexed(records *bbolt.Bucket, s *state, f func(offset uint64, h *head, ok bool)) {
	c := records.Cursor()
	first := keyOf(s.Indexed + 1)
	for k, v := c.Seek(first[:]); k != nil; k, v = c.Next() {
		offset := offsetIn(k)
		h, _, ok := open(offset, v)
		f(offset, &h, ok)
	}
}

// entry is an entry of the bucket index or keys.
type entry struct{ key, value []byte }

func compareKeys(a, b entry) int { return bytes.Compare(a.key, b.key) }

// flush makes the entries of all records that have none.
func (w *writing) flush() error {
	offsets := make(map[hash][]uint64) // by topic; they rise
	var keys []entry
	var texts []byte // of the entries: few allocations
	keep := func(b []byte) []byte {
		if len(texts)+len(b) > cap(texts) {
			texts = make([]byte, 0, 1<<16)
		}
		texts = append(texts, b...)
		return texts[len(texts)-len(b):]
	}
	eachUnindexed(w.records, &w.state, func(offset uint64, h *head, _ bool) {
		offsets[h.topic] = append(offsets[h.topic], offset)
		at := keyOf(offset)
		for _, sum := range h.sums() {
			keys = append(keys, entry{keep(sum[:]), keep(at[:])})
		}
	})
	// In this order, each page is looked for once.
	for _, topic := range slices.SortedFunc(maps.Keys(offsets), func(a, b hash) int { return bytes.Compare(a[:], b[:]) }) {
		for _, offset := range offsets[topic] {
			key := indexKey(topic, offset)
			w.state.Sum += entry{key: key[:]}.sum()
			if err := w.index.Put(key[:], nil); err != nil {
				return err
			}
		}
	}
	slices.SortStableFunc(keys, compareKeys)
	for _, e := range keys {
		if old := w.keys.Get(e.key); old == nil {
			w.state.Keys++
		} else { // an event with the same own id
			w.state.Sum -= entry{e.key, old}.sum()
		}
		w.state.Sum += e.sum()
		if err := w.keys.Put(e.key, e.value); err != nil {
			return err
		}
	}
	w.state.Indexed = w.state.Last
	w.flushed = true
	return nil
}

// unindex removes the entries of the record at the offset, which has the head and is in the
// index. If not ok, it is damaged.
func (w *writing) unindex(offset uint64, h *head, ok bool) error {
	if !ok {
		return w.unindexDamaged(offset)
	}
	key, at := indexKey(h.topic, offset), keyOf(offset)
	w.state.Sum -= entry{key: key[:]}.sum()
	if err := w.index.Delete(key[:]); err != nil {
		return err
	}
	for _, sum := range h.sums() {
		if !bytes.Equal(w.keys.Get(sum[:]), at[:]) {
			continue // it is that of a later event
		}
		w.state.Keys--
		w.state.Sum -= entry{sum[:], at[:]}.sum()
		if err := w.keys.Delete(sum[:]); err != nil {
			return err
		}
	}
	return nil
}

// unindexDamaged searches for what points to the record at the offset, and removes it. It
// reads both buckets, which takes long and happens once for each damaged record.
func (w *writing) unindexDamaged(offset uint64) error {
	at := keyOf(offset)
	if _, err := w.removeIf(w.index, func(e entry) bool { return bytes.HasSuffix(e.key, at[:]) }); err != nil {
		return err
	}
	n, err := w.removeIf(w.keys, func(e entry) bool { return bytes.Equal(e.value, at[:]) })
	w.state.Keys -= uint64(n)
	return err
}

// removeIf removes those entries of b for which f returns true, and returns their number.
func (w *writing) removeIf(b *bbolt.Bucket, f func(e entry) bool) (n int, err error) {
	var found [][]byte
	err = b.ForEach(func(k, v []byte) error {
		if e := (entry{k, v}); f(e) {
			found = append(found, bytes.Clone(k))
			w.state.Sum -= e.sum()
		}
		return nil
	})
	for _, k := range found {
		if err == nil {
			err = b.Delete(k)
		}
	}
	return len(found), err
}

// sum returns what e adds to state.Sum.
func (e entry) sum() uint64 {
	sum := fnv.New64a()
	sum.Write(e.key)
	sum.Write(e.value)
	return sum.Sum64()
}

// offsetOf returns the offset in a key of the bucket index.
func offsetOf(indexKey []byte) uint64 { return binary.BigEndian.Uint64(indexKey[16:]) }
