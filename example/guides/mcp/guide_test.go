package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows transport.go in its whole, and parts of session.go, as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	t.Parallel()
	transport := testkit.ReadFile(t, "transport.go")
	assert.Less(t, strings.Count(transport, "\n"), 200)
	guide := testkit.ReadGuide(t, "../../../docs/guides/mcp.md", 3)
	guide.RequireWhole(t, "go", transport)
	guide.RequireParts(t, "transport.go", "session.go")
}
