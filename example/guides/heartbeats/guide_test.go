package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The guide shows parts of the program as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	var program strings.Builder
	for _, file := range []string{"main.go", "page.html"} {
		program.WriteString(unindent(read(t, file)))
	}
	blocks := regexp.MustCompile("(?s)```(?:go|js)\n(.*?)```").FindAllStringSubmatch(read(t, "../../../docs/guides/heartbeats.md"), -1)
	require.Len(t, blocks, 2)
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
