package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The guide shows a part of node.go as it is.
func TestGuideShowsTheProgram(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guides/nodes.md")
	require.NoError(t, err)
	node, err := os.ReadFile("node.go")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```go\n(server, err.*?)```").FindSubmatch(guide)
	require.NotNil(t, block)
	unindent := func(text []byte) string { return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(string(text), "") }
	has := strings.Contains(unindent(node), unindent(block[1]))
	assert.True(t, has, "node.go does not have:\n%s", block[1])
}
