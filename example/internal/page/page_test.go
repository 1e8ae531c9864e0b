package page

import (
	"io/fs"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The pages load nothing from other servers, and have no code or styles that their policy
// forbids.
func TestPageIsItsOwn(t *testing.T) {
	foreign := regexp.MustCompile(`https?://[^\s"'<>)]+|\sstyle=|\son[a-z]+=|<style|<script>|innerHTML|insertAdjacentHTML|eval\(`)
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		for _, found := range foreign.FindAllString(string(text), -1) {
			assert.Equal(t, "http://www.w3.org/2000/svg", found, path)
		}
		return err
	})
	require.NoError(t, err)
}
