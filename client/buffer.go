package client

import (
	"bytes"
	"fmt"
	"io"
	"math"
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
	data   []byte  // the stream from offset base on
	base   int64   //
	out    int64   // the offset up to which it was handed out
	ends   []int64 // the offsets where events end, of as many as are kept and one more
}

// from begins with a new connection. It returns r, or a reader that keeps what it
// reads from r.
func (b *buffer) from(r io.Reader) io.Reader {
	if b.policy == Off {
		return r
	}
	b.data, b.base, b.out, b.ends = b.data[:0], 0, 0, b.ends[:0]
	return io.TeeReader(r, b)
}

// Write takes in what was read.
func (b *buffer) Write(p []byte) (int, error) {
	b.data = append(b.data, p...)
	// At twice the bound, so that what is moved is not moved often.
	if len(b.data) > 2*MaxBuffer {
		b.forget(b.base + int64(len(b.data)-MaxBuffer))
	}
	return len(p), nil
}

// handedOut is called when an event was handed out that ends at the given offset.
func (b *buffer) handedOut(end int64) {
	b.out = end
	n := int(b.policy)
	if n <= 0 {
		return
	}
	b.ends = append(b.ends, end)
	if extra := len(b.ends) - n - 1; extra > 16+n {
		b.ends = b.ends[:copy(b.ends, b.ends[extra:])]
		b.forget(b.ends[0])
	}
}

// forget drops what stands before the offset from.
func (b *buffer) forget(from int64) {
	if from > b.base {
		b.data = b.data[:copy(b.data, b.data[min(int64(len(b.data)), from-b.base):])]
		b.base = from
	}
}

// bytes returns a copy of what is kept.
func (b *buffer) bytes() []byte {
	if b.out <= b.base {
		return nil
	}
	kept := b.data[:b.out-b.base]
	switch n := int(b.policy); {
	case b.policy == All:
	case n > 0:
		if first := len(b.ends) - n - 1; first >= 0 {
			kept = kept[max(0, b.ends[first]-b.base):]
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
