package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The guide shows log.go in its whole, and parts of the other files, as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	guide := read(t, "../../../docs/guides/outbox.md")
	log := read(t, "log.go")
	assert.Less(t, strings.Count(log, "\n"), 100)
	shows := strings.Contains(guide, "```go\n"+log+"```\n")
	assert.True(t, shows, "the guide must show log.go as it is")
	shows = strings.Contains(guide, "```sql\n"+afterRestore+"```\n")
	assert.True(t, shows, "the guide must show afterRestore as it is")

	var program strings.Builder
	for _, file := range []string{"log.go", "main.go", "server.go", "store.go", "outbox_test.go"} {
		program.WriteString(unindent(read(t, file)))
	}
	blocks := regexp.MustCompile("(?s)```(?:go|sql)\n(.*?)```").FindAllStringSubmatch(guide, -1)
	require.Len(t, blocks, 7)
	for _, block := range blocks {
		if !strings.HasPrefix(block[1], "DELETE") { // the tests delete all but fewer rows
			has := strings.Contains(program.String(), unindent(block[1]))
			assert.True(t, has, "the program does not have:\n%s", block[1])
		}
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
