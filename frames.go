package sse

import "sync"

// frames are the buffers that events are encoded in.
var frames framePool

type framePool struct{ pool sync.Pool }

type frame struct{ b []byte }

func (p *framePool) get() *frame {
	if f, ok := p.pool.Get().(*frame); ok {
		f.b = f.b[:0]
		return f
	}
	return &frame{make([]byte, 0, 512)}
}

// put takes f back, unless a large event has made it grow.
func (p *framePool) put(f *frame) {
	if cap(f.b) <= 64<<10 {
		p.pool.Put(f)
	}
}
