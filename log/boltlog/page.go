package boltlog

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/chi-sse/sse/hub"
)

// page reads a page of records in a transaction.
type page struct {
	tx    *bbolt.Tx
	after uint64
	upTo  uint64 // at least after
	limit int    // at most so many records, at least 1

	size int // of the records so far, in bytes
}

// all reads the records of the topics with the hashes, or of all if topics is nil, by going
// through all records, but no more than visits of them.
func (p *page) all(topics map[hash]string, visits int) (b hub.Batch) {
	c := p.tx.Bucket(recordsBucket).Cursor()
	first := keyOf(p.after + 1)
	b.UpTo = p.after
	for k, v := c.Seek(first[:]); k != nil; k, v = c.Next() {
		offset := offsetIn(k)
		switch {
		case offset > p.upTo:
			b.UpTo = p.upTo
			return b
		case visits == 0 || p.full(&b):
			return b
		}
		visits--
		b.UpTo = offset
		if topics == nil {
			p.add(&b, offset, v, "")
		} else if h, _, ok := open(offset, v); !ok {
			p.add(&b, offset, v, "") // of one of the topics, perhaps
		} else if topic, ok := topics[h.topic]; ok {
			p.add(&b, offset, v, topic)
		}
	}
	b.UpTo = p.upTo
	return b
}

// full reports whether b is as large as a page may be.
func (p *page) full(b *hub.Batch) bool { return len(b.Records) >= p.limit || p.size >= pageSize }

// add adds a record, which belongs to topic if that is not empty.
func (p *page) add(b *hub.Batch, offset uint64, value []byte, topic string) {
	rec := decode(offset, value)
	if topic != "" && rec.Topic != topic {
		rec = hub.Record{Kind: hub.InvalidRecord, Topic: topic, Offset: offset, Time: rec.Time}
	}
	b.Records = append(b.Records, rec)
	p.size += len(value)
}

// Looking into the index of a topic costs about as much as going through so many records.
const visitsPerTopic = 4

// of reads the records of the topics.
func (p *page) of(topics []string) hub.Batch {
	byHash := make(map[hash]string, len(topics))
	for _, topic := range topics {
		byHash[hashTopic(topic)] = topic
	}
	if few := 64; len(byHash) <= few {
		return p.merged(byHash)
	}
	// With many topics, most records may well be of one of them. If not, it has cost as much
	// as the index will.
	b := p.all(byHash, visitsPerTopic*len(byHash))
	if len(b.Records) > 0 || b.UpTo == p.upTo {
		return b
	}
	p.after = b.UpTo
	return p.merged(byHash)
}

// merged reads the records of the topics by the index.
func (p *page) merged(topics map[hash]string) (b hub.Batch) {
	places, complete := p.places(topics)
	records := seeker{cursor: p.tx.Bucket(recordsBucket).Cursor()}
	for i := range places {
		if p.full(&b) {
			return b
		}
		place := &places[i]
		p.add(&b, place.offset, records.get(place.offset), topics[place.topic])
		b.UpTo = place.offset
	}
	if complete {
		b.UpTo = p.upTo
	}
	return b
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

// places returns the first records of the topics, in their order. complete reports that there
// are no more.
func (p *page) places(topics map[hash]string) (places []place, complete bool) {
	hashes := make([]hash, 0, len(topics))
	for h := range topics {
		hashes = append(hashes, h)
	}
	// In this order, the index is read forwards; and no order that an application could
	// choose makes each topic push out what the one before it had.
	slices.SortFunc(hashes, func(a, b hash) int { return bytes.Compare(a[:], b[:]) })
	c := p.tx.Bucket(indexBucket).Cursor()
	found := newest{}
	last, complete := p.upTo, true
	for _, h := range hashes {
		first := indexKey(h, p.after+1)
		for k, _ := c.Seek(first[:]); len(k) == len(first) && bytes.HasPrefix(k, h[:]); k, _ = c.Next() {
			offset := binary.BigEndian.Uint64(k[16:])
			if offset > last {
				break
			}
			if len(hashes) == 1 {
				if len(found) == p.limit {
					return found, false
				}
				found = append(found, place{offset, h})
				continue
			}
			heap.Push(&found, place{offset, h})
			if len(found) > p.limit {
				heap.Pop(&found)
				last, complete = found[0].offset, false
			}
		}
	}
	slices.SortFunc(found, func(a, b place) int {
		if a.offset < b.offset {
			return -1
		}
		return 1
	})
	return found, complete
}

// newest is a heap with the newest place on top.
type newest []place

func (h newest) Len() int           { return len(h) }
func (h newest) Less(i, j int) bool { return h[i].offset > h[j].offset }
func (h newest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *newest) Push(x any)        { *h = append(*h, x.(place)) }
func (h *newest) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	*h = (*h)[:last]
	return p
}
