package event

// This file manages the read buffer: it makes room, reads, and finds the first line end
// and the first non-ASCII byte in what has been read.

import (
	"bytes"
	"cmp"
	"io"
)

const (
	minBuffer   = 1 << 10  // size of the buffer of an idle stream
	busyBuffer  = 32 << 10 // size up to which the buffer grows while each read fills it
	largeBuffer = 64 << 10 // a larger buffer, which only a long line needs, is released at once
	shrinkAfter = 8        // number of small reads in a row after which the buffer shrinks to minBuffer
)

var bom = []byte("\xEF\xBB\xBF")

// fill reads more of the stream into the buffer. A goroutine that waits for an event waits
// in here. To keep its stack small, the work is done in makeRoom, which has returned by
// then, and in recordRead, which comes after.
func (d *Decoder) fill() error {
	if err := d.makeRoom(); err != nil {
		return err
	}
	n, err := readSome(d.r, d.buf[d.end:])
	return d.recordRead(n, err)
}

// makeRoom prepares the buffer for a read. It moves the unconsumed bytes to the front, and
// grows or shrinks the buffer if needed. Because the bytes move, it first copies the
// values that are views of the buffer. It returns a TooLargeError if the unconsumed bytes
// are longer than a line may be, or else the error that ended the stream, if any.
func (d *Decoder) makeRoom() error {
	d.maxEvent = cmp.Or(max(0, d.MaxEventSize), DefaultMaxEventSize)
	d.maxLine = cmp.Or(max(0, d.MaxLineSize), d.maxEvent)
	d.longLine = min(d.maxLine, minBuffer)
	if d.pastBOM && d.end-d.pos > d.maxLine {
		return d.fail(&TooLargeError{"line", d.maxLine})
	}
	if d.err != nil {
		return d.err
	}
	d.block.copyViews(d.buf)
	d.lastID.copyView(d.buf)
	if d.KeepRest {
		d.saveRest()
		if len(d.restRead) == 0 && cap(d.restRead) > minBuffer && d.smallReads >= shrinkAfter {
			d.restRead = nil
		}
	}
	rest := d.buf[d.pos:d.end]
	switch size := len(d.buf); {
	case size > largeBuffer && len(rest) < minBuffer && d.longest < size/4,
		size > minBuffer && len(rest) < minBuffer && d.smallReads >= shrinkAfter:
		d.move(make([]byte, minBuffer), rest)
	case size == len(rest), size < busyBuffer && d.filled:
		d.move(make([]byte, max(minBuffer, 2*size)), rest)
	case d.pos > 0:
		d.move(d.buf, rest)
	}
	if d.end < minBuffer {
		d.longest = 0
	}
	if cap(d.repaired) > largeBuffer {
		d.repaired = nil
	}
	return nil
}

// recordRead updates d after a read that returned n bytes and err. It returns err only if
// there are no bytes. Otherwise a later call of makeRoom returns it.
func (d *Decoder) recordRead(n int, err error) error {
	from := d.end
	d.end += n
	d.totalRead += int64(n)
	d.filled = d.end == len(d.buf)
	if d.smallReads++; d.end > len(d.buf)/8 {
		d.smallReads = 0
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

// move copies rest, the unconsumed bytes, to the front of buf and makes buf the buffer.
func (d *Decoder) move(buf, rest []byte) {
	d.buf, d.end = buf, copy(buf, rest)
	d.lf, d.cr, d.high, d.pos, d.restFrom = d.lf-d.pos, d.cr-d.pos, d.high-d.pos, 0, 0
}

// scan looks through buf[from:end], which has just been read. It skips a byte order mark
// and the LF of a CRLF, and sets lf, cr and high.
func (d *Decoder) scan(from int) {
	if d.skipLF {
		d.skipLF = false
		if d.buf[from] == '\n' {
			from++
			if n := len(d.restRead); n > 0 && n < MaxRest {
				d.restRead = append(d.restRead, '\n')
			}
			d.pos, d.lf, d.cr, d.high, d.restFrom = from, from, from, from, from
		}
	}
	if !d.pastBOM {
		from = 0
		if head := d.buf[:d.end]; bytes.HasPrefix(head, bom) {
			from = len(bom)
		} else if bytes.HasPrefix(bom, head) {
			d.lf, d.cr, d.high = d.end, d.end, d.end // this may become a byte order mark
			return
		}
		d.pastBOM = true
		d.pos, d.lf, d.cr, d.high, d.restFrom = from, from, from, from, from
	}
	d.lf = d.find('\n', from) // there is none before from, or d would not have read more
	d.cr = d.find('\r', from)
	if d.high == from {
		d.high = from + asciiLen(d.buf[from:d.end])
	}
}

// readSome reads at least one byte from r, or returns an error. After 100 reads of
// nothing, the error is io.ErrNoProgress.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for range 100 {
		if n, err = r.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// saveRest saves the consumed part of the rest, before the buffer moves.
func (d *Decoder) saveRest() {
	if read := d.buf[d.restFrom:d.pos]; len(read) > 0 && len(d.restRead) < MaxRest {
		d.restRead = append(d.restRead, read[:min(len(read), MaxRest-len(d.restRead))]...)
	}
	d.restFrom = d.pos
}

// dropRest empties the rest, because all up to pos has been returned.
func (d *Decoder) dropRest() {
	d.restFrom, d.junk = d.pos, false
	if len(d.restRead) > 0 {
		d.restRead = d.restRead[:0]
	}
}

// fail stops the decoder: it drops the buffered bytes, makes every later read return err,
// and returns err.
func (d *Decoder) fail(err error) error {
	d.err = err
	d.pos, d.lf, d.cr, d.high = d.end, d.end, d.end, d.end
	return err
}
