package event

// This file defines the Decoder: its bounds, its state, and the methods that users call.
// The work is done in these files:
//
//   - decoder_buffer.go reads from the reader into the buffer
//   - decoder_lines.go cuts the buffer into lines and blocks
//   - decoder_fields.go interprets a line, and ends a block
//   - decoder_utf8.go replaces ill-formed UTF-8
//   - block.go collects the fields of a block
//   - raw.go makes a Raw or an Event of a block

import (
	"fmt"
	"io"
	"iter"
	"time"
)

// DefaultMaxEventSize is the largest event, in bytes, that a [Decoder] accepts if its
// MaxEventSize is zero: 64 MiB.
const DefaultMaxEventSize = 64 << 20

// TooLargeError reports that a line or an event exceeds its limit. After a [Decoder] has
// returned it, the rest of the stream cannot be read.
type TooLargeError struct {
	What  string // what is too large: "line", "event" or, in package client, "stretch without an event"
	Limit int    // the largest size allowed, in bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("event: %s larger than %d bytes", e.What, e.Limit)
}

// Decoder reads events from a stream according to WHATWG HTML §9.2.5 and §9.2.6. It
// returns an event as soon as it has read the blank line that ends the event, no matter
// how the reads divide the stream. A block that the end of the stream cuts off is dropped.
//
// Memory grows with the longest line and the largest event that have actually arrived, up
// to the limits, and shrinks again afterward. Set the fields before the first read. A
// Decoder is not safe for concurrent use.
type Decoder struct {
	// MaxEventSize is the largest event accepted: the sum of its fields, in bytes. If it
	// is zero or less, the limit is [DefaultMaxEventSize].
	MaxEventSize int

	// MaxLineSize is the longest line accepted, of any kind, in bytes. If it is zero or
	// less, the limit for an event applies.
	MaxLineSize int

	// Comments makes the Decoder return comments, which it otherwise skips. The comments
	// between the fields of an event become its Comment. A block that has comments but no
	// data is returned as an event with a Comment and no Data, unless its comments are
	// empty.
	Comments bool

	// RetryOnly makes the Decoder return a block that has a retry field but no data, as an
	// event with a Retry and no Data. [Decoder.Retry] reports the time from every retry
	// field, whether RetryOnly is set or not.
	RetryOnly bool

	// KeepRest makes the Decoder keep the bytes that [Decoder.Rest] returns.
	KeepRest bool

	r   io.Reader
	err error // from r, or a TooLargeError; once it is set, nothing more is read

	// buf[pos:end] has been read and not yet consumed. lf, cr and high are the indexes of
	// the next LF, CR and non-ASCII byte in it, or end if there is none. Each byte is
	// searched once for each of the three, no matter how long the lines and how short the
	// reads are. So decoding takes linear time.
	buf          []byte
	pos, end     int
	totalRead    int64 // bytes read from r
	filled       bool  // the last read filled buf, so r may have more ready
	smallReads   int   // reads in a row that left buf nearly empty
	lf, cr, high int
	pastBOM      bool // the place of a byte order mark has been passed
	skipLF       bool // the last line ended with a CR; an LF at pos belongs to that line
	longest      int  // the longest of the lines over longLine since buf last held less than minBuffer

	// The limits in force. Only a line longer than longLine is compared with maxLine.
	maxEvent, maxLine, longLine int

	lastID    value
	id        string // lastID as a string, if idIsKnown
	idIsKnown bool
	retry     time.Duration // the last reconnection time, if hasRetry
	hasRetry  bool
	repaired  []byte // scratch space: a value with its ill-formed UTF-8 replaced
	block     block

	// The rest, if KeepRest is set: restRead, then buf[restFrom:end].
	restFrom int
	restRead []byte // bytes that are no longer in buf
	junk     bool   // the rest has a line that is no field and no comment
}

// NewDecoder returns a Decoder that reads from r. The Decoder has its own buffer and may
// read further ahead in r than the events that it has returned.
func NewDecoder(r io.Reader) *Decoder {
	return &Decoder{r: r}
}

