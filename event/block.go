package event

import "time"

// block is what the lines since the last blank one have set.
type block struct {
	id, name, data, comment value
	retry                   time.Duration // 0: no such field
	taken                   int           // bytes of values, those replaced included
}

// value is the value of a field. As long as all of it stands in one piece in the
// decoder's buffer it is a view of that, and nothing is copied; else it is a copy.
// A view is kept as two offsets: slices would cost a write barrier for each line.
type value struct {
	state    valueState
	from, to int    // of a view
	copy     []byte // storage, reused over blocks
}

type valueState uint8

const (
	unset valueState = iota
	isView
	isCopy
)

// reset begins a new block.
func (b *block) reset() {
	b.retry, b.taken = 0, 0
	b.id.reset()
	b.name.reset()
	b.data.reset()
	b.comment.reset()
}

// keep makes copies of views of buf, which is about to change.
func (b *block) keep(buf []byte) {
	b.id.keep(buf)
	b.name.keep(buf)
	b.data.keep(buf)
	b.comment.keep(buf)
}

func (b *block) resetsID() bool { return b.id.state != unset && b.id.len() == 0 }

// size is the size of the event so far.
func (b *block) size() int {
	return b.id.len() + b.name.len() + b.data.len() + b.comment.len()
}

func (v *value) reset() {
	if cap(v.copy) > keptBuffer {
		v.trim(v.len())
	}
	v.state = unset
}

// trim gives large storage back if the value is of size n, which is small.
func (v *value) trim(n int) {
	if cap(v.copy) > keptBuffer && n < cap(v.copy)/4 {
		v.copy = nil
	}
}

func (v *value) len() int {
	switch v.state {
	case isView:
		return v.to - v.from
	case isCopy:
		return len(v.copy)
	}
	return 0
}

func (v *value) bytes(buf []byte) []byte {
	switch v.state {
	case isView:
		return buf[v.from:v.to]
	case isCopy:
		return v.copy
	}
	return nil
}

// setView sets the value to buf[from:to].
func (v *value) setView(from, to int) {
	v.state, v.from, v.to = isView, from, to
}

// setCopy sets the value to a copy of text.
func (v *value) setCopy(text []byte) {
	v.state, v.copy = isCopy, append(v.copy[:0], text...)
}

// addLine appends text as a further line to a value that is set.
func (v *value) addLine(buf, text []byte) {
	v.keep(buf)
	v.copy = append(append(v.copy, '\n'), text...)
}

func (v *value) keep(buf []byte) {
	if v.state == isView {
		v.setCopy(buf[v.from:v.to])
	}
}
