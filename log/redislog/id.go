package redislog

import (
	"strconv"
	"strings"
)

// id is the id of an entry in a stream: a time in milliseconds, and a number in that.
type id struct{ ms, seq uint64 }

func (i id) String() string {
	return strconv.FormatUint(i.ms, 10) + "-" + strconv.FormatUint(i.seq, 10)
}

func (i id) less(other id) bool {
	return i.ms < other.ms || i.ms == other.ms && i.seq < other.seq
}

// parseID parses an id of the server.
func parseID(text string) (id, bool) {
	ms, seq, ok := strings.Cut(text, "-")
	if !ok {
		return id{}, false
	}
	var i id
	var err1, err2 error
	i.ms, err1 = strconv.ParseUint(ms, 10, 64)
	i.seq, err2 = strconv.ParseUint(seq, 10, 64)
	return i, err1 == nil && err2 == nil
}

// An offset is an id, whose milliseconds are counted from a base that the epoch has. So offsets
// stay small, and a hub can add up those of many epochs.
const (
	seqBits = 20
	maxSeq  = 1<<seqBits - 1
	maxMS   = 1<<(63-seqBits) - 1 // after the base
)

// offsetOf returns the offset of i in an epoch with the base. It is 0 for an id that is older than
// the base. It reports false if there is none: a hub cannot have made the id.
func offsetOf(i id, base uint64) (uint64, bool) {
	if i.ms < base || i.ms == base && i.seq == 0 {
		return 0, true
	}
	if i.seq > maxSeq || i.ms-base > maxMS {
		return 0, false
	}
	return (i.ms-base)<<seqBits | i.seq, true
}

// idOf returns the id that has the offset in an epoch with the base.
func idOf(offset, base uint64) id {
	return id{base + min(offset>>seqBits, maxMS), offset & maxSeq}
}
