package main

import (
	"testing"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows parts of the program as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := testkit.ReadGuide(t, "../../../docs/guides/jobs.md", 9)
	guide.RequireParts(t, "jobs.go", "store.go", "server.go", "page.html")
}
