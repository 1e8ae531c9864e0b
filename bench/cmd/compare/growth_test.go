//go:build linux

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chi-sse/sse/bench/internal/report"
)

// costs are the points of f.
func costs(f func(n float64) float64) (d dots) {
	for n := 100.0; n <= 1e6; n *= 10 {
		d.x, d.y = append(d.x, n), append(d.y, f(n))
	}
	return d
}

func TestFit(t *testing.T) {
	for name, c := range map[string]struct {
		f                   func(n float64) float64
		exponent, deviation float64
	}{
		"linear":    {func(n float64) float64 { return 3 * n }, 1, 0},
		"quadratic": {func(n float64) float64 { return n * n / 7 }, 2, 0},
		"constant":  {func(float64) float64 { return 42 }, 0, 0},
		"n log n":   {func(n float64) float64 { return n * math.Log(n) }, 1.118, 0.078},
	} {
		p, ok := fit(costs(c.f))
		if !ok || math.Abs(p.exponent-c.exponent) > 0.005 || math.Abs(p.deviation-c.deviation) > 0.01 {
			t.Errorf("%s: got %+v, %v", name, p, ok)
		}
	}
	for _, d := range []dots{{}, {[]float64{5}, []float64{1}}, {[]float64{5, 5}, []float64{1, 2}}} {
		if p, ok := fit(d); ok {
			t.Errorf("%v: got %+v", d, p)
		}
	}
}

func TestLaw(t *testing.T) {
	rows := []report.Row{
		{Samples: []report.Samples{{2}}}, {Samples: []report.Samples{{5}}}, {}, {Samples: []report.Samples{{3, 2.5, 2}}},
	}
	sizes := []int{100, 1000, 5000, 10_000}
	c := curve{what: "the cost", unit: "µs", each: true}
	const want = "the cost grows as n^1.05 from 100 to 10,000 (largest deviation from the fit 71 %), for one from 2.00 to 2.50 µs: 1.25×"
	if got := c.law(c.dots(sizes, rows)); got != want {
		t.Errorf("got %q", got)
	}
	c = curve{what: "the cost", from: 5000}
	if got := c.law(c.dots(sizes, rows)); got != "the cost: too few points" {
		t.Errorf("got %q", got)
	}
}

// The smallest of each series is measured, and all that is written is well formed.
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
					t.Errorf("%s: no column %d", c.what, c.column)
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
	for _, want := range []string{"`compare -growth`", "events/s", "grows as n^", "(results/growth-publishers.svg)"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
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
