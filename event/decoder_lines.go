package event

// This file divides the buffer into lines, and finds the blank lines that end a block.
// next is the decoder's main loop, and plainLines its fast path.

import (
	"bytes"
	"slices"
)

// next reads up to the end of the next block that Decode is to return.
func (d *Decoder) next() error {
	d.block.reset()
	d.dropRest()
	for {
		if d.lf < d.cr && d.lf < d.high {
			if complete, err := d.plainLines(); complete || err != nil {
				return err
			}
		}
		start, stop := d.pos, d.lf
		ascii := d.high >= stop
		if stop < d.cr { // the line ends with an LF, and has no CR before it
			d.pos = stop + 1
			d.lf = nextLF(d.buf[:d.end], stop+1)
		} else if stop = d.cr; stop < d.end {
			ascii = d.high >= stop
			d.consumeCR()
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
			d.skipBlock()
			continue
		}
		if err := d.field(start, stop, ascii); err != nil {
			return d.fail(err)
		}
	}
}

// plainLines processes the buffered lines as long as they are ASCII and end with an LF. It
// reports whether it has reached the end of a block that Decode is to return, and stops
// there. It is a faster version of the loop in next, for what most streams contain: it
// keeps the positions of the lines in registers, and sets the three most common fields, in
// the form that most servers write, without a call. An event of three short lines takes an
// eighth less time.
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
			d.pos = pos
			d.skipBlock()
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
			d.pos = pos
			if err := d.field(start, stop, true); err != nil {
				return false, d.fail(err)
			}
			continue
		}
		v.setView(start+n, stop)
		if b.valueBytes += stop - start - n; b.valueBytes > d.maxEvent && b.size() > d.maxEvent {
			return false, d.fail(&TooLargeError{"event", d.maxEvent})
		}
	}
	d.pos, d.lf = pos, lf
	return false, nil
}

// skipBlock ends a block that Decode does not return.
func (d *Decoder) skipBlock() {
	d.block.reset()
	if !d.junk {
		d.dropRest()
	}
}

// consumeCR consumes the line that ends at d.cr, and the LF that may belong to the CR.
func (d *Decoder) consumeCR() {
	d.pos = d.cr + 1
	if d.pos == d.end { // the CR ends the line now; the next read shows whether an LF belongs to it
		d.cr, d.skipLF = d.end, true
		return
	}
	d.cr = d.find('\r', d.pos)
	if d.lf == d.pos {
		d.pos++
		d.lf = nextLF(d.buf[:d.end], d.pos)
	}
}

// nextLF returns the index of the first LF in buf at or after from, or len(buf) if there
// is none. At the end of each block the LF is at from itself, so that is checked first.
func nextLF(buf []byte, from int) int {
	if from < len(buf) && buf[from] == '\n' {
		return from
	}
	if i := bytes.IndexByte(buf[from:], '\n'); i >= 0 {
		return from + i
	}
	return len(buf)
}

// find returns the index of the first c in d.buf[from:d.end], or d.end if there is none.
func (d *Decoder) find(c byte, from int) int {
	if i := bytes.IndexByte(d.buf[from:d.end], c); i >= 0 {
		return from + i
	}
	return d.end
}
