package boltlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/hub"
)

// A record in the file is a head and the form that hub.Record gives itself. The head is all
// that dropping the record needs. So a version of the program that cannot decode the record,
// because a newer one has written it, can drop it.
//
//	checksum  4 bytes, of the offset and all that follows
//	flags     1 byte: hasKey, hasID
//	time      8 bytes, nanoseconds since 1970
//	topic     16 bytes, a hash
//	key       16 bytes, a hash, if hasKey
//	id        16 bytes, a hash, if hasID
//	record    the rest; its own time is zero
const (
	hasKey = 1 << iota
	hasID  // an own id that is not the key too
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hash is the first half of a SHA-256, so that nobody can find two texts with the same one.
type hash [16]byte

func hashTopic(topic string) hash {
	sum := sha256.Sum256([]byte(topic))
	return hash(sum[:16])
}

// hashIn returns the hash of a text of the topic. kind says what it is: hasKey or hasID.
func hashIn(kind byte, topic, text string) hash {
	b := make([]byte, 0, 128)
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(len(topic)))
	b = append(append(b, topic...), text...)
	sum := sha256.Sum256(b)
	return hash(sum[:16])
}

// head is the head of a record.
type head struct {
	flags byte
	time  uint64
	topic hash
	key   hash
	id    hash
}

const (
	sumSize  = 4
	headSize = sumSize + 1 + 8 + 16 // without key and id
)

// item is a record that is about to be appended.
type item struct {
	head
	value []byte // all but the checksum and the time is set
}

// recordSize returns how much a record is held to take in the file, in bytes, besides its
// entry in the bucket keys: the value, its key and the key of the index, and what bbolt adds.
func recordSize(value []byte) uint64 { return uint64(len(value)) + 64 }

// encode returns the item for rec.
func encode(rec *hub.Record) (item, error) {
	if rec.Event.ResetID {
		return item{}, &event.FieldError{Field: "ResetID", Offset: -1, Reason: "must be false in a record: a log cannot hold it"}
	}
	it := item{head: head{topic: hashTopic(rec.Topic)}}
	size := headSize + 32 + 64 + len(rec.Topic) + len(rec.Key) + len(rec.Event.ID) + len(rec.Event.Name) + len(rec.Event.Comment) + len(rec.Event.Data)
	b := make([]byte, sumSize+1+8, size)
	b = append(b, it.topic[:]...)
	if rec.Key != "" {
		it.flags |= hasKey
		it.key = hashIn(hasKey, rec.Topic, rec.Key)
		b = append(b, it.key[:]...)
	}
	if rec.Event.ID != "" && rec.Event.ID != rec.Key {
		it.flags |= hasID
		it.id = hashIn(hasID, rec.Topic, rec.Event.ID)
		b = append(b, it.id[:]...)
	}
	b[sumSize] = it.flags
	stored := *rec
	stored.Time = time.Unix(0, 0)
	var err error
	it.value, err = stored.AppendBinary(b)
	return it, err
}

// complete sets what is known only when the record is appended.
func (it *item) complete(offset, now uint64) {
	it.time = now
	binary.BigEndian.PutUint64(it.value[sumSize+1:], now)
	binary.BigEndian.PutUint32(it.value, checksum(offset, it.value))
}

// checksum returns the checksum of a record. The offset is part of it, so that a record in
// another's place is noticed.
func checksum(offset uint64, value []byte) uint32 {
	at := keyOf(offset)
	return crc32.Update(crc32.Checksum(at[:], castagnoli), castagnoli, value[sumSize:])
}

// keyOf returns the key of a record in the bucket records.
func keyOf(offset uint64) (key [8]byte) {
	binary.BigEndian.PutUint64(key[:], offset)
	return key
}

// indexKey returns the key of a record in the bucket index.
func indexKey(topic hash, offset uint64) (key [24]byte) {
	copy(key[:], topic[:])
	binary.BigEndian.PutUint64(key[16:], offset)
	return key
}

// offsetIn returns the offset in the first 8 bytes of b, or 0 if it is damaged.
func offsetIn(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// open checks the checksum of a record, and returns its head and what follows it. ok is false
// if the record is damaged; the head is then zero.
func open(offset uint64, value []byte) (h head, rest []byte, ok bool) {
	if len(value) < headSize || binary.BigEndian.Uint32(value) != checksum(offset, value) {
		return h, nil, false
	}
	h.flags = value[sumSize]
	h.time = binary.BigEndian.Uint64(value[sumSize+1:])
	h.topic = hash(value[headSize-16:])
	rest = value[headSize:]
	for _, part := range [...]struct {
		flag byte
		hash *hash
	}{{hasKey, &h.key}, {hasID, &h.id}} {
		if h.flags&part.flag == 0 {
			continue
		}
		if len(rest) < len(part.hash) {
			return head{}, nil, false
		}
		*part.hash = hash(rest)
		rest = rest[len(part.hash):]
	}
	return h, rest, true
}

// decode returns the record, which shares no memory with value. A damaged one, or one of a
// form that this program does not know, is an InvalidRecord.
func decode(offset uint64, value []byte) hub.Record {
	h, rest, ok := open(offset, value)
	if !ok {
		return hub.Record{Kind: hub.InvalidRecord, Offset: offset}
	}
	return decodeRest(offset, &h, rest)
}

// decodeRest returns the record with the head that rest follows.
func decodeRest(offset uint64, h *head, rest []byte) hub.Record {
	rec := hub.Record{Offset: offset}
	_ = rec.UnmarshalBinary(rest) // if it fails, rec is an InvalidRecord
	rec.Time = time.Unix(0, int64(h.time))
	return rec
}

// has reports whether the record with the head has the hash as that of its key or own id.
func (h *head) has(sum hash) bool {
	return h.flags&hasKey != 0 && bytes.Equal(h.key[:], sum[:]) || h.flags&hasID != 0 && bytes.Equal(h.id[:], sum[:])
}
