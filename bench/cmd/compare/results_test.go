//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chi-sse/sse/bench/internal/library"
	"github.com/chi-sse/sse/bench/internal/report"
)

func TestAFurtherRunSaysWhatItHasReproduced(t *testing.T) {
	folder := t.TempDir()
	lib := find(t, "fake right")
	w := encode(small, 10*time.Millisecond)
	for i, want := range []string{"", "0 of 2 medians differ by no more"} {
		c := &comparison{options: options{libraries: []library.Library{lib}, workloads: []workload{w}, reps: 1}, began: time.Now()}
		rate := float64(1000 * (i + 1))
		c.outcome = map[cell]*record{{w.name, lib.Name}: {samples: []report.Samples{{rate}, {rate}, {1}}}}
		if err := c.write(folder, c.tables()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(folder, "RESULTS.md"))
		if err != nil {
			t.Fatal(err)
		}
		if again := strings.Contains(string(text), "Compared with the run before"); again != (want != "") || !strings.Contains(string(text), want) {
			t.Errorf("run %d:\n%s", i+1, text)
		}
		if !strings.Contains(string(text), "(results/encode-100.svg)") {
			t.Error("RESULTS.md has no link to the plot")
		}
	}
	if err := os.WriteFile(filepath.Join(folder, plotFolder, figureFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &comparison{options: options{reps: 1}}
	if err := c.write(folder, nil); err == nil || !strings.Contains(err.Error(), "figures of an earlier run") {
		t.Errorf("figures that are not JSON: got %v", err)
	}
}

// The committed RESULTS.md and figures.json have the texts that the program writes now.
// Digits are not compared, because figures.json has only five of each figure.
func TestCommittedResultsHaveTheProgramsTexts(t *testing.T) {
	const folder = "../.."
	figures, err := os.ReadFile(filepath.Join(folder, plotFolder, figureFile))
	if err != nil {
		t.Fatal(err)
	}
	var tables []report.Table
	if err := json.Unmarshal(figures, &tables); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(folder, "RESULTS.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), explanation) {
		t.Error("RESULTS.md lacks the explanation")
	}
	opts, err := parseFlags(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range tables {
		table := &tables[i]
		j := slices.IndexFunc(opts.workloads, func(w workload) bool { return w.name == table.Name })
		if j < 0 {
			t.Errorf("workload %q of %s does not exist", table.Name, figureFile)
			continue
		}
		if w := opts.workloads[j]; table.Title != w.title || !slices.Equal(table.Columns, w.columns) {
			t.Errorf("%s: %s has another title or other columns", table.Name, figureFile)
		}
		var b strings.Builder
		if err := writeTable(&b, table); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(withoutDigits(string(page)), withoutDigits(strings.TrimSpace(b.String()))) {
			t.Errorf("RESULTS.md has another text than\n%s", &b)
		}
	}
}

// withoutDigits returns text with a 0 in place of each digit.
func withoutDigits(text string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return '0'
		}
		return r
	}, text)
}
