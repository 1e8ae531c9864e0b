package main

import (
	"testing"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows parts of the program as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := testkit.ReadGuide(t, "../../../docs/guides/shutdown.md", 5)
	guide.RequireParts(t, "main.go", "server.go", "routes.go")
}
