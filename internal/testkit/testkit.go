// Package testkit contains what the tests of several packages need: waiting with a
// limit, looking for goroutines that were left running, servers for each version of
// HTTP, listeners for a synctest bubble, and logs that a test can read.
//
// Only tests import it. It knows nothing of the packages under test, so that the tests of
// each of them, package client included, can use it.
//
// Every wait in this package ends after [Patience] at the latest and then fails the test.
package testkit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Patience is how long a test waits for something that must happen. Nothing takes that long,
// even on a busy machine, so a test that waits in vain has found a fault.
const Patience = 20 * time.Second

// Receive returns the next value of c. It fails the test if none comes in time.
func Receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(Patience):
		require.FailNow(t, "nothing was received within "+Patience.String())
		panic("unreachable")
	}
}

// Within calls f. It fails the test if f does not return in time.
func Within(t testing.TB, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(Patience):
		require.FailNow(t, "the function has not returned within "+Patience.String())
	}
}

// Eventually calls f again and again until it returns true. It fails the test if f does not
// do so in time; the failure message names what the test was waiting for.
func Eventually(t testing.TB, f func() bool, what string) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(t, "timed out after "+Patience.String()+" waiting for: "+what)
		}
	}
}

// NoError checks that err is nil and reports whether it is. Unlike require.NoError it lets
// the calling goroutine go on, as is necessary in handlers and in every goroutine that the
// test has started: FailNow may be called only by the goroutine that runs the test.
func NoError(t testing.TB, err error) bool {
	t.Helper()
	return assert.NoError(t, err)
}

// ErrorIs checks that errors.Is(err, target). Like [NoError] it lets the calling goroutine
// go on. The message is as for assert.ErrorIs.
func ErrorIs(t testing.TB, err, target error, message ...any) {
	t.Helper()
	assert.ErrorIs(t, err, target, message...)
}
