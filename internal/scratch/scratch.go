// Package scratch has the buffers that texts are made in before they are sent or kept. They
// come from one pool. A function of the application's can write into one.
package scratch

import "sync"

// Buffer is a buffer from the pool.
type Buffer struct {
	B []byte // empty at first

	limit   int      // what Fill may append; 0: no limit
	from    int      // the length of B when Fill was called
	failed  error    // the first error of a Write; nil: none
	writers []writer // not lent yet
}

var pool sync.Pool

// Get returns an empty buffer.
func Get() *Buffer {
	if b, ok := pool.Get().(*Buffer); ok {
		b.B = b.B[:0]
		return b
	}
	return &Buffer{B: make([]byte, 0, 512)}
}

// Put takes b back, unless a large text has made it grow. Nothing may use b afterwards.
func (b *Buffer) Put() {
	if cap(b.B) <= 64<<10 {
		pool.Put(b)
	}
}
