// Package report formats the figures of repeated runs as tables and plots.
package report

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Samples holds the figures that several runs gave for one quantity.
type Samples []float64

// MarshalJSON encodes the samples as strings of five significant digits, because JSON
// has no infinity.
func (s Samples) MarshalJSON() ([]byte, error) {
	texts := make([]string, len(s))
	for i, v := range s {
		texts[i] = strconv.FormatFloat(v, 'g', 5, 64)
	}
	return json.Marshal(texts)
}

// UnmarshalJSON decodes what MarshalJSON writes. It returns an error if data is not an
// array of strings that hold numbers.
func (s *Samples) UnmarshalJSON(data []byte) error {
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		return fmt.Errorf("samples: %w", err)
	}
	*s = make(Samples, len(texts))
	for i, text := range texts {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("samples: %w", err)
		}
		(*s)[i] = v
	}
	return nil
}

// Median returns the middle sample, or the mean of the two in the middle if their number
// is even. Without samples it returns NaN.
func (s Samples) Median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 || sorted[mid-1] == sorted[mid] { // both may be infinite
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// Range returns the lowest and the highest sample. It panics if there are none.
func (s Samples) Range() (low, high float64) { return slices.Min(s), slices.Max(s) }

// Percentile returns the p-th percentile by the nearest-rank method, for p from 0 to 1.
// sorted holds the finite figures in ascending order, and missing counts further figures
// that are infinite. It returns +Inf if the rank falls on an infinite figure, and NaN if
// there are no figures at all.
func Percentile(sorted []int64, missing int, p float64) float64 {
	n := len(sorted) + missing
	if n == 0 {
		return math.NaN()
	}
	rank := max(1, int(math.Ceil(p*float64(n))))
	if rank > len(sorted) {
		return math.Inf(1)
	}
	return float64(sorted[rank-1])
}

// Format returns v with three significant digits, at most three decimals, and commas
// between thousands. It returns "–" for NaN, "never" for an infinity, and "<0.001" for
// what is smaller than that but not 0.
func Format(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case math.IsInf(v, 0):
		return "never"
	case v == 0:
		return "0"
	case math.Abs(v) < 0.001:
		return "<0.001"
	}
	scale := math.Pow(10, 2-magnitude(v))
	v = math.Round(v*scale) / scale
	return group(strconv.FormatFloat(v, 'f', int(min(3, max(0, 2-magnitude(v)))), 64))
}

// magnitude returns the exponent of the power of ten at or below |v|.
func magnitude(v float64) float64 { return math.Floor(math.Log10(math.Abs(v))) }

// group puts a comma between each three digits before the decimal point.
func group(s string) string {
	whole, fraction, ok := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if ok {
		return whole + "." + fraction
	}
	return whole
}
