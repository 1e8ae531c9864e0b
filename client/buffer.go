package client

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
)

// BufferPolicy says what is kept of a stream for the [Error] that ends it, as it
// came over the wire and has been handed out: what was read ahead does not count.
// Each connection starts anew.
type BufferPolicy int

// The policies, beside LastEvents and LastLines.
const (
	Off       BufferPolicy = 0           // nothing, at no cost
	LastEvent BufferPolicy = 1           // the last event, as LastEvents(1)
	All       BufferPolicy = math.MinInt // everything, up to MaxBuffer
)

// MaxBuffer bounds what is kept by any [BufferPolicy], in bytes: 1 MiB. Of more the
// latest is kept.
const MaxBuffer = 1 << 20

// LastEvents keeps the last n events. It panics if n is not positive.
func LastEvents(n int) BufferPolicy {
	if n <= 0 {
		panic(fmt.Sprintf("client: LastEvents(%d); to keep nothing, use client.Off", n))
	}
	return BufferPolicy(n)
}

// LastLines keeps the last n lines, comments and the blank ones between events
// included. It panics if n is not positive.
func LastLines(n int) BufferPolicy {
	if n <= 0 {
		panic(fmt.Sprintf("client: LastLines(%d); to keep nothing, use client.Off", n))
	}
	return BufferPolicy(-n)
}

func (p BufferPolicy) String() string {
	switch {
	case p == Off:
		return "Off"
	case p == All:
		return "All"
	case p == LastEvent:
		return "LastEvent"
	case p > 0:
		return fmt.Sprintf("LastEvents(%d)", int(p))
	default:
		return fmt.Sprintf("LastLines(%d)", -int(p))
	}
}

// buffer holds what a session has read of a connection, as its policy wants.
type buffer struct {
	policy BufferPolicy

	ahead []byte // what was read last, of which the first done bytes are handed out
	done  int
	from  int64 // the offset in the stream that ahead[done] has

	kept []byte  // handed out: what is wanted, and some of what was before it
	base int64   // the offset where kept begins
	ends []int64 // the offsets in kept where events end, if events are counted
}

// begin begins with a new connection. It returns r, or a reader that keeps what it
// reads from r.
func (b *buffer) begin(r io.Reader) io.Reader {
	if b.policy == Off {
		return r
	}
	*b = buffer{policy: b.policy, ahead: b.ahead[:0], kept: b.kept[:0], ends: b.ends[:0]}
	return io.TeeReader(r, b)
}

// Write takes in what was read. What was read before and is not handed out belongs
// to one event that is not complete, or the decoder would not have read on.
func (b *buffer) Write(p []byte) (int, error) {
	rest := b.ahead[b.done:]
	if extra := len(rest) - MaxBuffer; extra > 0 {
		rest = rest[extra:]
		b.from += int64(extra)
	}
	if size := len(rest) + len(p); cap(b.ahead) > 2*max(size, MaxBuffer) {
		b.ahead = make([]byte, 0, size) // it is that of a huge event, which is past
	}
	b.ahead = append(append(b.ahead[:0], rest...), p...)
	b.done = 0
	return len(p), nil
}

// handedOut is called when an event was handed out that ends at the given offset.
func (b *buffer) handedOut(end int64) {
	piece := b.ahead[b.done:][:end-b.from]
	b.done += len(piece)
	if extra := len(piece) - MaxBuffer; extra > 0 {
		piece = piece[extra:]
		b.from += int64(extra)
	}
	if b.from > b.base+int64(len(b.kept)) { // piece is the rest of a large one
		b.kept, b.base, b.ends = b.kept[:0], b.from, b.ends[:0]
	}
	if last := len(b.ends) - 1; last >= 0 && piece[0] == '\n' && bytes.HasSuffix(b.kept, []byte("\r")) {
		b.ends[last]++ // the LF of that blank line comes late
	}
	b.kept = append(b.kept, piece...)
	b.from = end
	// At twice what is wanted, so that what is moved is not moved often.
	if len(b.kept) > 2*MaxBuffer {
		b.forget(end - MaxBuffer)
	}
	if b.policy > 0 {
		b.ends = append(b.ends, end)
		if wanted := min(int(b.policy), MaxBuffer) + 1; len(b.ends) > 2*wanted {
			b.forget(b.ends[len(b.ends)-wanted])
		}
	}
}

// forget drops what was handed out before the offset from.
func (b *buffer) forget(from int64) {
	b.kept = b.kept[:copy(b.kept, b.kept[from-b.base:])]
	b.base = from
	past, _ := slices.BinarySearch(b.ends, from)
	b.ends = b.ends[:copy(b.ends, b.ends[past:])]
}

// bytes returns a copy of what is kept.
func (b *buffer) bytes() []byte {
	kept := b.kept
	switch n := int(b.policy); {
	case b.policy == All:
	case n > 0:
		if before := len(b.ends) - 1 - n; before >= 0 {
			kept = kept[b.ends[before]-b.base:]
		}
	default:
		kept = lastLines(kept, -n)
	}
	return bytes.Clone(kept[max(0, len(kept)-MaxBuffer):])
}

// lastLines returns the last n lines of text, which ends with a line's end.
func lastLines(text []byte, n int) []byte {
	from := len(text)
	for ; n > 0 && from > 0; n-- {
		end := from
		if end--; end > 0 && text[end] == '\n' && text[end-1] == '\r' {
			end--
		}
		from = bytes.LastIndexAny(text[:end], "\r\n") + 1
	}
	return text[from:]
}
