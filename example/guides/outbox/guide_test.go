package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows log.go in its whole, and parts of the other files, as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	log := testkit.ReadFile(t, "log.go")
	assert.Less(t, strings.Count(log, "\n"), 100)
	guide := testkit.ReadGuide(t, "../../../docs/guides/outbox.md", 7)
	guide.RequireWhole(t, "go", log)
	guide.RequireWhole(t, "sql", afterRestore)
	guide.Except(t, "DELETE") // the tests delete all but fewer rows
	guide.RequireParts(t, "log.go", "main.go", "server.go", "store.go", "outbox_test.go")
}
