package event

// This file collects the fields of a block while its lines are read. It has no knowledge
// of lines or of the stream.

import "time"

// block represents the fields that the lines since the last blank line have set.
type block struct {
	id, name, data, comment value
	retry                   time.Duration // 0: no retry field
	valueBytes              int           // total size of all values, including those replaced since
}

// value represents the value of a field. While all of the value is in one piece in the
// decoder's buffer, it is a view of the buffer, and nothing is copied. Otherwise it is a
// copy. A view is stored as two offsets, because a slice would cost a write barrier for
// each line.
type value struct {
	state    valueState
	from, to int    // the bounds of a view in the buffer
	copy     []byte // storage for a copy, reused by later blocks
}

type valueState uint8

const (
	unset valueState = iota
	isView
	isCopy
)

// reset removes all fields, to begin a new block.
func (b *block) reset() {
	b.retry, b.valueBytes = 0, 0
	b.id.reset()
	b.name.reset()
	b.data.reset()
	b.comment.reset()
}

// copyViews turns all views of buf into copies. It must be called before buf changes.
func (b *block) copyViews(buf []byte) {
	b.id.copyView(buf)
	b.name.copyView(buf)
	b.data.copyView(buf)
	b.comment.copyView(buf)
}

// resetsID reports whether the block has an empty id field.
func (b *block) resetsID() bool { return b.id.state != unset && b.id.len() == 0 }

// isEmpty reports whether no field is set. A comment is not a field.
func (b *block) isEmpty() bool {
	return b.id.state == unset && b.name.state == unset && b.data.state == unset && b.retry == 0
}

// size returns the size of the event so far, in bytes: the sum of its fields.
func (b *block) size() int {
	return b.id.len() + b.name.len() + b.data.len() + b.comment.len()
}

// reset makes v unset, and keeps its storage for reuse unless the storage is far larger
// than the value was.
func (v *value) reset() {
	if cap(v.copy) > largeBuffer {
		v.shrinkTo(v.len())
	}
	v.state = unset
}

// shrinkTo releases v's storage if it is large, and n, the size of a value, is less than
// a quarter of it.
func (v *value) shrinkTo(n int) {
	if cap(v.copy) > largeBuffer && n < cap(v.copy)/4 {
		v.copy = nil
	}
}

// len returns the size of the value, which is 0 if v is unset.
func (v *value) len() int {
	switch v.state {
	case isView:
		return v.to - v.from
	case isCopy:
		return len(v.copy)
	}
	return 0
}

// bytes returns the value, or nil if v is unset. Buf is the buffer that a view refers to.
func (v *value) bytes(buf []byte) []byte {
	switch v.state {
	case isView:
		return buf[v.from:v.to]
	case isCopy:
		return v.copy
	}
	return nil
}

// setView makes v a view of the buffer's bytes from:to.
func (v *value) setView(from, to int) {
	v.state, v.from, v.to = isView, from, to
}

// setCopy makes v a copy of text.
func (v *value) setCopy(text []byte) {
	v.state, v.copy = isCopy, append(v.copy[:0], text...)
}

// addLine appends text as a further line to v, which must be set.
func (v *value) addLine(buf, text []byte) {
	v.copyView(buf)
	v.copy = append(append(v.copy, '\n'), text...)
}

// copyView turns v into a copy if it is a view of buf.
func (v *value) copyView(buf []byte) {
	if v.state == isView {
		v.setCopy(buf[v.from:v.to])
	}
}
