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

const (
	visitsPerTopic = 4  // looking for a topic in the index costs about as much as going through so many records
	leastVisits    = 64 // after so many it is known how many records are of the topics
	dense          = 4  // if every so many is, the index costs more than going through all
)

// of adds the records of the topics to b, after b.UpTo. It goes through all records, as long as
// enough of them are of the topics, and where there is no index yet: after the offset indexed.
// Otherwise it uses the index.
func (p *page) of(b *hub.Batch, topics []string, indexed uint64) {
	byHash := make(map[hash]string, len(topics)+1)
	for _, topic := range topics {
		byHash[hashTopic(topic)] = topic
	}
	visits := max(leastVisits, visitsPerTopic*len(byHash))
	upTo := min(indexed, p.upTo)
	for found := visits; b.UpTo < upTo && found*dense >= visits; {
		before := len(b.Records)
		p.all(b, byHash, visits)
		if p.full(b) || b.UpTo == p.upTo {
			return
		}
		found = len(b.Records) - before
	}
	if b.UpTo < upTo && !p.merged(b, byHash, upTo) {
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
//
// It looks at a stretch of the log at a time, for all topics, until it has a page. Otherwise a
// topic with few records would be read far beyond where the page ends.
func (p *page) places(topics map[hash]string, after, upTo uint64) (places []place, complete bool) {
	ahead := make([]topicAhead, 0, len(topics)+1)
	ahead = append(ahead, topicAhead{noTopic, after + 1})
	for h := range topics {
		ahead = append(ahead, topicAhead{h, after + 1})
	}
	// In this order, the index is read forwards; and no order that an application could
	// choose makes each topic push out what the one before it had.
	slices.SortFunc(ahead, func(a, b topicAhead) int { return bytes.Compare(a.topic[:], b.topic[:]) })
	c := p.tx.Bucket(indexBucket).Cursor()
	last, complete := after+min(upTo-after, 2*uint64(p.limit)), true
	shorten := func() {
		slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.offset, b.offset) })
		if len(places) > p.limit {
			places = places[:p.limit]
			last, complete = places[p.limit-1].offset, false
		}
	}
	for {
		for i := range ahead {
			places = ahead[i].collect(c, places, last, p.limit)
			if len(places) >= 2*p.limit {
				shorten()
			}
		}
		if len(places) >= p.limit || last == upTo {
			complete = complete && last == upTo
			break
		}
		last += min(upTo-last, stretch(last-after, len(places), p.limit))
	}
	shorten()
	return places, complete
}

// stretch returns how many offsets to look at next for limit places, if n were found in the
// first seen.
func stretch(seen uint64, n, limit int) uint64 {
	if n == 0 {
		return 8 * seen
	}
	return min(8*seen, seen*uint64(limit-n)/uint64(n)*5/4+1)
}

// topicAhead is a topic, and the lowest offset at which the index may have a record of it that
// was not collected.
type topicAhead struct {
	topic hash
	next  uint64
}

// collect adds the places of the topic up to the offset last, but not many more than limit.
func (t *topicAhead) collect(c *bbolt.Cursor, places []place, last uint64, limit int) []place {
	if t.next > last {
		return places
	}
	first, n := indexKey(t.topic, t.next), 0
	for k, _ := c.Seek(first[:]); len(k) == len(first) && bytes.HasPrefix(k, t.topic[:]); k, _ = c.Next() {
		if t.next = offsetOf(k); t.next > last || n > limit {
			return places
		}
		n++
		places = append(places, place{t.next, t.topic})
	}
	t.next = none
	return places
}
