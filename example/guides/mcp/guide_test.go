package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The guide shows transport.go in its whole, and parts of session.go, as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	t.Parallel()
	guide := read(t, "../../../docs/guides/mcp.md")
	transport := read(t, "transport.go")
	assert.Less(t, strings.Count(transport, "\n"), 200)
	program := transport + read(t, "session.go")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(guide, -1)
	require.Len(t, blocks, 3)
	assert.Equal(t, transport, blocks[0][1], "the guide must show transport.go as it is")
	for _, block := range blocks {
		assert.Contains(t, program, block[1], "the program does not have:\n%s", block[1])
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}
