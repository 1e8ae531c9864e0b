//go:build linux

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each series can be measured at its smallest size, and gives a figure for each column.
func TestGrowth(t *testing.T) {
	for _, s := range growthSeries(true) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := s.workload(s.sizes[0])
			for _, name := range s.libraries {
				out, err := w.run(t.Context(), find(t, name))
				if err != nil || out.trouble != "" {
					t.Fatalf("%s: %v %s", name, err, out.trouble)
				}
				if len(out.figures) != len(w.columns) {
					t.Errorf("%s: %d figures for %d columns", name, len(out.figures), len(w.columns))
				}
			}
			for _, c := range s.curves {
				if c.column >= len(w.columns) {
					t.Errorf("%s: column %d does not exist", c.what, c.column)
				}
			}
		})
	}
}

func TestGrowthIsWritten(t *testing.T) {
	folder := t.TempDir()
	err := growth(t.Context(), growthOptions{short: true, series: "publishers", results: folder, command: "compare -growth"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "GROWTH.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"`compare -growth`", "events/s", " n^", "(results/growth-publishers.svg)"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("GROWTH.md lacks %q:\n%s", want, text)
		}
	}
	plot, err := os.Open(filepath.Join(folder, "results", "growth-publishers.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer plot.Close()
	for d := xml.NewDecoder(plot); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