// Decode reads and returns the next event. The event's strings are copied out of the
// buffer in one allocation. At the end of the stream the error is [io.EOF]. Any other
// error is the reader's error or a [*TooLargeError].
func (d *Decoder) Decode() (ev Event, err error) {
	if err = d.next(); err == nil && !d.setEventInOneCopy(&ev) {
		d.setEvent(&ev)
	}
	return ev, err
}

// DecodeRaw is like [Decoder.Decode], but returns the event as byte slices in d's memory,
// without an allocation. They are valid until the next use of d.
func (d *Decoder) DecodeRaw() (raw Raw, err error) {
	if err = d.next(); err == nil {
		d.setRaw(&raw)
	}
	return raw, err
}

// All returns an iterator over the events up to the end of the stream, each as
// [Decoder.Decode] would return it. If there is an error other than [io.EOF], the iterator
// yields it last.
func (d *Decoder) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			// This does not call Decode, because copying its result right after it has
			// been written takes a tenth of the time of a short event.
			var ev Event
			err := d.next()
			if err == nil && !d.setEventInOneCopy(&ev) {
				d.setEvent(&ev)
			}
			if err == io.EOF { //nolint:errorlint // io.EOF itself is the end; a wrapped one is a failure
				return
			}
			if !yield(ev, err) || err != nil {
				return
			}
		}
	}
}

// LastEventID returns the id that a client would send as Last-Event-ID if it lost the
// connection now. The id stays until a later block sets another, and a block without data
// sets it too.
func (d *Decoder) LastEventID() string { return string(d.lastID.bytes(d.buf)) }

// Retry returns the reconnection time of the last retry field, and whether the stream has
// had one. The time takes effect as soon as its line is read, before the block ends. A
// value that is too large for a Duration is clamped.
func (d *Decoder) Retry() (reconnectionTime time.Duration, ok bool) { return d.retry, d.hasRetry }

// Silent reports whether the last block that [Decoder.Decode] returned has no data. The
// Decoder returned it only for its comment or reconnection time, because Comments or
// RetryOnly is set. Clients do not dispatch such a block.
func (d *Decoder) Silent() bool { return d.block.data.state == unset }

// InputOffset returns the position in the stream, in bytes, up to which d has decoded.
// After a call of [Decoder.Decode] it is the end of the block that the call returned.
// Bytes that d has read ahead do not count.
func (d *Decoder) InputOffset() int64 { return d.totalRead - int64(d.end-d.pos) }

// MaxRest limits what [Decoder.Rest] returns, in bytes: 64 KiB.
const MaxRest = 64 << 10

// Rest returns the bytes that d has read after the last block that it returned: a block
// that the end of the stream has cut off, or text that is no event stream. It leaves out
// complete blocks that only have comments or fields, and complete comments before the
// fields of a block, unless other text came before them. Of a longer rest it returns the
// first [MaxRest] bytes. The slice is valid until the next use of d. KeepRest must have been
// set before the first read.
func (d *Decoder) Rest() []byte {
	rest := d.restRead
	if d.KeepRest {
		rest = append(rest, d.buf[d.restFrom:d.end]...)
	}
	return rest[:min(len(rest), MaxRest)]
}

// Reset makes d read a new stream from r, as a client does after it has reconnected. The
// last event id is lastEventID until the stream sets another, and the reconnection time
// also stays until then. Browsers do the same. (By §9.2.6 a client would forget an id that
// the new stream does not repeat, at the first event.) The exported fields and the buffers
// are kept.
func (d *Decoder) Reset(r io.Reader, lastEventID string) {
	d.r, d.err = r, nil
	d.pos, d.end, d.lf, d.cr, d.high = 0, 0, 0, 0, 0
	d.totalRead, d.pastBOM, d.skipLF = 0, false, false
	d.dropRest()
	d.lastID.shrinkTo(len(lastEventID))
	d.lastID.setCopy([]byte(lastEventID))
	d.id, d.idIsKnown = lastEventID, true
}
