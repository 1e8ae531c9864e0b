package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The guide shows follow.go in its whole, and parts of the other files, as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := read(t, "../../../docs/guides/follow.md")
	shows := strings.Contains(guide, "```go\n"+read(t, "follow.go")+"```\n")
	assert.True(t, shows, "the guide must show follow.go as it is")

	var program strings.Builder
	for _, file := range []string{"follow.go", "store.go", "file.go"} {
		program.WriteString(unindent(read(t, file)))
	}
	blocks := regexp.MustCompile("(?s)```(?:go|sql)\n(.*?)```").FindAllStringSubmatch(guide, -1)
	require.Len(t, blocks, 6)
	for _, block := range blocks {
		has := strings.Contains(program.String(), unindent(block[1]))
		assert.True(t, has, "the program does not have:\n%s", block[1])
	}
}

// unindent returns text without the tabs at the beginning of each line.
func unindent(text string) string {
	return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(text, "")
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}
