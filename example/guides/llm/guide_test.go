package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The guide shows the files of the APIs in their whole, and parts of llm.go, as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	t.Parallel()
	guide := read(t, "../../../docs/guides/llm.md")
	openAI, anthropic := read(t, "openai.go"), read(t, "anthropic.go")
	assert.Less(t, strings.Count(openAI, "\n"), 100)
	assert.Less(t, strings.Count(anthropic, "\n"), 120)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(guide, -1)
	require.Len(t, blocks, 5)
	assert.Equal(t, openAI, blocks[1][1], "the guide must show openai.go as it is")
	assert.Equal(t, anthropic, blocks[2][1], "the guide must show anthropic.go as it is")
	llm := read(t, "llm.go")
	for _, i := range []int{0, 3, 4} {
		assert.Contains(t, llm, blocks[i][1], "llm.go does not have:\n%s", blocks[i][1])
	}
	request := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(guide)
	assert.True(t, json.Valid([]byte(request[1])))
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}
