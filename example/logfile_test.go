package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLogFileAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "folder", "access.log")
	l := reopen(t, path)
	size, grown := l.state()
	assert.Zero(t, size)

	require.NoError(t, l.append("one"))
	assertClosed(t, grown)
	size, grown = l.state()
	assert.EqualValues(t, 4, size)

	// Another program may append to the same file.
	other := reopen(t, path)
	require.NoError(t, other.append("two"))
	require.NoError(t, l.append("three"))
	assertClosed(t, grown)
	size, _ = l.state()
	assert.EqualValues(t, len("one\ntwo\nthree\n"), size)
	assert.Equal(t, "one\ntwo\nthree\n", read(t, path))

	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Zero(t, info.Mode().Perm()&0o077, "only the owner may read the file")
}

func TestLogFileFinishesATornLine(t *testing.T) {
	for name, test := range map[string]struct{ found, want string }{
		"nothing":      {"", ""},
		"whole lines":  {"one\ntwo\n", "one\ntwo\n"},
		"torn":         {"one\ntw", "one\ntw (cut off here)\n"},
		"torn at once": {"o", "o (cut off here)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t, test.found)
			assert.Equal(t, test.want, read(t, l.file.Name()))
			require.NoError(t, l.append("next"))
			assert.Equal(t, test.want+"next\n", read(t, l.file.Name()))
		})
	}
}

func TestLogFileFinishesALineThatFailed(t *testing.T) {
	l := newLog(t, "one\n")
	path := l.file.Name()
	// This is what a write leaves that fails in the middle, as on a full disk.
	_, err := l.file.WriteString("tw")
	require.NoError(t, err)
	l.torn = true
	require.NoError(t, l.append("three"))
	require.NoError(t, l.append("four"))
	assert.Equal(t, "one\ntw (cut off here)\nthree\nfour\n", read(t, path))

	require.NoError(t, l.close())
	require.Error(t, l.append("five"))
}

func TestLogFileRefusesWhatIsNoFile(t *testing.T) {
	_, err := openLogFile(t.TempDir())
	require.Error(t, err)
}

func TestLastLines(t *testing.T) {
	long := strings.Repeat("x", 20_000) + "\n" // longer than a chunk
	for name, test := range map[string]struct {
		text string
		n    int
		want string
	}{
		"empty":              {"", 3, ""},
		"fewer":              {"1\n2\n", 3, "1\n2\n"},
		"as many":            {"1\n2\n3\n", 3, "1\n2\n3\n"},
		"more":               {"1\n2\n3\n4\n", 3, "2\n3\n4\n"},
		"empty lines":        {"1\n\n\n\n", 3, "\n\n\n"},
		"over chunks":        {long + long + long + long, 2, long + long},
		"at a chunk's start": {"1\n" + strings.Repeat("y", 16<<10-3) + "\n2\n", 2, strings.Repeat("y", 16<<10-3) + "\n2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t, test.text)
			at, err := l.lastLines(test.n)
			require.NoError(t, err)
			assert.Equal(t, len(test.text)-len(test.want), int(at))
		})
	}
}

func assertClosed(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	default:
		assert.Fail(t, "the channel is still open")
	}
}
