package event

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"time"
	"unicode/utf8"
	"unsafe"
)

// DefaultMaxEventSize bounds one event, in bytes, for a [Decoder] whose
// MaxEventSize is zero: 64 MiB.
const DefaultMaxEventSize = 64 << 20

var bom = []byte("\xEF\xBB\xBF")

const (
	minBuffer  = 1 << 10  // the read buffer of an idle stream
	busyBuffer = 32 << 10 // what it grows to as long as each read fills it
	keptBuffer = 64 << 10 // beyond this, which takes a long line, it is given back at once
	calmReads  = 8        // small ones in a row that make it an idle stream's again
)

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

// Raw is an [Event] in byte slices. They belong to the [Decoder] that returned
// it, and are valid until its next use.
type Raw struct {
	ID, Name, Data, Comment []byte
	Retry                   time.Duration
	ResetID                 bool
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

// Event returns r as an Event of its own, in one allocation.
func (r Raw) Event() Event {
	n := len(r.ID)
	m := n + len(r.Name)
	k := m + len(r.Data)
	all := make([]byte, k+len(r.Comment))
	copy(all, r.ID)
	copy(all[n:], r.Name)
	copy(all[m:], r.Data)
	copy(all[k:], r.Comment)
	s := unsafe.String(unsafe.SliceData(all), len(all)) // all is not changed again
	return Event{ID: s[:n], Name: s[n:m], Data: s[m:k], Comment: s[k:], Retry: r.Retry, ResetID: r.ResetID}
}

// next reads up to the end of the next block that is to be returned.
func (d *Decoder) next() error {
	d.block.reset()
	for {
		if d.lf < d.cr && d.lf < d.high {
			if complete, err := d.plainLines(); complete || err != nil {
				return err
			}
		}
		start, stop := d.pos, d.lf
		ascii := d.high >= stop
		if stop < d.cr { // an LF, and no CR before it
			d.pos = stop + 1
			d.lf = nextLF(d.buf[:d.end], stop+1)
		} else if stop = d.cr; stop < d.end {
			ascii = d.high >= stop
			d.passCR()
		} else {
			if err := d.fill(); err != nil {
				return err
			}
			continue
		}
		if !ascii {
			d.high = d.pos + asciiLen(d.buf[d.pos:d.end])
		}
		if start == stop {
			if d.dispatch() {
				return nil
			}
			d.block.reset()
			continue
		}
		if err := d.field(start, stop, ascii); err != nil {
			return d.fail(err)
		}
	}
}

// plainLines takes in the lines ahead as far as they are ASCII and end with an LF, and
// stops behind a block that is to be returned. It is the loop of next for what most
// streams are: with the places of the lines in registers, and the three fields that
// most events are made of, as most servers write them, set without a call. An event of
// three short lines takes an eighth less time.
func (d *Decoder) plainLines() (complete bool, err error) {
	b := &d.block
	buf := d.buf[:d.end]
	pos, lf := d.pos, d.lf
	for end := min(d.cr, d.high); lf < end; {
		start, stop := pos, lf
		pos = stop + 1
		lf = nextLF(buf, pos)
		if start == stop {
			if d.dispatch() {
				d.pos, d.lf = pos, lf
				return true, nil
			}
			b.reset()
			continue
		}
		line := buf[start:stop]
		v, n := &b.data, 0
		switch {
		case len(line) > 6 && string(line[:6]) == "data: " && b.data.state == unset:
			n = 6
		case len(line) > 7 && string(line[:7]) == "event: ":
			v, n = &b.name, 7
		case len(line) > 4 && string(line[:4]) == "id: " && !slices.Contains(line[4:], 0):
			v, n = &b.id, 4
		}
		if n == 0 || len(line) > d.longLine {
			if err := d.field(start, stop, true); err != nil {
				return false, d.fail(err)
			}
			continue
		}
		v.setView(start+n, stop)
		if b.taken += stop - start - n; b.taken > d.maxEvent && b.size() > d.maxEvent {
			return false, d.fail(&TooLargeError{"event", d.maxEvent})
		}
	}
	d.pos, d.lf = pos, lf
	return false, nil
}

// passCR consumes the line up to d.cr, and the LF that may belong to the CR.
func (d *Decoder) passCR() {
	d.pos = d.cr + 1
	if d.pos == d.end { // it ends the line at once; what it is half of shows later
		d.cr, d.skipLF = d.end, true
		return
	}
	d.cr = d.find('\r', d.pos)
	if d.lf == d.pos {
		d.pos++
		d.lf = nextLF(d.buf[:d.end], d.pos)
	}
}

// nextLF returns where the next LF of buf[from:] stands, or len(buf). At the end of
// each block that is from, and no search.
func nextLF(buf []byte, from int) int {
	if from < len(buf) && buf[from] == '\n' {
		return from
	}
	if i := bytes.IndexByte(buf[from:], '\n'); i >= 0 {
		return from + i
	}
	return len(buf)
}

func (d *Decoder) find(c byte, from int) int {
	if i := bytes.IndexByte(d.buf[from:d.end], c); i >= 0 {
		return from + i
	}
	return d.end
}

// fill reads once more. It is all that a goroutine that waits for an event has on
// its stack of this package, and small for that reason.
func (d *Decoder) fill() error {
	if err := d.makeRoom(); err != nil {
		return err
	}
	n, err := readSome(d.r, d.buf[d.end:])
	return d.take(n, err)
}

// makeRoom moves what is unconsumed to the front of the buffer, so pieces of the
// buffer that the block holds are copied out first.
func (d *Decoder) makeRoom() error {
	d.maxEvent = cmp.Or(max(0, d.MaxEventSize), DefaultMaxEventSize)
	d.maxLine = cmp.Or(max(0, d.MaxLineSize), d.maxEvent)
	d.longLine = min(d.maxLine, minBuffer)
	if d.begun && d.end-d.pos > d.maxLine {
		return d.fail(&TooLargeError{"line", d.maxLine})
	}
	if d.err != nil {
		return d.err
	}
	d.block.keep(d.buf)
	d.lastID.keep(d.buf)
	rest := d.buf[d.pos:d.end]
	switch size := len(d.buf); {
	case size > keptBuffer && len(rest) < minBuffer && d.longest < size/4,
		size > minBuffer && len(rest) < minBuffer && d.calm >= calmReads:
		d.move(make([]byte, minBuffer), rest)
	case size == len(rest), size < busyBuffer && d.filled:
		d.move(make([]byte, max(minBuffer, 2*size)), rest)
	case d.pos > 0:
		d.move(d.buf, rest)
	}
	if d.end < minBuffer {
		d.longest = 0
	}
	if cap(d.mended) > keptBuffer {
		d.mended = nil
	}
	return nil
}

// take takes in the n bytes that have been read, and the error beside them.
func (d *Decoder) take(n int, err error) error {
	from := d.end
	d.end += n
	d.taken += int64(n)
	d.filled = d.end == len(d.buf)
	if d.calm++; d.end > len(d.buf)/8 {
		d.calm = 0
	}
	if err != nil {
		d.err = err
		if n == 0 {
			return err
		}
	}
	d.scan(from)
	return nil
}

// move makes buf the buffer, with what is unconsumed at its front.
func (d *Decoder) move(buf, rest []byte) {
	d.buf, d.end = buf, copy(buf, rest)
	d.lf, d.cr, d.high, d.pos = d.lf-d.pos, d.cr-d.pos, d.high-d.pos, 0
}

// scan takes in buf[from:end], which has just been read.
func (d *Decoder) scan(from int) {
	if d.skipLF {
		d.skipLF = false
		if d.buf[from] == '\n' {
			from++
			d.pos, d.lf, d.cr, d.high = from, from, from, from
		}
	}
	if !d.begun {
		from = 0
		if head := d.buf[:d.end]; bytes.HasPrefix(head, bom) {
			from = len(bom)
		} else if bytes.HasPrefix(bom, head) {
			d.lf, d.cr, d.high = d.end, d.end, d.end // may become a byte order mark
			return
		}
		d.begun = true
		d.pos, d.lf, d.cr, d.high = from, from, from, from
	}
	d.lf = d.find('\n', from) // there was none before from, or nothing would have been read
	d.cr = d.find('\r', from)
	if d.high == from {
		d.high = from + asciiLen(d.buf[from:d.end])
	}
}

// readSome reads at least one byte, or returns an error.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for range 100 {
		if n, err = r.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

func (d *Decoder) fail(err error) error {
	d.err = err
	d.pos, d.lf, d.cr, d.high = d.end, d.end, d.end, d.end
	return err
}

// field takes in the line buf[start:stop], which is not empty (§9.2.6, "process
// the field").
func (d *Decoder) field(start, stop int, ascii bool) error {
	line := d.buf[start:stop]
	if len(line) > d.longLine {
		d.longest = max(d.longest, len(line))
		if len(line) > d.maxLine {
			return &TooLargeError{"line", d.maxLine}
		}
	}
	b := &d.block
	switch line[0] {
	case 'd':
		if n := valueAt(line, "data:"); n > 0 {
			d.add(&b.data, start+n, stop, ascii)
		}
	case 'e':
		if n := valueAt(line, "event:"); n > 0 {
			d.set(&b.name, start+n, stop, ascii)
		}
	case 'i':
		if n := valueAt(line, "id:"); n > 0 && !slices.Contains(line[n:], 0) { // ids are short
			d.set(&b.id, start+n, stop, ascii)
		}
	case 'r':
		if n := valueAt(line, "retry:"); n > 0 {
			if t, ok := parseRetry(line[n:]); ok {
				b.retry = t
				d.retry, d.hasRetry = max(0, t), true
			}
		}
	case ':':
		if d.Comments {
			d.add(&b.comment, start+valueAt(line, ":"), stop, ascii)
		}
	}
	if b.taken > d.maxEvent && b.size() > d.maxEvent {
		return &TooLargeError{"event", d.maxEvent}
	}
	return nil
}

// set replaces v by buf[from:to].
func (d *Decoder) set(v *value, from, to int, ascii bool) {
	d.block.taken += to - from
	v.setView(from, to)
	if !ascii {
		d.mend(v)
	}
}

// mend makes v, a view that is not ASCII, valid UTF-8.
func (d *Decoder) mend(v *value) {
	if text, valid := d.text(v.from, v.to); !valid {
		d.block.taken += len(text)
		v.setCopy(text)
	}
}

// add sets v to buf[from:to], as a further line if it is set.
func (d *Decoder) add(v *value, from, to int, ascii bool) {
	if v.state == unset {
		d.set(v, from, to, ascii)
		return
	}
	text := d.buf[from:to]
	if !ascii {
		text, _ = d.text(from, to)
	}
	d.block.taken += len(text) + 1
	v.addLine(d.buf, text)
}

// text returns buf[from:to] as the UTF-8 decode algorithm would (WHATWG Encoding
// §4.10.1), and whether that is what it is: each maximal subpart of an ill-formed
// sequence becomes one U+FFFD.
func (d *Decoder) text(from, to int) (text []byte, valid bool) {
	text = d.buf[from:to]
	if utf8.Valid(text) {
		return text, true
	}
	d.mended = slices.Grow(d.mended[:0], len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n == 1 {
			n = illFormedLen(text)
		}
		d.mended = utf8.AppendRune(d.mended, r)
		text = text[n:]
	}
	return d.mended, false
}

// valueAt returns where the value begins in a line whose field has the given
// name, which is written with its colon, or 0 if it has another. A line of the
// name alone has an empty value.
func valueAt(line []byte, name string) int {
	if len(line) < len(name) {
		if string(line) == name[:len(name)-1] {
			return len(line)
		}
		return 0
	}
	if string(line[:len(name)]) != name {
		return 0
	}
	if len(line) > len(name) && line[len(name)] == ' ' {
		return len(name) + 1
	}
	return len(name)
}

// parseRetry returns the milliseconds of a value that is ASCII digits only, with
// 0 as RetryImmediately.
func parseRetry(v []byte) (d time.Duration, ok bool) {
	const most = math.MaxInt64 / int64(time.Millisecond)
	var ms int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		ms = min(10*ms+int64(c-'0'), most)
	}
	if ms == 0 {
		return RetryImmediately, len(v) > 0
	}
	return time.Duration(ms) * time.Millisecond, true
}

