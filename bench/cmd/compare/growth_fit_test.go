//go:build linux

package main

import (
	"math"
	"strings"
	"testing"

	"github.com/chi-sse/sse/bench/internal/report"
)

// costs returns the points of f at the powers of ten from 100 to 1,000,000.
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
	const want = "the cost|100|10,000|n^1.05|71 %|2.00 µs each|2.50 µs each|1.25×"
	if got := strings.Join(c.growth(c.dots(sizes, rows)), "|"); got != want {
		t.Errorf("got %q", got)
	}
	c = curve{what: "the cost", from: 5000}
	if got := strings.Join(c.growth(c.dots(sizes, rows)), "|"); got != "the cost||||||||too few points" {
		t.Errorf("got %q", got)
	}
}
