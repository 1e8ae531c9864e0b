package main

import (
	"testing"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows parts of the program as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := testkit.ReadGuide(t, "../../../docs/guides/postgres.md", 6)
	guide.RequireParts(t, "main.go", "server.go", "store.go", "page.html", "postgres_test.go")
}
