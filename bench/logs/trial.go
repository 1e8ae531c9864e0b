//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/chi-sse/sse/internal/sinks"
)

// trial is what a test is for code that needs a sinks.TB.
type trial struct {
	ctx      context.Context
	cancel   context.CancelFunc
	mu       sync.Mutex
	errs     []error
	cleanups []func()
}

var _ sinks.TB = (*trial)(nil)

// attempt calls f, which may call FailNow, and then what it has passed to Cleanup, the last first. It
// returns what was reported by Errorf.
func attempt(ctx context.Context, f func(t *trial)) error {
	t := newTrial(ctx)
	t.do(func() { f(t) })
	return t.end()
}

func newTrial(ctx context.Context) *trial {
	t := &trial{}
	t.ctx, t.cancel = context.WithCancel(ctx)
	return t
}

// do calls f, which may call FailNow.
func (t *trial) do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// end cleans up, and returns what was reported by Errorf.
func (t *trial) end() error {
	t.cancel()
	for _, f := range slices.Backward(t.cleanups) {
		t.do(f)
	}
	return t.err()
}

// err returns what was reported by Errorf.
func (t *trial) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.errs...)
}

// Errorf implements sinks.TB.
func (t *trial) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs = append(t.errs, fmt.Errorf(format, args...))
}

// FailNow implements sinks.TB.
func (t *trial) FailNow() { runtime.Goexit() }

// Helper implements sinks.TB.
func (t *trial) Helper() {}

// Cleanup implements sinks.TB.
func (t *trial) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

// Context implements sinks.TB. The context is canceled before the cleanup.
func (t *trial) Context() context.Context { return t.ctx }
