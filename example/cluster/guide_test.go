package main

import (
	"testing"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows a part of node.go as it is.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := testkit.ReadGuide(t, "../../docs/guides/nodes.md", 2)
	guide.Except(t, "h, err := hub.Open(") // which the chat of the example does
	guide.RequireParts(t, "node.go")
}
