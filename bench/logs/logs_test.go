//go:build linux

package main

import (
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

func TestMain(m *testing.M) {
	if isChild() {
		runChild()
		return
	}
	os.Exit(m.Run())
}

var tinySizes = sizes{
	paced: 3, busy: 10, nodes: 2, flood: 20 * time.Millisecond, clients: 5,
	delivered: 50, cold: 1100, returning: 600, transactions: 5,
}

// TestMeasure runs the program with tiny sizes, and checks that each log has its figures.
func TestMeasure(t *testing.T) {
	dir := os.TempDir()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		dir = "/dev/shm" // it needs no disk
	}
	stream := []int{4, 2, 2, 3, 4, 0} // how many figures there are in each section
	for _, group := range []struct {
		logs string
		rows map[string][]int
	}{
		{"^memory|^bolt", map[string][]int{"memory": {4, 2, 1, 2, 1, 0}, "bolt": {4, 2, 2, 3, 1, 0}}},
		{"^memory|^NATS", map[string][]int{"NATS, synced": stream, "NATS": stream, "NATS, three servers": stream}},
		{"^memory|^Redis", map[string][]int{"Redis, everysec": stream, "Redis, always": stream}},
		{"^memory|^Postgres", map[string][]int{"Postgres": {4, 2, 2, 3, 4, 7}}},
	} {
		t.Run(group.logs, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			o := options{sizes: tinySizes, rounds: 1, which: regexp.MustCompile(group.logs), dir: dir, progress: t.Output()}
			page, err := measure(t.Context(), o)
			if missing, ok := errors.AsType[*missingError](err); ok {
				testkit.Missing(t, missing.Error())
			}
			require.NoError(t, err)
			sections := strings.Split(page, "\n## ")[1:]
			for row, figures := range group.rows {
				for i, s := range o.sizes.sections() {
					got := 0
					if at := slices.IndexFunc(sections, func(text string) bool { return strings.HasPrefix(text, s.title) }); at >= 0 {
						got = countFigures(sections[at], row)
					}
					assert.Equal(t, figures[i], got, "%s: %s\n%s", s.title, row, page)
				}
			}
		})
	}
}

// countFigures returns how many figures a row of a table has.
func countFigures(section, row string) int {
	_, rest, _ := strings.Cut(section, "\n  "+row+"  ")
	line, _, _ := strings.Cut(rest, "\n")
	return len(strings.Fields(strings.ReplaceAll(line, "–", "")))
}

func TestTrialEndsAtFailNow(t *testing.T) {
	var order []string
	err := attempt(t.Context(), func(t *trial) {
		t.Cleanup(func() { order = append(order, "first") })
		t.Cleanup(func() { order = append(order, "second"); require.NoError(t, errors.New("late")) })
		require.NoError(t, errors.New("early"))
		order = append(order, "never")
	})
	require.Equal(t, []string{"second", "first"}, order)
	require.ErrorContains(t, err, "early")
	require.ErrorContains(t, err, "late")
}

func TestWrap(t *testing.T) {
	word := strings.Repeat("x", 60)
	assert.Equal(t, "a "+word+"\n"+word+" b\n\n", wrap("a "+word+"  "+word+" b"))
}
