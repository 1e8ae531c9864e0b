// Package report turns the figures of repeated runs into tables and plots.
package report

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Samples are the figures of one thing over several runs.
type Samples []float64

// MarshalJSON writes the samples as strings, for JSON has no infinity.
func (s Samples) MarshalJSON() ([]byte, error) {
	texts := make([]string, len(s))
	for i, v := range s {
		texts[i] = strconv.FormatFloat(v, 'g', 5, 64)
	}
	return json.Marshal(texts)
}

// UnmarshalJSON reads what MarshalJSON writes.
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

// Median is the middle of the samples, or the mean of the two in the middle; NaN if
// there are none.
func (s Samples) Median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 || sorted[mid-1] == sorted[mid] { // the same infinity, perhaps
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// Range is the least and the greatest of the samples, of which there must be one.
func (s Samples) Range() (low, high float64) { return slices.Min(s), slices.Max(s) }

// Percentile is the figure that the fraction p of all sorted figures does not exceed
// (the nearest rank), where missing more of them are infinite. It is NaN if there
// are none.
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

// Format writes v with three significant digits.
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

func magnitude(v float64) float64 { return math.Floor(math.Log10(math.Abs(v))) }

// group puts commas into the digits before the point.
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
