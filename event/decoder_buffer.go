package event

import (
	"bytes"
	"cmp"
	"io"
)

const (
	minBuffer  = 1 << 10  // the read buffer of an idle stream
	busyBuffer = 32 << 10 // what it grows to as long as each read fills it
	keptBuffer = 64 << 10 // beyond this, which takes a long line, it is given back at once
	calmReads  = 8        // small ones in a row that make it an idle stream's again
)

var bom = []byte("\xEF\xBB\xBF")

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
