package event

// This file interprets the lines of a block (WHATWG HTML §9.2.6), and decides at its end
// whether the block is an event.

import (
	"math"
	"slices"
	"time"
)

// field processes the line buf[start:stop], which must not be empty (§9.2.6, "process the
// field"). The caller says whether the line is ASCII. The error is a TooLargeError.
func (d *Decoder) field(start, stop int, ascii bool) error {
	line := d.buf[start:stop]
	if len(line) > d.longLine {
		d.longest = max(d.longest, len(line))
		if len(line) > d.maxLine {
			return &TooLargeError{"line", d.maxLine}
		}
	}
	b := &d.block
	n := 0
	switch line[0] {
	case 'd':
		if n = valueAt(line, "data:"); n > 0 {
			d.add(&b.data, start+n, stop, ascii)
		}
	case 'e':
		if n = valueAt(line, "event:"); n > 0 {
			d.set(&b.name, start+n, stop, ascii)
		}
	case 'i':
		if n = valueAt(line, "id:"); n > 0 && !slices.Contains(line[n:], 0) { // ids are short
			d.set(&b.id, start+n, stop, ascii)
		}
	case 'r':
		if n = valueAt(line, "retry:"); n > 0 {
			if t, ok := parseRetry(line[n:]); ok {
				b.retry = t
				d.retry, d.hasRetry = max(0, t), true
			}
		}
	case ':':
		if n = valueAt(line, ":"); d.Comments {
			d.add(&b.comment, start+n, stop, ascii)
		}
		if !d.junk && b.isEmpty() { // some servers send heartbeats without a blank line
			d.dropRest()
		}
	}
	if n == 0 {
		d.junk = true
	}
	if b.valueBytes > d.maxEvent && b.size() > d.maxEvent {
		return &TooLargeError{"event", d.maxEvent}
	}
	return nil
}

// set replaces v with buf[from:to].
func (d *Decoder) set(v *value, from, to int, ascii bool) {
	d.block.valueBytes += to - from
	v.setView(from, to)
	if !ascii {
		d.replaceInvalid(v)
	}
}

// add sets v to buf[from:to], or appends those bytes as a further line if v is set.
func (d *Decoder) add(v *value, from, to int, ascii bool) {
	if v.state == unset {
		d.set(v, from, to, ascii)
		return
	}
	text := d.buf[from:to]
	if !ascii {
		text, _ = d.validText(from, to)
	}
	d.block.valueBytes += len(text) + 1
	v.addLine(d.buf, text)
}

// valueAt returns the index at which the value begins in a line whose field has the given
// name, or 0 if the field has another name. The name is given with its colon. A line that
// consists of the name alone has an empty value.
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

// parseRetry parses v as a number of milliseconds. It returns RetryImmediately for 0, and
// clamps a number that is too large for a Duration. It reports false if v is empty or
// contains anything but ASCII digits.
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

// dispatch ends the block (§9.2.6, "dispatch the event"). It sets the last event id if
// the block has an id field, and reports whether Decode is to return the block.
func (d *Decoder) dispatch() bool {
	b := &d.block
	if b.id.state != unset {
		d.idIsKnown = false
		d.lastID.shrinkTo(b.id.len())
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
