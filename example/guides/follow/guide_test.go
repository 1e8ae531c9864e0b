package main

import (
	"testing"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows follow.go in its whole, and parts of the other files, as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := testkit.ReadGuide(t, "../../../docs/guides/follow.md", 6)
	guide.RequireWhole(t, "go", testkit.ReadFile(t, "follow.go"))
	guide.RequireParts(t, "follow.go", "store.go", "file.go")
}
