package main

import (
	"context"
	"errors"
	"io"
	"time"
)

// writeGrace is how long a write may go on after the user has interrupted the program.
const writeGrace = 200 * time.Millisecond

var errBlocked = errors.New("the reader does not read")

// writer writes to w. A write to a full pipe, or to a terminal that is stopped, blocks until
// somebody reads. The writer gives such a write up shortly after ctx has ended, and fails
// from then on, so that the program can end.
type writer struct {
	ctx    context.Context
	w      io.Writer
	gaveUp bool
}

func newWriter(ctx context.Context, w io.Writer) *writer { return &writer{ctx: ctx, w: w} }

// Write writes p. After it has returned errBlocked, the write may still be under way, so p
// must not be changed.
func (w *writer) Write(p []byte) (int, error) {
	if w.gaveUp {
		return 0, errBlocked
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := w.w.Write(p)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-w.ctx.Done():
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-time.After(writeGrace):
		w.gaveUp = true
		return 0, errBlocked
	}
}
