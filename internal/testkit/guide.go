package testkit

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Guide is a page of documentation that shows the code of a program.
type Guide struct {
	text   string
	blocks []string // of code, without indentation
}

var (
	codeBlock   = regexp.MustCompile("(?s)```(?:go|sql|js|html)\n(.*?)```")
	indentation = regexp.MustCompile(`(?m)^\t+`)
)

// ReadGuide returns the guide in file, which shows as many blocks of code.
func ReadGuide(t testing.TB, file string, blocks int) *Guide {
	t.Helper()
	g := &Guide{text: ReadFile(t, file)}
	for _, match := range codeBlock.FindAllStringSubmatch(g.text, -1) {
		g.blocks = append(g.blocks, indentation.ReplaceAllString(match[1], ""))
	}
	require.Len(t, g.blocks, blocks, "blocks of code in %s", file)
	return g
}

// Except takes the block of code that begins with prefix from those that are compared.
func (g *Guide) Except(t testing.TB, prefix string) {
	t.Helper()
	i := slices.IndexFunc(g.blocks, func(block string) bool { return strings.HasPrefix(block, prefix) })
	require.GreaterOrEqual(t, i, 0, "no block begins with %q", prefix)
	g.blocks = slices.Delete(g.blocks, i, i+1)
}

// RequireWhole requires that the guide shows code, of the language lang, as it is.
func (g *Guide) RequireWhole(t testing.TB, lang, code string) {
	t.Helper()
	shows := strings.Contains(g.text, "```"+lang+"\n"+code+"```\n") // assert.Contains would print the guide
	assert.True(t, shows, "the guide must show this as it is:\n%s", code)
}

// RequireParts requires that each block of code is in one of the files, but for its indentation.
func (g *Guide) RequireParts(t testing.TB, files ...string) {
	t.Helper()
	var program strings.Builder
	for _, file := range files {
		program.WriteString(indentation.ReplaceAllString(ReadFile(t, file), ""))
	}
	for _, block := range g.blocks {
		has := strings.Contains(program.String(), block)
		assert.True(t, has, "the program does not have:\n%s", block)
	}
}

// ReadFile returns the text of file.
func ReadFile(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}