// dispatch ends the block (§9.2.6, "dispatch the event"), and reports whether it is
// to be returned.
func (d *Decoder) dispatch() bool {
	b := &d.block
	if b.id.state != unset {
		d.idIsKnown = false
		d.lastID.trim(b.id.len())
		if b.id.state == isView {
			d.lastID.setView(b.id.from, b.id.to)
		} else {
			d.lastID.setCopy(b.id.copy)
		}
	}
	switch {
	case b.data.state != unset:
		return true
	case b.comment.len() > 0, b.retry != 0 && d.RetryOnly:
		b.name.state = unset
		return true
	}
	return false
}

// raw sets raw to the block, as views.
func (d *Decoder) raw(raw *Raw) {
	b := &d.block
	raw.ID = d.lastID.bytes(d.buf)
	raw.Name = b.name.bytes(d.buf)
	raw.Data = b.data.bytes(d.buf)
	raw.Comment = b.comment.bytes(d.buf)
	raw.Retry = b.retry
	raw.ResetID = b.resetsID()
}

// event sets ev to the block, as strings.
func (d *Decoder) event(ev *Event) {
	var raw Raw
	d.raw(&raw)
	if d.block.id.state != unset {
		*ev = raw.Event()
		return
	}
	// An id from an earlier event is shared by all that follow, or one large id
	// would be copied into each of a great many small events.
	if !d.idIsKnown {
		d.id, d.idIsKnown = string(raw.ID), true
	}
	raw.ID = nil
	*ev = raw.Event()
	ev.ID = d.id
}

// eventAtOnce sets ev to the block as event does, if its fields stand close
// together in the buffer. They are then pieces of one string that is copied from
// there in one go, with the field names in between, which takes a third off the
// time.
func (d *Decoder) eventAtOnce(ev *Event) bool {
	id, name, data := &d.block.id, &d.block.name, &d.block.data
	if data.state != isView || name.state == isCopy || d.block.comment.state != unset {
		return false
	}
	if id.state == isCopy || id.state == unset && d.lastID.len() > 0 {
		return false
	}
	from, to, sum := data.from, data.to, data.to-data.from
	if id.state == isView {
		from, to, sum = min(from, id.from), max(to, id.to), sum+id.to-id.from
	}
	if name.state == isView {
		from, to, sum = min(from, name.from), max(to, name.to), sum+name.to-name.from
	}
	if to-from-sum > 32 {
		return false
	}
	all := string(d.buf[from:to])
	ev.Data = all[data.from-from : data.to-from]
	if id.state == isView {
		ev.ID = all[id.from-from : id.to-from]
	}
	if name.state == isView {
		ev.Name = all[name.from-from : name.to-from]
	}
	ev.Retry, ev.ResetID = d.block.retry, d.block.resetsID()
	return true
}
