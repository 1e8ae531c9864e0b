package main

import (
	"testing"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows parts of the program as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := testkit.ReadGuide(t, "../../../docs/guides/origins.md", 3)
	guide.RequireParts(t, "server.go", "page.html")
}
