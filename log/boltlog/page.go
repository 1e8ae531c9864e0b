package boltlog

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse/hub"
)

// guessedRecords is for how many records a page has room at first.
const guessedRecords = 1024

// page reads a page of records in a transaction.
type page struct {
	tx    *bbolt.Tx
	upTo  uint64
	limit int // at most so many records, at least 1

	size int // of the records so far, in bytes
}

// all adds the records of the topics with the hashes, or of all if topics is nil, to b, after
// b.UpTo, by going through all records, but no more than visits of them.
func (p *page) all(b *hub.Batch, topics map[hash]string, visits int) {
	c := p.tx.Bucket(recordsBucket).Cursor()
	first := keyOf(b.UpTo + 1)
	if topics == nil {
		b.Records = slices.Grow(b.Records, int(min(uint64(p.limit), p.upTo-b.UpTo, guessedRecords)))
	}
	for k, v := c.Seek(first[:]); k != nil; k, v = c.Next() {
		offset := offsetIn(k)
		switch {
		case offset > p.upTo:
			b.UpTo = p.upTo
			return
		case visits == 0 || p.full(b):
			return
		}
		visits--
		b.UpTo = offset
		h, rest, ok := open(offset, v)
		topic, wanted := topics[h.topic]
		switch {
		case !ok: // of one of the topics, perhaps
			p.add(b, hub.Record{Kind: hub.InvalidRecord, Offset: offset}, "", len(v))
		case wanted || topics == nil:
			p.add(b, decodeRest(offset, &h, rest), topic, len(v))
		}
	}
	b.UpTo = p.upTo
}

// full reports whether b is as large as a page may be.
func (p *page) full(b *hub.Batch) bool { return len(b.Records) >= p.limit || p.size >= pageSize }

// add adds a record of the size in bytes, which belongs to topic if that is not empty.
func (p *page) add(b *hub.Batch, rec hub.Record, topic string, size int) {
	if topic != "" && rec.Topic != topic {
		rec = hub.Record{Kind: hub.InvalidRecord, Topic: topic, Offset: rec.Offset, Time: rec.Time}
	}
	b.Records = append(b.Records, rec)
	p.size += size
}

// Looking into the index of a topic costs about as much as going through so many records.
const visitsPerTopic = 4

// of adds the records of the topics to b, after b.UpTo: by the index those up to the offset indexed, and the
// rest by going through all.
func (p *page) of(b *hub.Batch, topics []string, indexed uint64) {
	byHash := make(map[hash]string, len(topics)+1)
	for _, topic := range topics {
		byHash[hashTopic(topic)] = topic
	}
	const few = 64
	if len(byHash) > few {
		// With many topics, most records may well be of one of them. If not, it has cost as
		// much as the index will.
		p.all(b, byHash, visitsPerTopic*len(byHash))
	}
	if len(byHash) > few && len(b.Records) > 0 {
		return
	}
	if upTo := min(indexed, p.upTo); b.UpTo < upTo && !p.merged(b, byHash, upTo) {
		return
	}
	p.all(b, byHash, math.MaxInt)
}

// merged adds records of the topics to b, after b.UpTo and up to upTo, by the index. It
// reports whether b has them all.
func (p *page) merged(b *hub.Batch, topics map[hash]string, upTo uint64) bool {
	places, complete := p.places(topics, b.UpTo, upTo)
	b.Records = slices.Grow(b.Records, len(places))
	records := seeker{cursor: p.tx.Bucket(recordsBucket).Cursor()}
	for i := range places {
		if p.full(b) {
			return false
		}
		place := &places[i]
		value := records.get(place.offset)
		p.add(b, decode(place.offset, value), topics[place.topic], len(value))
		b.UpTo = place.offset
	}
	if complete {
		b.UpTo = upTo
	}
	return complete
}

// seeker gets records whose offsets rise.
type seeker struct {
	cursor *bbolt.Cursor
	at     uint64 // offset of the record that the cursor is at, or 0
}

// get returns the value at the offset, or nil if there is none. Going on to a record that is
// near costs less than to seek it.
func (s *seeker) get(offset uint64) []byte {
	const near = 8
	want := keyOf(offset)
	var k, v []byte
	if s.at != 0 && offset-s.at <= near {
		for k, v = s.cursor.Next(); k != nil && bytes.Compare(k, want[:]) < 0; {
			k, v = s.cursor.Next()
		}
	} else {
		k, v = s.cursor.Seek(want[:])
	}
	if !bytes.Equal(k, want[:]) {
		s.at = 0
		return nil
	}
	s.at = offset
	return v
}

// place is a record of a topic.
type place struct {
	offset uint64
	topic  hash
}

// places returns the first records of the topics after the offset and up to upTo, and the
// damaged ones, in their order. complete reports that there are no more.
func (p *page) places(topics map[hash]string, after, upTo uint64) (places []place, complete bool) {
	hashes := make([]hash, 0, len(topics)+1)
	hashes = append(hashes, noTopic)
	for h := range topics {
		hashes = append(hashes, h)
	}
	// In this order, the index is read forwards; and no order that an application could
	// choose makes each topic push out what the one before it had.
	slices.SortFunc(hashes, func(a, b hash) int { return bytes.Compare(a[:], b[:]) })
	c := p.tx.Bucket(indexBucket).Cursor()
	last, complete := upTo, true
	shorten := func() {
		slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.offset, b.offset) })
		if len(places) > p.limit {
			places = places[:p.limit]
			last, complete = places[p.limit-1].offset, false
		}
	}
	for _, h := range hashes {
		first, n := indexKey(h, after+1), 0
		for k, _ := c.Seek(first[:]); len(k) == len(first) && bytes.HasPrefix(k, h[:]); k, _ = c.Next() {
			offset := offsetOf(k)
			if offset > last || n > p.limit {
				break
			}
			n++
			places = append(places, place{offset, h})
		}
		if len(places) >= 2*p.limit {
			shorten()
		}
	}
	shorten()
	return places, complete
}
