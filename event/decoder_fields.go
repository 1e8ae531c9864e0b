package event

import (
	"math"
	"slices"
	"time"
)

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
