package event

import (
	"fmt"
	"io"
	"iter"
	"time"
)

// DefaultMaxEventSize bounds one event, in bytes, for a [Decoder] whose
// MaxEventSize is zero: 64 MiB.
const DefaultMaxEventSize = 64 << 20

// TooLargeError reports a line or an event beyond a bound of the [Decoder]. The
// stream cannot be read any further.
type TooLargeError struct {
	What  string // "line" or "event"
	Limit int    // the bound, in bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("event: %s larger than %d bytes", e.What, e.Limit)
}

// Decoder reads events from a stream as WHATWG HTML §9.2.5 and §9.2.6 say. It
// returns an event the moment the blank line behind it is read, however the
// stream is cut into reads; a block that the end of the stream cuts off is
// dropped.
//
// Memory grows with the longest line and the largest event that have really
// arrived, up to the bounds, and shrinks again. Set the fields before the first
// read. A Decoder is not safe for concurrent use.
type Decoder struct {
	// MaxEventSize bounds an event: the sum of its fields, in bytes. Zero or less
	// means [DefaultMaxEventSize].
	MaxEventSize int

	// MaxLineSize bounds a line of any kind, in bytes. Zero or less means
	// MaxEventSize.
	MaxLineSize int

	// Comments keeps comments. Those among the fields of an event come with it;
	// a block of comments alone, if they are not empty, is returned as an event with
	// a Comment and no Data.
	Comments bool

	// RetryOnly returns a block that sets only the reconnection time as an event
	// with a Retry and no Data. [Decoder.Retry] knows of every retry field, be this
	// set or not.
	RetryOnly bool

	r   io.Reader
	err error // of r, or a TooLargeError: nothing more will be read

	// buf[pos:end] is read and not yet consumed. lf, cr and high are where its next
	// LF, CR and non-ASCII byte stand, or end. Each byte is searched once for each,
	// however long lines and however short reads are, so that the whole is linear.
	buf          []byte
	pos, end     int
	taken        int64 // bytes read from r
	filled       bool  // by the last read, so that there may be more to be had
	calm         int   // reads in a row that left it nearly empty
	lf, cr, high int
	begun        bool // past the place of a byte order mark
	skipLF       bool // the last line ended with CR: an LF at pos belongs to it
	longest      int  // line, of the long ones, since the buffer was last all but empty

	maxEvent, maxLine, longLine int // the bounds in force; a longLine is worth a look

	lastID    value
	id        string // lastID, once it was asked for
	idIsKnown bool
	retry     time.Duration
	hasRetry  bool
	mended    []byte // scratch: a value with its ill-formed UTF-8 replaced
	block     block
}

// NewDecoder returns a Decoder that reads from r, with a buffer of its own.
func NewDecoder(r io.Reader) *Decoder {
	return &Decoder{r: r}
}

// Decode returns the next event, in strings of its own: one allocation. At the
// end of the stream the error is [io.EOF]; otherwise it is the reader's, or a
// [*TooLargeError].
func (d *Decoder) Decode() (ev Event, err error) {
	if err = d.next(); err == nil && !d.eventAtOnce(&ev) {
		d.event(&ev)
	}
	return ev, err
}

// DecodeRaw is Decode without an allocation: what it returns is valid until the
// next use of d.
func (d *Decoder) DecodeRaw() (raw Raw, err error) {
	if err = d.next(); err == nil {
		d.raw(&raw)
	}
	return raw, err
}

// All returns the events up to the end of the stream, each as by
// [Decoder.Decode]. An error, which io.EOF is not, comes last.
func (d *Decoder) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			// Not by Decode: to copy what has just been written, as its result would be,
			// takes a tenth of the time of a short event.
			var ev Event
			err := d.next()
			if err == nil && !d.eventAtOnce(&ev) {
				d.event(&ev)
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

// LastEventID returns what a client that lost the connection now would send as
// Last-Event-ID. It is sticky over events, and set as well by blocks that are no
// events.
func (d *Decoder) LastEventID() string { return string(d.lastID.bytes(d.buf)) }

// Retry returns the reconnection time that the stream asked for last, and whether
// it asked at all. It holds from the moment the line is read, before its block
// ends. A value too large for a Duration is clamped.
func (d *Decoder) Retry() (reconnectionTime time.Duration, ok bool) { return d.retry, d.hasRetry }

// Silent reports whether the block that Decode returned last has no data: it was
// returned for its comment or its reconnection time alone, as Comments and RetryOnly
// ask for, and clients do not dispatch it.
func (d *Decoder) Silent() bool { return d.block.data.state == unset }

// InputOffset returns how far into the stream, in bytes, d has decoded: after
// [Decoder.Decode], the end of the block that it returned. What is read ahead does
// not count.
func (d *Decoder) InputOffset() int64 { return d.taken - int64(d.end-d.pos) }

// Reset makes d read a new stream from r, as a client does that connects again:
// lastEventID and the reconnection time hold until the stream sets others, as in
// browsers. (§9.2.6 would have an id that the new stream does not repeat forgotten
// at its first event.) The exported fields and the buffers stay.
func (d *Decoder) Reset(r io.Reader, lastEventID string) {
	d.r, d.err = r, nil
	d.pos, d.end, d.lf, d.cr, d.high = 0, 0, 0, 0, 0
	d.taken, d.begun, d.skipLF = 0, false, false
	d.lastID.trim(len(lastEventID))
	d.lastID.setCopy([]byte(lastEventID))
	d.id, d.idIsKnown = lastEventID, true
}
