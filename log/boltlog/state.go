package boltlog

import (
	"encoding/binary"
	"hash/crc32"

	"go.etcd.io/bbolt"
)

// The file is a bbolt file with four buckets. All numbers are big-endian.
//
//	log      "state" → state
//	records  offset (8 bytes) → a record; see record.go
//	index    hash of the topic (16 bytes), offset (8 bytes) → nothing
//	keys     hash of topic and key, or of topic and own id (16 bytes) → offset (8 bytes)
//
// Only the records up to state.Indexed are in index and keys; see index.go.
var (
	logBucket     = []byte("log")
	recordsBucket = []byte("records")
	indexBucket   = []byte("index")
	keysBucket    = []byte("keys")

	stateKey = []byte("state")
)

// formatVersion is the version of all that. It is the first number of the state.
const formatVersion = 1

// state describes the file. Each transaction writes it, so it fits the buckets.
type state struct {
	Epoch     uint64
	First     uint64 // offset of the first record, or Last+1 if there is none
	Dropped   uint64 // offset of the newest record that was dropped
	Last      uint64 // offset of the newest record that there has been
	Reserved  uint64 // offsets up to this one may have been used; see reserve
	Events    uint64 // number of records
	Bytes     uint64 // sum of their sizes; see recordSize
	Indexed   uint64 // offset up to which the records are in the buckets index and keys
	Keys      uint64 // number of entries in the bucket keys
	Sum       uint64 // sum of entrySum of all entries in the buckets index and keys
	FirstTime uint64 // of the first record, in nanoseconds since 1970
	LastTime  uint64 // of the newest record that there has been
	Mark      uint64 // made when the file was opened or closed last; see mark.go
	OldMark   uint64 // the mark before that
}

// numbers returns s's fields in their order in the file.
func (s *state) numbers() [14]*uint64 {
	return [...]*uint64{
		&s.Epoch, &s.First, &s.Dropped, &s.Last, &s.Reserved, &s.Events, &s.Bytes, &s.Indexed, &s.Keys, &s.Sum,
		&s.FirstTime, &s.LastTime, &s.Mark, &s.OldMark,
	}
}

const stateSize = 8 + 14*8 + 4

func (s state) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, stateSize), formatVersion)
	for _, n := range s.numbers() {
		b = binary.BigEndian.AppendUint64(b, *n)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeState returns the state in b. version is that of its format, or 0 if b is damaged.
func decodeState(b []byte) (s state, version uint64) {
	if len(b) < 8 {
		return s, 0
	}
	version = binary.BigEndian.Uint64(b)
	known := binary.BigEndian.AppendUint64(nil, formatVersion)
	sum := crc32.Update(crc32.Checksum(known, castagnoli), castagnoli, b[8:max(8, len(b)-4)])
	valid := len(b) == stateSize && binary.BigEndian.Uint32(b[stateSize-4:]) == sum
	switch {
	case version != formatVersion && !valid:
		return s, version
	case version != formatVersion || !valid: // the version is what is damaged, or it is not
		return s, 0
	}
	for i, n := range s.numbers() {
		*n = binary.BigEndian.Uint64(b[8+8*i:])
	}
	return s, version
}

// stateOf returns the state that a transaction sees.
func stateOf(tx *bbolt.Tx) (s state, ok bool) {
	b := tx.Bucket(logBucket)
	if b == nil {
		return s, false
	}
	s, version := decodeState(b.Get(stateKey))
	return s, version == formatVersion
}

// lacks reports whether a record after the offset has been dropped.
func (s *state) lacks(offset uint64) bool { return offset < s.Dropped }
