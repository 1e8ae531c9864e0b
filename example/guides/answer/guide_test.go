package main

import (
	"testing"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows parts of the program as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := testkit.ReadGuide(t, "../../../docs/guides/answer.md", 7)
	guide.RequireParts(t, "model.go", "server.go", "page.html", "events.js")
	guide.RequireWhole(t, "nginx", testkit.ReadFile(t, "nginx.conf"))
}
