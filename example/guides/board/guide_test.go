package main

import (
	"testing"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows parts of the program as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := testkit.ReadGuide(t, "../../../docs/guides/html.md", 7)
	guide.RequireParts(t, "board.go", "server.go", "html.tmpl")
}
