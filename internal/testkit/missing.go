package testkit

import (
	"os"
	"testing"
)

// Missing skips the test because the machine lacks what it needs, and says what that is. With
// SSE_NO_SKIP=1 in the environment it fails the test instead, so that a run can require that
// nothing is skipped.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("SSE_NO_SKIP") == "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}
