// The part of a stream that an Error shows. It copies what the decoder reads, and knows
// nothing of requests or responses.

package client

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
)

// BufferPolicy selects the part of a stream that a session keeps for the Body of an
// [Error]. The session keeps the bytes as they arrived, up to the last event that it has
// handed out; bytes that it has read ahead do not count. It starts over with each
// connection.
type BufferPolicy int

// The policies that need no number. [LastEvents] and [LastLines] return the others.
const (
	Off       BufferPolicy = 0           // keep nothing, at no cost
	LastEvent BufferPolicy = 1           // keep the last event, as LastEvents(1) does
	All       BufferPolicy = math.MinInt // keep everything, up to MaxBuffer
)

// MaxBuffer limits what any [BufferPolicy] keeps, in bytes: 1 MiB. Of a longer part, the
// session keeps the latest bytes.
const MaxBuffer = 1 << 20

// LastEvents keeps the last n events. It panics if n is not positive.
func LastEvents(n int) BufferPolicy {
	if n <= 0 {
		panic(fmt.Sprintf("client: LastEvents(%d) must have a positive number; to keep nothing, use client.Off", n))
	}
	return BufferPolicy(n)
}

// LastLines keeps the last n lines, including comments and the blank lines between
// events. It panics if n is not positive.
func LastLines(n int) BufferPolicy {
	if n <= 0 {
		panic(fmt.Sprintf("client: LastLines(%d) must have a positive number; to keep nothing, use client.Off", n))
	}
	return BufferPolicy(-n)
}

// String returns the policy as Go source without the package name, such as
// "LastEvents(2)".
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

// buffer holds the bytes that a session has read from its connection: those that are
// not handed out yet, and of those that are, the part that the policy keeps.
type buffer struct {
	policy BufferPolicy

	ahead []byte // the bytes that were read last
	done  int    // how many of them are handed out
	from  int64  // the offset of ahead[done] in the stream

	kept []byte  // handed out: the part to keep, and some bytes before it
	base int64   // the offset of kept[0] in the stream
	ends []int64 // the offsets at which the events in kept end, if the policy counts events
}

// attach empties the buffer for a new connection, which is read from r. It returns the
// reader to use in place of r, which copies to the buffer what it reads.
func (b *buffer) attach(r io.Reader) io.Reader {
	if b.policy == Off {
		return r
	}
	*b = buffer{policy: b.policy, ahead: b.ahead[:0], kept: b.kept[:0], ends: b.ends[:0]}
	return io.TeeReader(r, b)
}

// Write adds p, which was just read. The bytes that were read before and are not handed
// out belong to a single incomplete event. Otherwise the decoder would have returned an
// event instead of reading on.
func (b *buffer) Write(p []byte) (int, error) {
	rest := b.ahead[b.done:]
	if extra := len(rest) - MaxBuffer; extra > 0 {
		rest = rest[extra:]
		b.from += int64(extra)
	}
	if size := len(rest) + len(p); cap(b.ahead) > 2*max(size, MaxBuffer) {
		b.ahead = make([]byte, 0, size) // release the memory of an earlier, huge event
	}
	b.ahead = append(append(b.ahead[:0], rest...), p...)
	b.done = 0
	return len(p), nil
}

// markHandedOut moves an event that is handed out to the part that is kept. The event
// ends at the offset end in the stream.
func (b *buffer) markHandedOut(end int64) {
	piece := b.ahead[b.done:][:end-b.from]
	b.done += len(piece)
	if extra := len(piece) - MaxBuffer; extra > 0 {
		piece = piece[extra:]
		b.from += int64(extra)
	}
	if b.from > b.base+int64(len(b.kept)) { // piece is the end of a large event, the beginning of which is dropped
		b.kept, b.base, b.ends = b.kept[:0], b.from, b.ends[:0]
	}
	if last := len(b.ends) - 1; last >= 0 && piece[0] == '\n' && bytes.HasSuffix(b.kept, []byte("\r")) {
		b.ends[last]++ // piece begins with the LF of the blank line before it
	}
	b.kept = append(b.kept, piece...)
	b.from = end
	// Only when there is twice as much as to keep, so that bytes are not moved often.
	if len(b.kept) > 2*MaxBuffer {
		b.dropBefore(end - MaxBuffer)
	}
	if b.policy > 0 {
		b.ends = append(b.ends, end)
		if wanted := min(int(b.policy), MaxBuffer) + 1; len(b.ends) > 2*wanted {
			b.dropBefore(b.ends[len(b.ends)-wanted])
		}
	}
}

// dropBefore removes from kept the bytes before the offset from.
func (b *buffer) dropBefore(from int64) {
	b.kept = b.kept[:copy(b.kept, b.kept[from-b.base:])]
	b.base = from
	past, _ := slices.BinarySearch(b.ends, from)
	b.ends = b.ends[:copy(b.ends, b.ends[past:])]
}

// bytes returns a copy of the part that the policy keeps.
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

// lastLines returns the last n lines of text, which ends with a line break.
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
