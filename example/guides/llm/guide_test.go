package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/chi-sse/sse/internal/testkit"
)

// The guide shows the files of the APIs in their whole, and parts of llm.go, as they are.
func TestGuideShowsTheProgram(t *testing.T) {
	t.Parallel()
	openAI, anthropic := testkit.ReadFile(t, "openai.go"), testkit.ReadFile(t, "anthropic.go")
	assert.Less(t, strings.Count(openAI, "\n"), 100)
	assert.Less(t, strings.Count(anthropic, "\n"), 120)
	const file = "../../../docs/guides/llm.md"
	guide := testkit.ReadGuide(t, file, 5)
	guide.RequireWhole(t, "go", openAI)
	guide.RequireWhole(t, "go", anthropic)
	guide.RequireParts(t, "openai.go", "anthropic.go", "llm.go")
	request := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(testkit.ReadFile(t, file))
	assert.True(t, json.Valid([]byte(request[1])))
}
